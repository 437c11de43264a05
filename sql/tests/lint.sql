-- The errors and warnings of Supabase's linter, and some of its notes. The examples are linted too.
-- https://supabase.com/docs/guides/database/database-advisors

create view tap.policies as
select
    p.*,
    c.oid::regclass as relation,
    pg_get_expr(p.polqual, p.polrelid) as condition,
    pg_get_expr(p.polwithcheck, p.polrelid) as check_condition
from pg_policy as p
inner join pg_class as c on p.polrelid = c.oid
where c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace, 'public'::regnamespace);

select tap.is(
    (
        select string_agg(format('%s:%s', p.relation, p.polcmd), ' ' order by p.relation::text, p.polcmd)
        from tap.policies as p
    ),
    'clerk.organization_domains:r clerk.organization_invitations:r clerk.organization_memberships:r '
    || 'clerk.organizations:r clerk.payment_attempts:r clerk.permissions:r clerk.plans:r clerk.roles:r '
    || 'clerk.sessions:r '
    || 'clerk.subscription_items:r clerk.subscriptions:r clerk.users:a clerk.users:r clerk.users_public:r '
    || 'clerk.waitlist_entries:r '
    || 'documents:a documents:d documents:r documents:w '
    || 'profiles:a profiles:d profiles:r profiles:r profiles:w '
    || 'tasks:a tasks:d tasks:r tasks:w',
    'these are all policies'
);

select tap.none(
    $$
    select c.conrelid::regclass, c.conname from pg_constraint as c
    where c.contype = 'f' and c.connamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace) and not exists (
        select from pg_index as i
        where i.indrelid = c.conrelid and i.indisvalid
        -- An index that begins with its columns will do.
        and (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(c.conkey)] = c.conkey
    )
    $$,
    '0001 every foreign key of ours has an index'
);
select tap.none(
    $$
    select relation, polname from tap.policies
    where concat_ws(' ', condition, check_condition) ~* 'auth\.|current_setting'
    $$,
    '0003 no policy calls auth.jwt() or current_setting() for each row'
);
select tap.none(
    $$
    select relation, polname from tap.policies
    where regexp_replace(concat_ws(' ', condition, check_condition), '\( SELECT [a-z_]+\(\)', '', 'g')
        ~ '(requesting_[a-z_]+|[a-z_]+\.[a-z_]+)\('
    $$,
    '0003 no policy calls any function for each row'
);
select tap.none(
    $$
    select c.oid::regclass from pg_class as c
    where c.relkind = 'r' and c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace, 'public'::regnamespace)
    and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)
    $$,
    '0004 every table has a primary key'
);
select tap.none(
    $$
    select p.relation, r.rolname, commands.command from tap.policies as p
    inner join pg_roles as r on r.oid = any(p.polroles) or p.polroles = '{0}'
    cross join lateral unnest(
        case p.polcmd when '*' then '{r,a,w,d}' else array[p.polcmd::text] end
    ) as commands (command)
    where p.polpermissive
    group by p.relation, r.rolname, commands.command having count(*) > 1
    $$,
    '0006 no role has two permissive policies for one command'
);
select tap.none(
    $$select relation from tap.policies inner join pg_class as c on c.oid = polrelid where not c.relrowsecurity$$,
    '0007 where there are policies, they are enabled'
);
select tap.none(
    $$
    select c.oid::regclass from pg_class as c
    where c.relkind = 'r' and c.relrowsecurity and c.relnamespace in ('clerk'::regnamespace, 'public'::regnamespace)
    and not exists (select from pg_policy as p where p.polrelid = c.oid)
    $$,
    '0008 where they are enabled, there are policies'
);
select tap.none(
    $$
    select i.tablename, array_agg(i.indexname) from pg_indexes as i where i.schemaname in ('clerk', 'clerk_sync', 'public')
    group by i.tablename, replace(i.indexdef, i.indexname, '') having count(*) > 1
    $$,
    '0009 no index is there twice'
);
select tap.none(
    $$
    select c.oid::regclass from pg_class as c
    where c.relkind in ('v', 'm') and c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace, 'public'::regnamespace)
    and (has_table_privilege('anon', c.oid, 'select') or has_table_privilege('authenticated', c.oid, 'select'))
    $$,
    '0010, 0016 no view is open to the API'
);
select tap.none(
    $$
    select c.oid::regclass, r.role_name from pg_class as c
    cross join (values ('anon'), ('authenticated')) as r (role_name)
    where c.relkind = 'v' and c.relnamespace = 'clerk_sync'::regnamespace
    and has_schema_privilege(r.role_name, c.relnamespace, 'usage')
    $$,
    'those that policies ask cannot be named by a caller'
);
-- Exactly this path: with an empty path, a type or table of the caller's in pg_temp comes first. Other functions in the
-- schema clerk are the app's.
select tap.none(
    $$
    select p.oid::regprocedure from pg_proc as p
    where (
        p.pronamespace = 'clerk_sync'::regnamespace
        or p.pronamespace = 'clerk'::regnamespace and p.proname in (
            select o.proname from pg_proc as o
            where o.pronamespace = 'clerk_sync'::regnamespace and o.proname like 'requesting\_%'
        )
    )
    and not coalesce(p.proconfig, '{}') && array['search_path=pg_catalog, pg_temp']
    $$,
    '0011 every function pins its search path'
);
select tap.none(
    $$
    select c.oid::regclass from pg_class as c
    where c.relkind in ('r', 'p') and not c.relrowsecurity
    and c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace, 'public'::regnamespace)
    $$,
    '0013 every table is protected'
);
select tap.none(
    $$select e.extname from pg_extension as e where e.extnamespace = 'public'::regnamespace$$,
    '0014 no extension is in public'
);
select tap.none(
    $$
    select relation from tap.policies
    where concat_ws(' ', condition, check_condition) ~ 'user_metadata|unsafe_metadata'
    $$,
    '0015 no policy believes what a user can write'
);
select tap.none(
    $$
    select relation, polname from tap.policies
    where coalesce(condition, '') ~ '^\(?(true|1 = 1)\)?$' or coalesce(check_condition, '') ~ '^\(?(true|1 = 1)\)?$'
    or (polcmd = 'a' and check_condition is null)
    $$,
    '0024 no policy is always true'
);
select tap.none(
    $$
    select p.oid::regprocedure, r.role_name from pg_proc as p
    cross join (values ('anon'), ('authenticated')) as r (role_name)
    where p.prosecdef and has_function_privilege(r.role_name, p.oid, 'execute')
    and p.pronamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace, 'public'::regnamespace)
    $$,
    '0028, 0029 nobody from the API may call a function that acts as its owner'
);
select tap.none(
    $$select relation, polname from tap.policies where concat_ws(' ', condition, check_condition) ~ 'IS NULL\) OR'$$,
    '0030 no policy is true for want of a caller'
);
select tap.none(
    $$
    select relation, polname from tap.policies
    where polroles <> array['authenticated'::regrole::oid]
    and not (polroles = array['anon'::regrole::oid] and relation = 'public.profiles'::regclass)
    $$,
    'policies name the role they are for'
);
select tap.none(
    $$
    select c.oid::regclass, a.privilege_type from pg_class as c, aclexplode(c.relacl) as a
    where c.relnamespace in ('clerk'::regnamespace, 'public'::regnamespace) and c.relkind = 'r'
    and a.grantee in (0, 'anon'::regrole) and not (c.relname = 'profiles' and a.privilege_type = 'SELECT')
    $$,
    'nothing is granted to everybody'
);

