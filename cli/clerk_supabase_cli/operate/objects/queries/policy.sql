select
    quote_ident(p.polname) || ' on ' || r.name, 'table ' || r.name,
    jsonb_build_object(
        'command', w.command, 'roles', w.roles, 'kind', w.kind, 'using', coalesce(w.reads, 'none'),
        'with check', coalesce(w.writes, 'none')
    ),
    format('create policy %%I on %%s as %%s for %%s to %%s', p.polname, r.name, w.kind, w.command, w.roles)
    || coalesce(' using (' || w.reads || ')', '') || coalesce(' with check (' || w.writes || ')', ''),
    exists (
        select from pg_depend as d
        left join pg_class as c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid
        left join pg_proc as f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid
        and to_regnamespace('clerk_sync') in (c.relnamespace, f.pronamespace) and c.oid is distinct from r.oid
    )
from pg_policy as p inner join relations as r on r.oid = p.polrelid
cross join lateral (
    select
        case p.polcmd
            when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all'
        end,
        (
            select string_agg(coalesce(quote_ident(o.rolname), 'public'), ', ' order by o.rolname)
            from unnest(p.polroles) as given (oid) left join pg_roles as o on o.oid = given.oid
        ),
        case when p.polpermissive then 'permissive' else 'restrictive' end,
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
) as w (command, roles, kind, reads, writes)
order by p.oid
