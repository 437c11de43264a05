-- The common part of the tests: a little of the Test Anything Protocol, and people. Each test is a transaction that
-- begins here and is rolled back at its end, on a migrated database with the examples installed:
--   cat sql/tests/setup.sql sql/tests/users.sql | psql -XqAt "$DATABASE_URL"
-- prints a line for each claim, `ok` or `not ok`, and their number at the end.

begin;

-- Claims are tried as these roles. The owner made these roles, and so may grant them but not yet take any of them.
do $$
begin
    if not pg_has_role(current_user, 'clerk_sync_worker', 'member') then
        grant clerk_sync_worker, clerk_sync_session to current_user;
    end if;
end
$$;

create schema tap;
create sequence tap.claims_made;

create function tap.is(have text, want text, description text)
returns text
language plpgsql
as $$
begin
    perform nextval('tap.claims_made');
    if have is not distinct from want then
        return format('ok - %s', description);
    end if;
    return format('not ok - %s: have %s, want %s', description, quote_nullable(have), quote_nullable(want));
end
$$;

create function tap.ok(passed boolean, description text)
returns text
language sql
return tap.is(passed::text, 'true', description);

-- No row is the good end of a look for faults.
create function tap.none(query text, description text)
returns text
language plpgsql
as $$
declare
    found_rows text;
begin
    execute format('select string_agg(found::text, '' '') from (%s) as found', query) into found_rows;
    return tap.is(found_rows, null, description);
end
$$;

create function tap.finish()
returns text
language sql
return '1..' || coalesce(pg_sequence_last_value('tap.claims_made'), 0);

-- Runs a statement the way PostgREST does for a request, with the role and the claims of its token, and undoes the
-- statement. Returns the number of rows touched, `denied`, or the SQLSTATE of another error.
create function tap.attempt(as_role text, claims text, statement text)
returns text
language plpgsql
as $$
declare
    touched bigint;
    error_code text;
    message text;
begin
    begin
        perform set_config('request.jwt.claims', claims, true);
        perform set_config('role', as_role, true);
        execute statement;
        get diagnostics touched = row_count;
        raise exception using errcode = 'TAP00', message = touched::text;
    exception
        when others then
            get stacked diagnostics error_code = returned_sqlstate, message = message_text;
    end;
    return case error_code when 'TAP00' then message when '42501' then 'denied' else error_code end;
end
$$;

-- The same, and returns the first column of a query, sorted.
create function tap.seen(as_role text, claims text, query text)
returns text
language plpgsql
as $$
declare
    found_values text;
    error_code text;
    message text;
begin
    begin
        perform set_config('request.jwt.claims', claims, true);
        perform set_config('role', as_role, true);
        execute format('select string_agg(of_row, '' '' order by of_row) from (%s) as found (of_row)', query)
        into found_values;
        raise exception using errcode = 'TAP00', message = coalesce(found_values, '');
    exception
        when others then
            get stacked diagnostics error_code = returned_sqlstate, message = message_text;
    end;
    return case error_code when 'TAP00' then message when '42501' then 'denied' else error_code end;
end
$$;

-- The same, and returns the plan of Postgres.
create function tap.plan(as_role text, claims text, statement text)
returns text
language plpgsql
as $$
declare
    plan_line text;
    whole_plan text := '';
begin
    perform set_config('request.jwt.claims', claims, true);
    perform set_config('role', as_role, true);
    for plan_line in execute 'explain ' || statement loop
        whole_plan := whole_plan || plan_line || E'\n';
    end loop;
    perform set_config('role', 'none', true);
    perform set_config('request.jwt.claims', '', true);
    return whole_plan;
end
$$;

-- Labs: Ada is its admin, Ed an editor, Bob a member. Eves: Eve is its admin. Carl was an admin of Labs until his
-- removal; Dan was an admin until he was deleted; Bea is an admin, and banned; Gus is an admin, and deprovisioned; Pam
-- was an admin, and only her tombstone is left. Ned has just signed up. Closed was deleted, with Ada as its admin.
insert into clerk.users (clerk_id, username, banned, deprovisioned, deleted_at)
values
('user_ada', 'ada', false, false, null),
('user_bea', 'bea', true, false, null),
('user_bob', 'bob', false, false, null),
('user_carl', 'carl', false, false, null),
('user_dan', 'dan', false, false, '2026-01-01'),
('user_ed', 'ed', false, false, null),
('user_eve', 'eve', false, false, null),
('user_gus', 'gus', false, true, null);

insert into clerk_sync.entities (kind, id, version, deleted_at)
values
('user', 'user_dan', row(1, 1, 1), 1),
('user', 'user_pam', row(1, 1, 1), 1);

insert into clerk.organizations (clerk_org_id, name, deleted_at)
values
('org_labs', 'Labs', null),
('org_eves', 'Eves', null),
('org_closed', 'Closed', '2026-01-01');

insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role, deleted_at)
values
('mem_ada', 'org_labs', 'user_ada', 'org:admin', null),
('mem_bea', 'org_labs', 'user_bea', 'org:admin', null),
('mem_bob', 'org_labs', 'user_bob', 'org:member', null),
('mem_carl', 'org_labs', 'user_carl', 'org:admin', '2026-01-01'),
('mem_closed', 'org_closed', 'user_ada', 'org:admin', '2026-01-01'),
('mem_dan', 'org_labs', 'user_dan', 'org:admin', '2026-01-01'),
('mem_ed', 'org_labs', 'user_ed', 'org:editor', null),
('mem_eve', 'org_eves', 'user_eve', 'org:admin', null),
('mem_gus', 'org_labs', 'user_gus', 'org:admin', null);

-- Ed's role is a custom one.
update clerk.organization_memberships set permissions = array['org:sys_domains:read', 'org:docs:edit']
where clerk_membership_id = 'mem_ed';

insert into clerk.organization_invitations (clerk_invitation_id, clerk_org_id, email_address, role, deleted_at)
values
('inv_closed', 'org_closed', 'zoe@example.com', 'org:member', '2026-01-01'),
('inv_eves', 'org_eves', 'zoe@example.com', 'org:member', null),
('inv_labs', 'org_labs', 'zoe@example.com', 'org:member', null);

insert into clerk.organization_domains (clerk_domain_id, clerk_org_id, name, deleted_at)
values
('dmn_closed', 'org_closed', 'closed.example', '2026-01-01'),
('dmn_eves', 'org_eves', 'eves.example', null),
('dmn_labs', 'org_labs', 'labs.example', null);

-- The kinds of token that Clerk makes: session tokens of either version, and tokens of the old template for Supabase.
create table tap.versions (version text);

insert into tap.versions (version) values ('v1'), ('v2'), ('legacy');

-- The claims of somebody's token, with an active organization and a role there if given (without its prefix).
create function tap.token(
    version text, person text, organization text default null, organization_role text default null
)
returns text
language sql
return jsonb_strip_nulls(
    jsonb_build_object('sub', 'user_' || person, 'role', 'authenticated')
    || case version
        when 'v2'
            then
                jsonb_build_object(
                    'v', 2, 'sid', 'sess_1', 'sts', 'active',
                    'o', case
                        when organization is not null
                            then jsonb_build_object('id', organization, 'rol', organization_role, 'slg', 'slug')
                    end
                )
        when 'v1'
            then
                jsonb_build_object(
                    'sid',
                    'sess_1',
                    'org_id',
                    organization,
                    'org_role',
                    'org:' || organization_role,
                    'org_permissions',
                    '[]'
                )
        else jsonb_build_object(
            'aud',
            'authenticated',
            'app_metadata',
            '{}',
            'org_id',
            organization,
            'org_role',
            'org:' || organization_role
        )
    end
)::text;

-- Everybody, with each kind of token. Each token says that its user is an admin of an organization, which the user is
-- in, was in, or would like to be in: a token can be a minute old.
create table tap.callers (caller text, version text, claims text);

insert into tap.callers (caller, version, claims)
select
    token.person,
    kind.version,
    tap.token(kind.version, token.person, token.organization, 'admin')
from (
    values
    ('ada', 'org_labs'), ('bea', 'org_labs'), ('bob', 'org_labs'), ('carl', 'org_labs'), ('dan', 'org_labs'),
    ('ed', 'org_labs'), ('eve', 'org_eves'), ('gus', 'org_labs'), ('ned', 'org_labs'), ('pam', 'org_labs')
) as token (person, organization)
cross join tap.versions as kind;

-- Tokens that name nobody.
insert into tap.callers (caller, version, claims)
select
    'nobody',
    coalesce(given.claims, 'no claims'),
    given.claims
from (
    values
    (null), (''), ('{}'), ('null'), ('5'), ('true'), ('[]'), ('"user_ada"'), ('not json'), ('{'), ('NaN'),
    ('{"sub": "user_ada"'), ('["sub", "user_ada"]'), ('[{"sub": "user_ada"}]'), ('{"o": {"sub": "user_ada"}}'),
    ('{"sub": null}'), ('{"sub": ""}'), ('{"sub": 5}'), ('{"sub": true}'), ('{"sub": ["user_ada"]}'),
    ('{"sub": {"user_ada": 1}}'), ('{"Sub": "user_ada"}'), ('{"user_id": "user_ada"}'), ('{"sub": "user_"}'),
    ('{"sub": "USER_ADA"}'), ('{"sub": " user_ada"}'), ('{"sub": "user_ada "}'), ('{"sub": "user_ada\n"}'),
    ('{"sub": "user_ada\u0000"}'), ('{"sub": "%"}'), ('{"sub": "mch_ada"}'),
    ('{"sub": "6f2d6f3e-0000-4000-8000-000000000001", "role": "authenticated"}'),
    ('{"sub": "user_ada", "sts": "pending"}'),
    ('{"sub": "user_ada", "sts": 5}'),
    ('{"sub": "user_ada", "x": 1e999999}'),
    ('{"sub": "user_' || repeat('a', 251) || '"}'), (repeat('[', 100000))
) as given (claims);

update tap.callers set version = left(version, 60);
