-- Every policy asks once per statement (an InitPlan), and finds the rows by an index.

insert into clerk.users (clerk_id) select 'user_' || n from generate_series(1, 5000) as n;
insert into clerk_sync.entities (kind, id, version)
select
    'user',
    'user_' || n,
    row(1, 1, 1)::clerk_sync.version
from generate_series(1, 5000) as n;
insert into clerk.organizations (clerk_org_id) select 'org_' || n from generate_series(1, 2000) as n;
insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
select
    'mem_' || n,
    'org_' || n % 2000,
    'user_' || n,
    'org:admin'
from generate_series(1, 5000) as n
where n % 2000 <> 0;
insert into clerk.organization_invitations (clerk_invitation_id, clerk_org_id, email_address, role)
select
    'inv_' || n,
    'org_' || 1 + n % 1999,
    'zoe@example.com',
    'org:member'
from generate_series(1, 5000) as n;
insert into clerk.organization_domains (clerk_domain_id, clerk_org_id)
select
    'dmn_' || n,
    'org_' || 1 + n % 1999
from generate_series(1, 5000) as n;
insert into public.tasks (name, user_id) select
    'task',
    'user_' || n % 1000
from generate_series(1, 5000) as n;
insert into public.documents (title, organization_id)
select
    'document',
    'org_' || n % 1000
from generate_series(1, 5000) as n;
insert into public.profiles (user_id, display_name) select
    'user_' || n,
    'name'
from generate_series(1, 5000) as n;
create table public.reports (id bigint generated always as identity primary key, title text);
select from clerk_sync.secure('public.reports', 'organization', plan => 'org:team', feature => 'org:reports');
create table public.exports (id bigint generated always as identity primary key, title text);
select
from
    clerk_sync.secure(
        'public.exports', 'organization', plan => 'org:team', feature => 'org:reports', from_mirror => true
    );
insert into public.exports (title, organization_id) select
    'export',
    'org_' || n % 1000
from generate_series(1, 5000) as n;
insert into public.reports (title, organization_id) select
    'report',
    'org_' || n % 1000
from generate_series(1, 5000) as n;
-- All tables that a plan reads: for the others Postgres would know what autovacuum saw of earlier tests.
analyze clerk.users, clerk.users_public, clerk.organizations, clerk.organization_memberships,
clerk.organization_invitations, clerk.organization_domains, clerk_sync.entities, clerk_sync.profile_visibility,
public.tasks, public.documents, public.profiles, public.reports, public.exports;

create table tap.plans as
select
    q.statement,
    q.relation,
    q.index_name,
    tap.plan('authenticated', tap.token(kind.version, 'ada', 'org_labs', 'admin'), q.statement) as plan
from tap.versions as kind
cross join (
    values
    ('select * from clerk.users', 'users', 'users_pkey'),
    ('select * from clerk.organizations', 'organizations', 'organizations_pkey'),
    ('select * from clerk.organization_memberships', 'organization_memberships', 'organization_memberships_org_idx'),
    ('select * from clerk.organization_invitations', 'organization_invitations', 'organization_invitations_org_idx'),
    ('select * from clerk.organization_domains', 'organization_domains', 'organization_domains_org_idx'),
    ('select * from public.tasks', 'tasks', 'tasks_user_id_idx'),
    ('update public.tasks set is_done = true', 'tasks', 'tasks_user_id_idx'),
    ('delete from public.tasks', 'tasks', 'tasks_user_id_idx'),
    ('select * from public.documents', 'documents', 'documents_organization_id_idx'),
    ('update public.documents set body = ''x''', 'documents', 'documents_organization_id_idx'),
    ('delete from public.documents', 'documents', 'documents_organization_id_idx'),
    ('select * from public.reports', 'reports', 'reports_organization_id_idx'),
    ('delete from public.reports', 'reports', 'reports_organization_id_idx'),
    ('select * from public.exports', 'exports', 'exports_organization_id_idx'),
    ('update public.profiles set about = ''x''', 'profiles', 'profiles_pkey'),
    ('delete from public.profiles', 'profiles', 'profiles_pkey')
) as q (statement, relation, index_name);

select tap.ok(p.plan ~ ('Index [^\n]*' || p.index_name), p.statement || ' uses its index: ' || p.plan)
from tap.plans as p;
select tap.ok(p.plan !~ 'Seq Scan', p.statement || ' reads no table to its end: ' || p.plan) from tap.plans as p;
select
    tap.ok(
        p.plan ~ '= (ANY \()?\(InitPlan|= (ANY \()?\$', p.statement || ' compares with what was asked once: ' || p.plan
    )
from tap.plans as p;
select
    tap.ok(
        p.plan !~ 'SubPlan' and p.plan !~ '(Filter|Cond)[^\n]*requesting_',
        p.statement || ' asks nothing for each row: ' || p.plan
    )
from tap.plans as p;

-- Inserts look at no row of their table; a page of profiles reads only as many rows as the page shows.
select tap.ok(i.plan ~ 'InitPlan' and i.plan !~ 'SubPlan|Seq Scan', i.plan)
from (
    select tap.plan('authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'), s.statement) as plan
    from (
        values
        ('insert into clerk.users (clerk_id) values (''user_new'')'),
        ('insert into public.tasks (name) values (''new'')'),
        ('insert into public.documents (title) values (''new'')'),
        ('insert into public.profiles (display_name) values (''new'')')
    ) as s (statement)
) as i;
select tap.ok(i.plan ~ 'InitPlan' and i.plan !~ '\(SubPlan|(Filter|Cond)[^\n]*requesting_', i.plan)
from (
    select tap.plan('authenticated', tap.token('v2', 'ada'), 'select * from ' || relation) as plan
    from (values ('clerk.users_public'), ('public.profiles')) as read_by_many (relation)
) as i;

-- Where the app looks a user up. There are no entries for nulls, which such a look never finds.
select tap.ok(found.plan ~ ('Index [^\n]*' || found.index_name), found.plan)
from (
    select
        'users_' || c || '_idx' as index_name,
        tap.plan('service_role', '', format('select * from clerk.users where %I = ''x''', c)) as plan
    from unnest(array['email', 'username', 'external_id']) as c
) as found;

select tap.finish();
rollback;
