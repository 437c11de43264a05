-- clerk_sync.set_profile_visibility(): whose profiles each caller sees in clerk.users_public.

-- Ada and Eve share a second organization; Ned has just signed up.
insert into clerk.users (clerk_id, username) values ('user_ned', 'ned');
insert into clerk.organizations (clerk_org_id, name) values ('org_both', 'Both');
insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
values ('mem_both_ada', 'org_both', 'user_ada', 'org:member'), ('mem_both_eve', 'org_both', 'user_eve', 'org:member');

create table tap.expected (audience text, caller text, sees text);
insert into tap.expected (audience, caller, sees)
select
    'everybody',
    c.caller,
    case
        when c.caller not in ('bea', 'dan', 'gus', 'pam', 'nobody')
            then 'user_ada user_bea user_bob user_carl user_ed user_eve user_gus user_ned'
        else ''
    end
from (select distinct t.caller from tap.callers as t) as c;
insert into tap.expected (audience, caller, sees)
values
('organizations', 'ada', 'user_ada user_bea user_bob user_ed user_eve user_gus'),
('organizations', 'bob', 'user_ada user_bea user_bob user_ed user_gus'),
('organizations', 'eve', 'user_ada user_eve'),
('organizations', 'carl', 'user_carl'),
('organizations', 'ned', 'user_ned'),
('organizations', 'bea', ''),
('organizations', 'dan', ''),
('organizations', 'gus', ''),
('organizations', 'pam', ''),
('organizations', 'nobody', ''),
('nobody', 'ada', 'user_ada'),
('nobody', 'ned', 'user_ned'),
('nobody', 'bea', ''),
('nobody', 'dan', ''),
('nobody', 'nobody', '');

create function tap.seen_when(audience text, claims text, query text)
returns text
language plpgsql
as $$
begin
    perform clerk_sync.set_profile_visibility(audience);
    return tap.seen('authenticated', claims, query);
end
$$;

select
    tap.is(
        tap.seen_when(e.audience, c.claims, 'select clerk_id from clerk.users_public'),
        e.sees,
        format('profiles for %s, seen by %s %s', e.audience, c.caller, c.version)
    )
from tap.expected as e
inner join tap.callers as c on e.caller = c.caller;

-- Names beside memberships, as the API embeds them.
select
    tap.is(
        tap.seen_when(
            a.audience, tap.token('v2', 'ada'),
            'select coalesce(p.username, ''hidden'') from clerk.organization_memberships as m '
            || 'left join lateral (select * from clerk.users_public as u '
            || 'where u.clerk_id = m.clerk_user_id) as p on true '
            || 'where m.clerk_org_id = ''org_labs'''
        ),
        a.names,
        'names of members for ' || a.audience
    )
from (
    values
    ('organizations', 'ada bea bob ed gus'), ('nobody', 'ada hidden hidden hidden hidden')
) as a (audience, names);

-- A schema that was restored without its rows.
create function tap.seen_without_setting()
returns text
language plpgsql
as $$
begin
    delete from clerk_sync.profile_visibility where true;
    return tap.seen('authenticated', tap.token('v2', 'ada'), 'select clerk_id from clerk.users_public');
end
$$;
select tap.is(tap.seen_without_setting(), 'user_ada', 'without the setting nobody sees the profile of another');

-- Only the owner of the database changes or reads the setting.
select
    tap.is(
        tap.attempt(r.role_name, tap.token('v2', 'ada'), s.statement), 'denied', s.statement || ' by ' || r.role_name
    )
from (values ('anon'), ('authenticated'), ('service_role'), ('clerk_sync_worker')) as r (role_name)
cross join (
    values
    ('select clerk_sync.set_profile_visibility(''everybody'')'),
    ('update clerk_sync.profile_visibility set visible_to = ''everybody'''),
    ('select * from clerk_sync.profile_visibility'),
    ('select * from clerk_sync.profiles_of_caller')
) as s (statement);
select
    tap.is(
        tap.attempt('none', null, format('select clerk_sync.set_profile_visibility(%L)', wrong.audience)),
        '22023',
        coalesce(wrong.audience, 'null') || ' is no setting'
    )
from (values (null), (''), ('Everybody'), ('organization')) as wrong (audience);

-- A caller in a large organization: many profiles by a hash table, a single profile by the indexes.
insert into clerk.users (clerk_id) select 'user_' || n from generate_series(1, 5000) as n;
insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
select
    'mem_' || n,
    'org_both',
    'user_' || n,
    'org:member'
from generate_series(1, 5000) as n;
insert into clerk_sync.entities (kind, id, version)
select
    'user',
    'user_' || n,
    row(1, 1, 1)::clerk_sync.version
from generate_series(1, 5000) as n;
select from clerk_sync.set_profile_visibility('organizations');
analyze clerk.users, clerk.users_public, clerk.organization_memberships, clerk_sync.entities;
select tap.ok(p.plan ~ 'hashed SubPlan' and p.plan !~ '\(SubPlan', 'many profiles: ' || p.plan)
from tap.plan('authenticated', tap.token('v2', 'ada'), 'select * from clerk.users_public') as p (plan);
select
    tap.ok(
        p.plan ~ 'users_public_pkey'
        and p.plan ~ 'Cond: \(clerk_user_id = p?\.?'
        and p.plan !~ 'Seq Scan on (users|organization)',
        'a profile: ' || p.plan
    )
from tap.plan(
    'authenticated', tap.token('v2', 'ada'), 'select * from clerk.users_public where clerk_id = ''user_9'''
) as p (plan);

select tap.finish();
rollback;
