-- Finds ways around the policies of a table that clerk_sync.secure() protects: secure() raises an error for such ways,
-- and `clerk-supabase doctor` looks for new openings later.
--
-- Most functions here are plpgsql, which keeps the plan of a query for the session. Before version 18, Postgres plans
-- the query of an SQL function anew at each call, which would be half the time of secure() and of `doctor`.

-- Whether a schema belongs to the app: not to Postgres, Supabase or this project.
create function clerk_sync.is_schema_of_app(schema_name name)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select schema_name not in (
        'clerk_sync', 'information_schema', 'auth', 'cron', 'extensions', 'graphql', 'graphql_public', 'net',
        'pgbouncer', 'pgmq', 'pgsodium', 'realtime', 'storage', 'supabase_functions', 'supabase_migrations', 'vault'
    ) and schema_name not like 'pg\_%'
$$;

-- The roles whose rights a role has or can take, itself included.
create function clerk_sync.roles_of(member_name name)
returns setof oid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.oid from pg_catalog.pg_roles as r where pg_has_role(member_name, r.oid, 'member');
end
$$;

-- The roles out of anon and authenticated with the right to use a schema, as an array.
create function clerk_sync.schema_open_to(schema_id oid)
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select api.role_name
        from unnest('{anon,authenticated}'::name[]) as api (role_name)
        where exists (
            select from clerk_sync.roles_of(api.role_name) as r (id) where has_schema_privilege(r.id, schema_id, 'usage')
        )
    );
end
$$;

-- The roles out of anon and authenticated with the right to read or write a relation. For a query by a view with
-- security_invoker a role needs this right, but no right to use the schema of the relation.
create function clerk_sync.relation_open_to(relation oid)
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select api.role_name
        from unnest('{anon,authenticated}'::name[]) as api (role_name)
        where exists (
            select from clerk_sync.roles_of(api.role_name) as r (id)
            where has_table_privilege(r.id, relation, 'select, insert, update, delete')
            or has_any_column_privilege(r.id, relation, 'select, insert, update')
        )
    );
end
$$;

