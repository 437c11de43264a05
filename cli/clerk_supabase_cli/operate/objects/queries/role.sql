select
    r.rolname, null, '{}'::jsonb,
    case when r.rolname like 'clerk\_sync\_%%' then concat_ws(
        ';',
        'create role ' || quote_ident(r.rolname)
        || case when r.rolcanlogin then ' login' else '' end || case when r.rolinherit then '' else ' noinherit' end,
        (
            select string_agg(format('grant %%I to %%I', m.roleid::regrole::text, r.rolname), ';')
            from pg_auth_members as m where m.member = r.oid
        ),
        (
            select string_agg(
                format(
                    'alter role %%I set %%I = %%L', r.rolname, split_part(option, '=', 1),
                    substr(option, strpos(option, '=') + 1)
                ), ';'
            )
            from pg_db_role_setting as s cross join unnest(s.setconfig) as option
            where s.setrole = r.oid and s.setdatabase = 0
        )
    ) end, true
from pg_roles as r where r.rolname = any(%(roles)s) order by r.rolname
