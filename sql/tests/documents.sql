-- sql/examples/documents.sql: rows that belong to organizations, written by admins and editors, deleted by admins.

insert into public.documents (title, organization_id)
values
('of labs', 'org_labs'), ('of labs, too', 'org_labs'), ('of eves', 'org_eves'), ('of closed', 'org_closed'),
('of nobody', null);

create table tap.expected (caller text, reads text, writes text, inserts text, deletes text);

-- All tokens of the callers say admin. Only the row of the membership counts.
insert into tap.expected (caller, reads, writes, inserts, deletes)
values
('ada', '2', '2', '1', '2'),
('ed', '2', '2', '1', '0'),
('bob', '2', '0', 'denied', '0'),
('eve', '1', '1', '1', '1'),
('carl', '0', '0', 'denied', '0'),
('bea', '0', '0', 'denied', '0'),
('dan', '0', '0', 'denied', '0'),
('gus', '0', '0', 'denied', '0'),
('pam', '0', '0', 'denied', '0'),
('ned', '0', '0', 'denied', '0'),
('nobody', '0', '0', 'denied', '0');

select
    tap.is(
        tap.attempt('authenticated', c.claims, a.statement),
        a.outcome,
        a.statement || ' by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
inner join tap.expected as e on c.caller = e.caller
cross join lateral (
    values
    ('select * from public.documents', e.reads),
    ('update public.documents set body = ''x''', e.writes),
    ('insert into public.documents (title) values (''new'') returning *', e.inserts),
    ('delete from public.documents', e.deletes),
    ('insert into public.documents (title, organization_id) values (''new'', null)', 'denied'),
    ('insert into public.documents (title, organization_id) values (''new'', ''org_closed'')', 'denied'),
    ('truncate public.documents', 'denied')
) as a (statement, outcome);

-- The token selects the organization: with another organization, an unknown organization or without any, a caller sees
-- and writes nothing.
select tap.is(tap.attempt('authenticated', t.claims, a.statement), a.outcome, a.statement || ' with ' || t.claims)
from (
    select tap.token(kind.version, 'ada', active.organization, 'admin') as claims
    from tap.versions as kind
    cross join
        (values (null), (''), ('org_eves'), ('org_closed'), ('org_unknown'), ('ORG_LABS'), ('%'))
            as active (organization)
    union all
    select '{"sub": "user_ada", ' || claim || '}'
    from (
        values
        ('"org_id": ["org_labs"]'), ('"org_id": {"org_labs": 1}'), ('"org_id": 5'), ('"org_id": null'),
        ('"v": 2, "o": "org_labs"'), ('"v": 2, "o": ["org_labs"]'), ('"v": 2, "o": {"id": ["org_labs"]}'),
        ('"v": 2, "o": [{"id": "org_labs"}]'), ('"v": 2, "org_id": "org_labs"'), ('"v": 1, "o": {"id": "org_labs"}'),
        ('"v": 3, "org_id": "org_labs", "o": {"id": "org_labs"}'), ('"v": "2", "o": {"id": "org_labs"}'),
        ('"v": true, "org_id": "org_labs"'), ('"o": {"id": "org_labs"}'), ('"o.id": "org_labs"'),
        ('"user_metadata": {"org_id": "org_labs"}'), ('"organization_id": "org_labs"')
    ) as of_version (claim)
) as t
cross join (
    values
    ('select * from public.documents', '0'),
    ('update public.documents set body = ''x''', '0'),
    ('delete from public.documents', '0'),
    ('insert into public.documents (title) values (''new'')', 'denied'),
    ('insert into public.documents (title, organization_id) values (''new'', ''org_labs'')', 'denied')
) as a (statement, outcome);

-- The role in the token makes no difference, neither a higher nor a lower role.
select
    tap.is(
        tap.attempt(
            'authenticated',
            tap.token(kind.version, c.person, 'org_labs', said.role),
            'update public.documents set body = ''x'''
        ),
        c.writes,
        format('%s, a token of %s that says %s', c.person, kind.version, said.role)
    )
from (values ('ada', '2'), ('ed', '2'), ('bob', '0'), ('eve', '0')) as c (person, writes)
cross join tap.versions as kind
cross join (values ('admin'), ('editor'), ('member'), ('org:admin'), (null)) as said (role);

select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'), a.statement), a.outcome, a.statement
    )
from (
    values
    ('update public.documents set organization_id = ''org_eves''', 'denied'),
    ('update public.documents set organization_id = null', 'denied'),
    ('select * from public.documents where organization_id = ''org_eves''', '0')
) as a (statement, outcome);

select
    tap.is(
        tap.attempt('anon', tap.token('v2', 'ada', 'org_labs', 'admin'), a.statement),
        'denied',
        a.statement || ' by anon'
    )
from (
    values
    ('select * from public.documents'),
    ('insert into public.documents (title) values (''new'')'),
    ('update public.documents set body = ''x'''),
    ('delete from public.documents')
) as a (statement);

select
    tap.is(
        tap.attempt('service_role', null, 'delete from public.documents'), '5', 'the service role may do everything'
    );

select tap.finish();
rollback;