-- The roles out of anon and authenticated that can name a relation and read or write its rows; null without such a
-- role.
create function clerk_sync.relation_shown_to(relation oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(api.role_name, ' and ' order by api.role_name)
    from pg_catalog.pg_class as c
    cross join unnest(clerk_sync.relation_open_to(relation)) as api (role_name)
    where c.oid = relation and api.role_name = any(clerk_sync.schema_open_to(c.relnamespace))
$$;

-- Whether a view reads its tables as the caller, not as its owner.
create function clerk_sync.is_security_invoker(relation oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_class as c
        cross join pg_options_to_table(c.reloptions) as o
        where c.oid = relation and o.option_name = 'security_invoker' and o.option_value::boolean
    )
$$;

-- The views and materialized views that read a table, directly or through other views. passes_policies: every role with
-- rights on the view gets rows that the table's policies hide. A materialized view holds the rows that its owner saw. A
-- view with security_invoker reads as the caller, also from inside another view; such a view shows more only through a
-- view that the caller may use, too.
create function clerk_sync.readers(target regclass)
returns table (relation oid, passes_policies boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive found as (
        select target::oid as relation, true as passes_policies, true as is_target
        union
        select
            c.oid,
            case
                when c.relkind = 'm' then true
                when clerk_sync.is_security_invoker(c.oid)
                    then f.passes_policies and not f.is_target and clerk_sync.relation_open_to(f.relation) <> '{}'
                else f.passes_policies
            end,
            false
        from found as f
        inner join pg_catalog.pg_depend as d
            on d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = f.relation
        inner join pg_catalog.pg_rewrite as w on w.oid = d.objid and w.ev_type = '1' and w.ev_class <> f.relation
        inner join pg_catalog.pg_class as c on c.oid = w.ev_class and c.relkind in ('v', 'm')
    )

    select f.relation, bool_or(f.passes_policies) from found as f where not f.is_target group by f.relation;
end
$$;

-- The roles out of anon and authenticated that can call a function; null without such a role. A view calls the function
-- for every role with rights on the view, also without a right to use the function's schema.
create function clerk_sync.function_shown_to(called oid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with views as (
            select c.oid as id, c.relnamespace as schema_id
            from pg_catalog.pg_depend as d
            inner join pg_catalog.pg_rewrite as w on w.oid = d.objid
            cross join lateral (
                select w.ev_class as id
                union
                select r.relation from clerk_sync.readers(w.ev_class) as r
            ) as v
            inner join pg_catalog.pg_class as c on c.oid = v.id
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_proc'::regclass and d.refobjid = called
        )

        select string_agg(api.role_name, ' and ' order by api.role_name)
        from pg_catalog.pg_proc as p
        cross join unnest('{anon,authenticated}'::name[]) as api (role_name)
        where
            p.oid = called
            and exists (
                select from clerk_sync.roles_of(api.role_name) as r (id)
                where has_function_privilege(r.id, p.oid, 'execute')
            )
            and (
                api.role_name = any(clerk_sync.schema_open_to(p.pronamespace))
                or exists (
                    select from views as v
                    where
                        api.role_name = any(clerk_sync.schema_open_to(v.schema_id))
                        and api.role_name = any(clerk_sync.relation_open_to(v.id))
                )
            )
    );
end
$$;

-- A regular expression for a name in the text of a function, quoted or not, up to where the name ends.
create function clerk_sync.mention_of(name_of_object name)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select '(^|[^[:alnum:]_$])' || regexp_replace(replace(name_of_object, '"', '""'), '([^[:alnum:]_])', '\\\1', 'g')
$$;

-- The functions of the app that mention a table or a view of the table, and their callers. A name built at run time is
-- not found, and a comment counts: the list is for a person to look through. Postgres expects millions of rows from the
-- recursion, and would clear as much memory as it may use for a hash table, at each call: most of the time of a call.
create function clerk_sync.functions_about(target regclass)
returns setof oid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set work_mem = '256kB'
as $$
begin
    return query
    with recursive relations as (
        select c.oid as id, clerk_sync.mention_of(c.relname) || '($|[^[:alnum:]_$])' as mention
        from pg_catalog.pg_class as c
        where c.oid = target or c.oid in (select r.relation from clerk_sync.readers(target) as r)
    ),

    functions as (
        select p.oid as id, p.prosrc as body, clerk_sync.mention_of(p.proname) || '"?\s*\(' as mention
        from pg_catalog.pg_proc as p
        inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where
            clerk_sync.is_schema_of_app(n.nspname)
            and not exists (
                select from pg_catalog.pg_depend as d
                where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
            )
    ),

    -- A body parsed when the function was made has no text, but depends on the objects in the body.
    uses as (
        select d.objid as id, d.refclassid as used_class, d.refobjid as used_id
        from pg_catalog.pg_depend as d
        where d.classid = 'pg_proc'::regclass
    ),

    about as (
        select f.id, f.mention
        from functions as f
        where exists (
            select from relations as r
            where f.body ~* r.mention or (f.id, 'pg_class'::regclass, r.id) in (select u.* from uses as u)
        )
        union
        select f.id, f.mention
        from about as a
        inner join functions as f
            on f.body ~* a.mention or (f.id, 'pg_proc'::regclass, a.id) in (select u.* from uses as u)
    )

    select a.id from about as a;
end
$$;

-- The rights granted on a table and on its columns, without the owner's own. grantee_name: null for PUBLIC.
create function clerk_sync.grants_on(target regclass)
returns table (grantor_name name, grantee_name name, privilege text, words text, is_grantable boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        grantor.rolname,
        grantee.rolname,
        a.privilege_type,
        lower(a.privilege_type) || coalesce(' (' || quote_ident(a.column_name) || ')', ''),
        a.is_grantable
    from pg_catalog.pg_class as c
    cross join lateral (
        select null::name as column_name, t.* from aclexplode(c.relacl) as t
        union all
        select k.attname, t.*
        from pg_catalog.pg_attribute as k
        cross join aclexplode(k.attacl) as t
        where k.attrelid = c.oid
    ) as a
    inner join pg_catalog.pg_roles as grantor on grantor.oid = a.grantor
    left join pg_catalog.pg_roles as grantee on grantee.oid = a.grantee
    where c.oid = target and a.grantee <> c.relowner;
end
$$;

-- The statement that revokes rights. Only its grantor can revoke a right that was not granted by the owner.
create function clerk_sync.revoke_statement(target regclass, grantor_name name, grantee_name name, rights text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        case
            when grantor.oid = c.relowner then revoking.statement
            when pg_has_role(grantor.oid, case when v.number >= 160000 then 'set' else 'member' end)
                then format('set role %I; %s; reset role', grantor_name, revoking.statement)
            else format('signed in as %I: %s', grantor_name, revoking.statement)
        end
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_roles as grantor on grantor.rolname = grantor_name
    cross join (select current_setting('server_version_num')::int) as v (number)
    cross join (
        select format('revoke %s on %s from %s', rights, target, coalesce(quote_ident(grantee_name), 'public'))
    ) as revoking (statement)
    where c.oid = target
$$;

-- The views, rules and tables that lead to a table's rows without its policies, in the form of detours().
create function clerk_sync.detours_by_relations(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        case when reader.shown_to is null then 'note' else 'fail' end,
        reader.shown_to is not null,
        format(
            case
                when reader.shown_to is null then 'the %s %s reads it as another role; no role of the API can use it'
                else 'the %s %s shows its rows to %s, without its policies'
            end,
            case c.relkind when 'm' then 'materialized view' else 'view' end, c.oid::regclass, reader.shown_to
        ),
        case
            when c.relkind = 'm' then format('revoke all on %s from public, anon, authenticated', c.oid::regclass)
            else format('alter view %s set (security_invoker = on)', c.oid::regclass)
        end
    from (
        select r.relation, clerk_sync.relation_shown_to(r.relation) as shown_to
        from clerk_sync.readers(target) as r
        where r.passes_policies
    ) as reader
    inner join pg_catalog.pg_class as c on c.oid = reader.relation

    union all

    -- A rule on the table comes before its policies; a rule elsewhere acts as the owner of the other relation.
    select distinct
        'fail', true,
        format('the rule %I on %s reads or writes its rows without its policies', w.rulename, c.oid::regclass),
        format('drop rule %I on %s', w.rulename, c.oid::regclass)
    from pg_catalog.pg_rewrite as w
    inner join pg_catalog.pg_class as c on c.oid = w.ev_class
    inner join pg_catalog.pg_depend as d
        on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
    where
        w.ev_type <> '1'
        and (
            d.refobjid = target
            or (
                d.refobjid <> c.oid
                and d.refobjid in (select r.relation from clerk_sync.readers(target) as r where r.passes_policies)
            )
        )
        and (
            c.relkind <> 'v'
            or (clerk_sync.relation_open_to(c.oid) <> '{}' and not clerk_sync.is_security_invoker(c.oid))
        )

    union all

    select
        'fail', true,
        format(
            'its rows can also be reached through another table, its %s',
            case
                when i.inhrelid = target then format('parent %s', i.inhparent::regclass)
                else format('child %s', i.inhrelid::regclass)
            end
        ),
        format(
            case
                when c.relispartition then 'alter table %2$s detach partition %1$s'
                else 'alter table %1$s no inherit %2$s'
            end,
            i.inhrelid::regclass, i.inhparent::regclass
        )
    from pg_catalog.pg_inherits as i
    inner join pg_catalog.pg_class as c on c.oid = i.inhrelid
    where target in (i.inhrelid, i.inhparent)

    union all

    -- Which database the server of a foreign table is in cannot be told from here: the name decides.
    select
        case when other.shown_to is null then 'note' else 'fail' end,
        other.shown_to is not null,
        format(
            case
                when other.shown_to is null then 'the foreign table %s has its name; no role of the API can use it'
                else 'the foreign table %s has its name, and shows that table''s rows to %s, as another role'
            end,
            other.relation::regclass, other.shown_to
        ),
        format('revoke all on %s from public, anon, authenticated', other.relation::regclass)
    from (
        select t.ftrelid as relation, clerk_sync.relation_shown_to(t.ftrelid) as shown_to
        from pg_catalog.pg_foreign_table as t
        inner join pg_catalog.pg_class as c on c.oid = t.ftrelid
        inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        inner join pg_catalog.pg_class as it on it.oid = target
        inner join pg_catalog.pg_namespace as its_schema on its_schema.oid = it.relnamespace
        cross join lateral (
            select
                max(o.option_value) filter (where o.option_name = 'schema_name') as schema_name,
                max(o.option_value) filter (where o.option_name = 'table_name') as table_name
            from pg_options_to_table(t.ftoptions) as o
        ) as remote
        where
            coalesce(remote.table_name, c.relname) = it.relname
            and coalesce(remote.schema_name, n.nspname) = its_schema.nspname
    ) as other;
end
$$;

-- The roles that pass a table's policies, or may grant rights on the table to other roles, in the form of detours().
create function clerk_sync.detours_by_roles(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        'fail', true,
        format('its owner %I passes its policies', owner.rolname)
        || case when owner.rolname <> api.role_name then format(', and %I is a member', api.role_name) else '' end,
        case
            when owner.rolname = api.role_name then format('alter table %s owner to %I', target, current_user)
            else format('revoke %I from %I', owner.rolname, api.role_name)
        end
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_roles as owner on owner.oid = c.relowner
    cross join unnest('{anon,authenticated,service_role}'::name[]) as api (role_name)
    where c.oid = target and pg_has_role(api.role_name, c.relowner, 'member')

    union all

    select
        'fail', true,
        format('the role %I passes every policy', r.rolname)
        || case when r.oid <> api.oid then format(', and %I is a member', api.rolname) else '' end,
        case
            when r.oid = api.oid then format('alter role %I nosuperuser nobypassrls', api.rolname)
            else format('revoke %I from %I', r.rolname, api.rolname)
        end
    from pg_catalog.pg_roles as api
    cross join clerk_sync.roles_of(api.rolname) as m (id)
    inner join pg_catalog.pg_roles as r on r.oid = m.id
    where
        api.rolname in ('anon', 'authenticated') and (r.rolsuper or r.rolbypassrls)
        -- A superuser counts as a member of every role.
        and (r.oid = api.oid or not api.rolsuper)

    union all

    -- Postgres revokes no right from a role after the role has granted the right to others.
    select
        'fail', true,
        format('%I granted %s on it to %s', g.grantor_name, g.rights, coalesce(quote_ident(g.grantee_name), 'public')),
        clerk_sync.revoke_statement(target, g.grantor_name, g.grantee_name, g.rights)
    from (
        select a.grantor_name, a.grantee_name, string_agg(a.words, ', ' order by a.words) as rights
        from clerk_sync.grants_on(target) as a
        where
            a.grantor_name in ('anon', 'authenticated', 'service_role')
            and a.grantor_name <> (select pg_get_userbyid(c.relowner) from pg_catalog.pg_class as c where c.oid = target)
        group by a.grantor_name, a.grantee_name
    ) as g;
end
$$;

-- The functions, triggers and publications that get a table's rows, in the form of detours(). Only a person can judge
-- their use of the rows.
create function clerk_sync.detours_to_judge(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with about as (
        select f.id from clerk_sync.functions_about(target) as f (id)
    )

    select
        case when f.shown_to is null then 'note' else 'warn' end,
        false,
        format(
            case
                when f.shown_to is not null then 'the security definer function %s mentions it, and %s may call it'
                when f.prosecdef then 'the security definer function %s mentions it; no role of the API can call it'
                else 'the function %s mentions it'
            end,
            f.oid::regprocedure, f.shown_to
        ),
        case
            when f.shown_to is null then 'look at what it does'
            else format(
                'look at what it does as its owner; or: revoke execute on function %s from public, anon, authenticated',
                f.oid::regprocedure
            )
        end
    from (
        select
            p.oid,
            p.prosecdef,
            case
                when p.prosecdef and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
                    then clerk_sync.function_shown_to(p.oid)
            end as shown_to
        from about as a
        inner join pg_catalog.pg_proc as p on p.oid = a.id
    ) as f

    union all

    -- A materialized view calls the function as its owner, and keeps the result.
    select distinct
        'warn', false,
        format(
            'the materialized view %s keeps what the function %s returns, which mentions it, and shows that to %s',
            c.oid::regclass, a.id::regprocedure, clerk_sync.relation_shown_to(c.oid)
        ),
        format(
            'look at what it keeps; or: revoke all on %s from public, anon, authenticated', c.oid::regclass
        )
    from about as a
    inner join pg_catalog.pg_depend as d
        on d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_proc'::regclass and d.refobjid = a.id
    inner join pg_catalog.pg_rewrite as w on w.oid = d.objid
    inner join pg_catalog.pg_class as c on c.oid = w.ev_class and c.relkind = 'm'
    where clerk_sync.relation_shown_to(c.oid) is not null

    union all

    select
        'note', false,
        format('the trigger %I hands its rows to the function %s', t.tgname, t.tgfoid::regprocedure),
        'look whether the function copies them to where others see them'
    from pg_catalog.pg_trigger as t
    where t.tgrelid = target and not t.tgisinternal

    union all

    select
        'note', false,
        format('the publication %I sends its changes', p.pubname),
        'Realtime asks its policies, but for deletes: these go to all subscribers, with the primary key'
    from pg_catalog.pg_publication_tables as p
    inner join pg_catalog.pg_namespace as n on n.nspname = p.schemaname
    inner join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = p.tablename
    where c.oid = target;
end
$$;

-- The ways to a table's rows without its policies, other than rights on the table itself. Each finding says
--   verdict: fail, the rows are open; warn, a person must judge whether the rows are open; note, good to know.
--   is_refused: whether secure() refuses the table because of the finding.
--   found, todo: the finding, in words that follow the table's name, and the statement or the step against the finding.
create function clerk_sync.detours(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select r.* from clerk_sync.detours_by_relations(target) as r
    union all
    select r.* from clerk_sync.detours_by_roles(target) as r
    union all
    select j.* from clerk_sync.detours_to_judge(target) as j
$$;

-- The functions that look up the caller's key for the policies of a table, made by secure().
create function clerk_sync.helpers_of(target regclass)
returns setof oid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct f.oid
    from pg_catalog.pg_policy as p
    inner join pg_catalog.pg_depend as d
        on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    inner join pg_catalog.pg_proc as f on f.oid = d.refobjid
    where
        p.polrelid = target and p.polname like 'clerk\_sync\_%'
        and f.pronamespace = 'clerk_sync'::regnamespace and f.proname like 'requesting\_key\_for\_%';
end
$$;

-- The columns of the app's own table of users or organizations by which these functions find the caller's key.
create function clerk_sync.lookups_of(target regclass)
returns table (relation oid, attnum smallint, column_name name)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct c.oid, a.attnum, a.attname
    from clerk_sync.helpers_of(target) as h (id)
    inner join pg_catalog.pg_depend as d
        on d.classid = 'pg_proc'::regclass and d.objid = h.id and d.refclassid = 'pg_class'::regclass
    inner join pg_catalog.pg_class as c on c.oid = d.refobjid and c.relnamespace <> 'clerk_sync'::regnamespace
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = d.refobjsubid and a.attnum > 0;
end
$$;

-- The ways by which a caller could become another user for the policies of a table: writes to the app's own table of
-- users or organizations. In the form of detours(). Only a person can judge a policy that checks Clerk's id.
create function clerk_sync.detours_by_lookup(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with lookups as (
        select
            l.relation,
            array_agg(l.attnum) as columns,
            string_agg(quote_ident(l.column_name), ' or ' order by l.attnum) as names
        from clerk_sync.lookups_of(target) as l
        group by l.relation
    ),

    -- Which policies let a role write these columns, and which of them check Clerk's id.
    writers as (
        select
            l.relation, l.names, w.role_name, w.letter,
            not c.relrowsecurity as is_open,
            p.number_of_policies, p.is_checked
        from lookups as l
        inner join pg_catalog.pg_class as c on c.oid = l.relation
        cross join (
            select api.role_name, v.letter, v.privilege
            from unnest('{anon,authenticated}'::name[]) as api (role_name)
            cross join (values ('a', 'insert'), ('w', 'update')) as v (letter, privilege)
        ) as w
        cross join lateral (
            select
                count(*) filter (where q.polpermissive) as number_of_policies,
                coalesce(bool_and(q.names_clerk_id) filter (where q.polpermissive), true)
                or coalesce(bool_or(q.names_clerk_id) filter (where not q.polpermissive), false) as is_checked
            from (
                select
                    q.polpermissive,
                    exists (
                        select from clerk_sync.lookups_of(target) as k
                        inner join pg_catalog.pg_attribute as a on a.attrelid = k.relation and a.attnum = k.attnum
                        where
                            a.atttypid in ('text'::regtype, 'varchar'::regtype)
                            and coalesce(pg_get_expr(q.polwithcheck, q.polrelid), pg_get_expr(q.polqual, q.polrelid))
                            ~ (clerk_sync.mention_of(k.column_name) || '($|[^[:alnum:]_$])')
                    ) as names_clerk_id
                from pg_catalog.pg_policy as q
                where
                    q.polrelid = l.relation and q.polcmd in ('*', w.letter::"char")
                    and exists (
                        select from unnest(q.polroles) as r (id) where r.id = 0 or pg_has_role(w.role_name, r.id, 'member')
                    )
            ) as q
        ) as p
        where exists (
            select from clerk_sync.roles_of(w.role_name) as r (id)
            cross join unnest(l.columns) as k (attnum)
            where has_column_privilege(r.id, l.relation, k.attnum, w.privilege)
        )
    )

    select
        case when bool_or(w.is_open or not w.is_checked) then 'fail' else 'warn' end,
        bool_or(w.is_open or not w.is_checked),
        format(
            case
                when bool_or(w.is_open or not w.is_checked)
                    then '%s may write %s of %s, which say who owns its rows: such a caller becomes anybody'
                else 'a policy lets %s write %s of %s, which say who owns its rows'
            end,
            string_agg(distinct w.role_name, ' and '), w.names, w.relation::regclass
        ),
        format(
            'revoke insert, update on %s from public, anon, authenticated; grant update on its other columns',
            w.relation::regclass
        )
    from writers as w
    where w.is_open or w.number_of_policies > 0
    group by w.relation, w.names

    union all

    select
        'fail', true,
        format(
            '%s may write the view %s of %s, which says who owns its rows: such a caller becomes anybody',
            string_agg(api.role_name, ' and ' order by api.role_name), v.oid::regclass, l.relation::regclass
        ),
        format('alter view %s set (security_invoker = on)', v.oid::regclass)
    from lookups as l
    cross join lateral clerk_sync.readers(l.relation) as d
    inner join pg_catalog.pg_class as v on v.oid = d.relation and v.relkind = 'v'
    cross join unnest('{anon,authenticated}'::name[]) as api (role_name)
    where
        d.passes_policies
        -- Bits 2 and 3: update and insert.
        and pg_relation_is_updatable(v.oid, true) & 12 <> 0
        and exists (
            select from clerk_sync.roles_of(api.role_name) as r (id)
            where has_any_column_privilege(r.id, v.oid, 'insert, update')
        )
    group by v.oid, l.relation

    union all

    select d.verdict, d.is_refused, format('%s says who owns its rows, and %s', l.relation::regclass, d.found), d.todo
    from lookups as l
    cross join lateral clerk_sync.detours_by_roles(l.relation::regclass) as d;
end
$$;

-- The plans and features for which a condition asks the token or the mirror, as words of entitlements_asked().
create function clerk_sync.entitlements_in(condition text)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select distinct
            case m.found[1] when 'has' then '' else 'mirrored ' end || m.found[2]
            || ' ' || replace(m.found[3], '''''', '''')
        from regexp_matches(
            condition, 'requesting_user_(has|subscribes_to)_(plan|feature)\(E?''((?:[^'']|'''')*)''::text\)', 'g'
        ) as m (found)
        order by 1
    )
$$;

-- The differences from the policies made by secure(), in the form of detours().
create function clerk_sync.altered_policies(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with made (policy_name) as (
        select unnest('{clerk_sync_delete,clerk_sync_insert,clerk_sync_select,clerk_sync_update}'::name[])
    ),

    present as (
        select
            p.polname,
            p.polpermissive,
            p.polname in (select m.policy_name from made as m) as is_made,
            array[pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)] as conditions
        from pg_catalog.pg_policy as p
        where p.polrelid = target
    )

    select
        'fail', true,
        'its row-level security is off',
        format('alter table %s enable row level security', target)
    from pg_catalog.pg_class as c
    where c.oid = target and not c.relrowsecurity

    union all

    select
        'fail', true,
        format('it lacks the policies %s', string_agg(m.policy_name, ', ' order by m.policy_name)),
        format('clerk-supabase secure %L user, or organization', target)
    from made as m
    where m.policy_name not in (select p.polname from present as p)
    having count(*) > 0

    union all

    -- Each condition queries any of these views, whatever the app adds to the condition.
    select
        'fail', true,
        format('its policy %I no longer asks who the caller is', p.polname),
        format('clerk-supabase secure %L user, or organization', target)
    from present as p
    where p.is_made and exists (
        select from unnest(p.conditions) as c (condition)
        where c.condition !~ 'clerk_sync\.(caller|active_membership_of_caller|requesting_key_for_[a-z0-9_]+\(\))(\M|\W|$)'
    )

    union all

    select
        'warn', true,
        format(
            'its policy %I does not ask for the %s, as others of its policies do',
            p.polname, string_agg(distinct a.words, ' and the ' order by a.words)
        ),
        format('clerk-supabase secure %L again, with --plan or --feature, unless that is meant', target)
    from present as p
    cross join (
        select unnest(clerk_sync.entitlements_in(array_to_string(o.conditions, ' '))) from present as o where o.is_made
    ) as a (words)
    where p.is_made and a.words <> all(clerk_sync.entitlements_in(array_to_string(p.conditions, ' ')))
    group by p.polname

    union all

    select
        'warn', true,
        format('its policy %I allows more', p.polname),
        format('drop policy %I on %s, unless that is meant', p.polname, target)
    from present as p
    where p.polpermissive and not p.is_made;
end
$$;

-- The rights of the API's roles on a table beyond the grants of secure(), in the form of detours(). From any grantor,
-- granted to the role itself, to a role whose member the role is or to PUBLIC, on the table or on a column.
create function clerk_sync.excess_rights(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with api (role_name, allowed) as (
        values
        ('anon'::name, '{}'::text[]),
        ('authenticated', '{SELECT,INSERT,UPDATE,DELETE}'),
        ('service_role', '{SELECT,INSERT,UPDATE,DELETE}')
    ),

    granted as (
        select api.role_name, g.*
        from clerk_sync.grants_on(target) as g
        inner join api on pg_has_role(api.role_name, g.grantee_name, 'member')
        where g.privilege <> all(api.allowed) or g.is_grantable
        union all
        select null, g.*
        from clerk_sync.grants_on(target) as g
        where g.grantee_name is null
    ),

    -- Predefined roles such as pg_read_all_data have rights without a grant; found by the memberships to revoke.
    inherent as (
        select api.role_name, r.rolname, p.privilege
        from api
        inner join pg_catalog.pg_auth_members as direct on direct.member = api.role_name::regrole
        inner join pg_catalog.pg_roles as r on r.oid = direct.roleid
        cross join unnest(
            '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]
            || case when current_setting('server_version_num')::int >= 170000 then '{MAINTAIN}'::text[] end
        ) as p (privilege)
        where
            p.privilege <> all(api.allowed)
            and exists (
                select from clerk_sync.roles_of(r.rolname) as m (id)
                where
                    has_table_privilege(m.id, target, p.privilege)
                    -- Superusers and members of the owner are found by detours().
                    and not pg_has_role(
                        m.id, (select c.relowner from pg_catalog.pg_class as c where c.oid = target), 'member'
                    )
                    and not exists (
                        select from clerk_sync.grants_on(target) as g
                        where
                            g.privilege = p.privilege
                            and (g.grantee_name is null or pg_has_role(m.id, g.grantee_name, 'member'))
                    )
            )
    )

    select
        case
            when g.role_name = 'service_role' or bool_and(g.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
                then 'warn'
            else 'fail'
        end,
        true,
        format(
            '%s has the right to %s, which %I granted%s%s',
            coalesce(quote_ident(g.role_name), 'PUBLIC'), string_agg(g.words, ', ' order by g.words), g.grantor_name,
            case when g.grantee_name <> g.role_name then format(' to %I', g.grantee_name) else '' end,
            case when bool_or(g.is_grantable) then ', with grant option' else '' end
        ),
        clerk_sync.revoke_statement(
            target, g.grantor_name, g.grantee_name, string_agg(g.words, ', ' order by g.words)
        )
    from granted as g
    group by g.role_name, g.grantor_name, g.grantee_name

    union all

    select
        case
            when i.role_name = 'service_role' or bool_and(i.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
                then 'warn'
            else 'fail'
        end,
        true,
        format(
            '%I has the right to %s as a member of %I',
            i.role_name, lower(string_agg(distinct i.privilege, ', ' order by i.privilege)), i.rolname
        ),
        format('revoke %I from %I', i.rolname, i.role_name)
    from inherent as i
    group by i.role_name, i.rolname;
end
$$;

-- All findings that open a secured table, or may open the table: for secure() and `clerk-supabase doctor`. The worst
-- comes first.
create function clerk_sync.openings(target regclass)
returns table (verdict text, is_refused boolean, found text, todo text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select o.*
    from (
        select d.* from clerk_sync.detours(target) as d
        union all
        select p.* from clerk_sync.altered_policies(target) as p
        union all
        select r.* from clerk_sync.excess_rights(target) as r
        union all
        select l.* from clerk_sync.detours_by_lookup(target) as l
    ) as o
    order by array_position('{fail,warn,note}'::text[], o.verdict), o.found
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0019_create_openings');