-- The extension safeupdate, which Supabase loads for the roles of the API, refuses a statement without WHERE also
-- inside a function called by these roles.
create view tap.statements_without_where as
select
    p.oid::regprocedure as of_function,
    p.pronamespace::regnamespace as of_schema,
    btrim(piece.statement, E' \n') as statement
from pg_proc as p
cross join
    lateral regexp_split_to_table(
        regexp_replace(p.prosrc, '--[^\n]*', '', 'g'),
        ';\s*?(?=\n|$)|(?=\mdelete\s+from\M)|(?=\mupdate\s+(?!set\M)\S+(\s+as\s+\S+)?\s+set\M)', 'i'
    ) as piece (statement)
where piece.statement ~* '^(delete\s+from|update)\M' and piece.statement !~* '\mwhere\M';

create function tap.planted()
returns void
language plpgsql
as $$
begin
    delete from clerk.users;
    update clerk.users as u set locale = null;
    with changed as (update clerk.users set locale = 'en' returning clerk_id)
    delete from clerk.users where clerk_id = any(array(select c.clerk_id from changed as c));
    insert into clerk.users (clerk_id) values ('user_1') on conflict (clerk_id) do update set locale = 'en';
    delete from clerk.users
    where true;
end
$$;

select tap.is(
    (
        select count(*)::text from tap.statements_without_where as s
        where s.of_schema = 'tap'::regnamespace
    ),
    '3',
    'a delete or an update without a condition is found'
);
select tap.none(
    $$
    select s.of_function, s.statement from tap.statements_without_where as s
    where s.of_schema in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
    $$,
    'no function deletes or updates without a condition'
);

select tap.finish();
rollback;
