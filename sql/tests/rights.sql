-- The rights granted by name, whatever Postgres and the project grant by default; no other right is needed.

-- Every object of the project with the rights of all roles except the owner: on tables, columns, sequences, functions,
-- types.
create view tap.rights as
with things as (
    select
        c.oid::regclass::text as name,
        case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end as kind,
        c.relowner as owner,
        coalesce(
            c.relacl,
            case c.relkind when 'S' then acldefault('s', c.relowner) else acldefault('r', c.relowner) end
        ) as acl
    from pg_class as c
    where
        c.relnamespace = 'clerk_sync'::regnamespace and c.relkind in ('r', 'v', 'S')
        or c.oid = 'clerk.users_public'::regclass
        or c.oid in (select k.relation::regclass from clerk_sync.kinds as k)
    union all
    select
        format('%s.%I', a.attrelid::regclass, a.attname) as name,
        'column' as kind,
        c.relowner as owner,
        a.attacl as acl
    from pg_attribute as a
    inner join pg_class as c on a.attrelid = c.oid
    where c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace) and a.attacl is not null
    union all
    select
        p.oid::regprocedure::text as name,
        'function' as kind,
        p.proowner as owner,
        coalesce(p.proacl, acldefault('f', p.proowner)) as acl
    from pg_proc as p
    where
        p.pronamespace = 'clerk_sync'::regnamespace
        or p.pronamespace = 'clerk'::regnamespace and p.proname like 'requesting\_%'
    union all
    select
        t.oid::regtype::text as name,
        'type' as kind,
        t.typowner as owner,
        coalesce(t.typacl, acldefault('T', t.typowner)) as acl
    from pg_type as t
    left join pg_class as c on t.typrelid = c.oid
    where t.typnamespace = 'clerk_sync'::regnamespace and t.typtype in ('c', 'e') and coalesce(c.relkind, 'c') = 'c'
)

select
    t.kind,
    t.name,
    case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee,
    lower(a.privilege_type) as privilege
from things as t
cross join aclexplode(t.acl) as a
where a.grantee <> t.owner;

select tap.none('select * from tap.rights where grantee = ''public''', 'nothing is granted to everybody');
select tap.none(
    $$
    select * from tap.rights where grantee = 'anon' and not (kind = 'function' and name like '%requesting\_%')
    -- An example with more rights on purpose.
    and name !~ 'profiles'
    $$,
    'nothing but the functions that read a token is granted to anon'
);
select tap.is(
    (
        select string_agg(distinct r.privilege, ' ' order by r.privilege) from tap.rights as r
        where r.grantee = 'service_role' and r.kind = 'table'
    ),
    'delete insert select update',
    'service_role reads and writes rows'
);
select tap.is(
    (
        select string_agg(distinct r.name, ' ' order by r.name) from tap.rights as r
        where r.grantee = 'service_role' and r.kind = 'table' and r.privilege = 'delete'
    ),
    (
        select string_agg(k.relation, ' ' order by k.relation)
        from clerk_sync.kinds as k
        where k.kind <> 'private_metadata'
    ),
    'of all tables that Clerk''s objects are in'
);
select tap.none(
    $$
    select * from tap.rights
    where grantee in ('anon', 'authenticated', 'service_role') and kind in ('sequence', 'type')
    $$,
    'no sequence and no type is granted to the API'
);
select tap.none(
    $$
    select * from tap.rights
    where grantee in ('clerk_sync_worker', 'clerk_sync_session') and (kind, privilege) <> ('function', 'execute')
    $$,
    'worker and session call functions'
);
select tap.is(
    (
        select string_agg(r.name, ' ' order by r.name) from tap.rights as r
        where r.grantee = 'authenticated' and r.kind = 'function' and r.name like 'clerk\_sync.%'
    ),
    'clerk_sync.requesting_claims() clerk_sync.requesting_entitlements(text,jsonb,text,text) '
    || 'clerk_sync.requesting_organization_id(jsonb,text) '
    || 'clerk_sync.requesting_organization_role(jsonb,text) clerk_sync.requesting_permissions(jsonb,text) '
    || 'clerk_sync.requesting_user_has_feature(text) '
    || 'clerk_sync.requesting_user_has_permission(text,text[]) clerk_sync.requesting_user_has_plan(text) '
    || 'clerk_sync.requesting_user_holds(text,text[]) clerk_sync.requesting_user_id(jsonb) '
    || 'clerk_sync.requesting_user_subscribes_to_feature(text) clerk_sync.requesting_user_subscribes_to_plan(text)',
    'policies call these for a caller'
);
select
    tap.is(
        tap.attempt(caller.role_name, tap.token('v2', 'ada'), 'select clerk_sync.requesting_user_id()'),
        'denied',
        'which ' || caller.role_name || ' cannot name'
    )
from (values ('anon'), ('authenticated'), ('service_role')) as caller (role_name);

-- Objects that service_role could leave behind, and actions without a trace.
create function tap.refuse()
returns trigger
language plpgsql
as $$ begin return null; end $$;

grant usage on schema tap to service_role;
grant execute on function tap.refuse() to service_role;

select
    tap.is(
        tap.attempt('service_role', null, format(a.statement, k.relation)),
        'denied',
        format(a.statement, k.relation)
    )
from clerk_sync.kinds as k
cross join (
    values
    ('truncate %s cascade'),
    ('create trigger mine before insert on %s for each statement execute function tap.refuse()'),
    ('alter table %s disable row level security')
) as a (statement)
where k.kind <> 'private_metadata';

-- A role with the right to create in clerk can overload a function, but cannot keep users out by an overload.
create function clerk.requesting_claims(x int default 0)
returns jsonb
language sql
return '{}'::jsonb;

create function clerk.requesting_user_id(x int default 0)
returns text
language sql
return 'user_eve';

create function clerk.requesting_user_id(x text default '')
returns text
language sql
return 'user_eve';

create function clerk.requesting_organization_id(x int default 0)
returns text
language sql
return null::text;

select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', a.person, 'org_labs', 'admin'), a.statement),
        '1',
        a.statement
    )
from (
    values
    ('ada', 'select * from clerk.users where clerk_id = ''user_ada'''),
    ('ned', 'insert into clerk.users (clerk_id) values (''user_ned'') returning *'),
    ('ada', 'select * from clerk.organizations'),
    ('ada', 'insert into public.tasks (name) values (''new'') returning *'),
    ('ada', 'insert into public.documents (title) values (''new'') returning *')
) as a (person, statement);

select tap.finish();
rollback;
