-- Organizations, memberships, invitations and domains: their readers. Nobody writes these tables through the API.

create table tap.expected (caller text, organizations text, memberships text, invitations text, domains text);

insert into tap.expected (caller, organizations, memberships, invitations, domains)
values
('ada', 'org_labs', 'mem_ada mem_bea mem_bob mem_ed mem_gus', 'inv_labs', 'dmn_labs'),
('ed', 'org_labs', 'mem_ada mem_bea mem_bob mem_ed mem_gus', '', 'dmn_labs'),
('bob', 'org_labs', 'mem_ada mem_bea mem_bob mem_ed mem_gus', '', ''),
('eve', 'org_eves', 'mem_eve', 'inv_eves', 'dmn_eves'),
('bea', '', '', '', ''),
('carl', '', '', '', ''),
('dan', '', '', '', ''),
('gus', '', '', '', ''),
('ned', '', '', '', ''),
('pam', '', '', '', ''),
('nobody', '', '', '', '');

select
    tap.is(
        tap.seen('authenticated', c.claims, queried.query),
        queried.sees,
        queried.query || ' by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
inner join tap.expected as e on c.caller = e.caller
cross join lateral (
    values
    ('select clerk_org_id from clerk.organizations', e.organizations),
    ('select clerk_membership_id from clerk.organization_memberships', e.memberships),
    ('select clerk_invitation_id from clerk.organization_invitations', e.invitations),
    ('select clerk_domain_id from clerk.organization_domains', e.domains)
) as queried (query, sees);

-- The active organization makes no difference here: an app lists all organizations of a user for a choice.
select
    tap.is(
        tap.seen(
            'authenticated',
            tap.token(kind.version, 'ada', active.organization, 'member'),
            'select clerk_org_id from clerk.organizations'
        ),
        'org_labs',
        'with ' || coalesce(active.organization, 'none') || ' active ' || kind.version
    )
from (values (null), ('org_labs'), ('org_eves'), ('org_closed'), ('org_unknown')) as active (organization)
cross join tap.versions as kind;

select
    tap.is(
        tap.attempt(role.name, tap.token('v2', 'ada', 'org_labs', 'admin'), format(forbidden.statement, relation.name)),
        'denied',
        format(forbidden.statement, relation.name) || ' by ' || role.name
    )
from (
    values ('organizations'), ('organization_memberships'), ('organization_invitations'), ('organization_domains')
) as relation (name)
cross join (
    values
    ('insert into clerk.%s default values'),
    ('update clerk.%s set deleted_at = now()'),
    ('delete from clerk.%s'),
    ('truncate clerk.%s cascade'),
    ('select 1 from clerk.%s for update')
) as forbidden (statement)
cross join (values ('anon'), ('authenticated')) as role (name);

select
    tap.is(
        tap.attempt(
            'anon', tap.token('v2', 'ada', 'org_labs', 'admin'), format('select 1 from clerk.%s', relation.name)
        ),
        'denied',
        relation.name || ' seen by anon'
    )
from (
    values ('organizations'), ('organization_memberships'), ('organization_invitations'), ('organization_domains')
) as relation (name);

select
    tap.is(
        tap.attempt('service_role', null, format(allowed.statement, relation.name)), relation.size::text,
        format(allowed.statement, relation.name) || ' by the service role'
    )
from (
    values ('organizations', 3),
    ('organization_memberships', 9),
    ('organization_invitations', 3),
    ('organization_domains', 3)
) as relation (name, size)
cross join (values ('select 1 from clerk.%s'), ('update clerk.%s set deleted_at = null'), ('delete from clerk.%s'))
    as allowed (statement);

-- The machinery.
select
    tap.is(
        tap.attempt(
            role.name, tap.token('v2', 'ada', 'org_labs', 'admin'), format('select 1 from clerk_sync.%I', c.relname)
        ),
        'denied',
        format('clerk_sync.%I seen by %s', c.relname, role.name)
    )
from pg_class as c
cross join (values ('anon'), ('authenticated'), ('service_role')) as role (name)
where c.relnamespace = 'clerk_sync'::regnamespace and c.relkind in ('r', 'v');

select tap.finish();
rollback;
