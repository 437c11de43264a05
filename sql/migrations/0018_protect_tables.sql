-- Row-level security: which rows a caller of Supabase's API sees and writes.

-- The views that policies query. A policy on memberships would recurse without end if its own query of memberships were
-- subject to the policy, so these views read as their owner. The views tell callers about themselves only, and only
-- policies can read them: the API's roles have no right to use this schema. Security definer functions would not do,
-- because every caller to whom a policy applies would need the right to call them.

-- The caller, while allowed to see anything: no row after the user was deleted, banned or deprovisioned, whatever the
-- token says. A user whose row has not arrived yet counts as a caller.
create view clerk_sync.caller with (security_barrier) as
select asked.clerk_id
from clerk_sync.requesting_user_id() as asked (clerk_id)
where
    asked.clerk_id is not null
    and not exists (
        select from clerk_sync.entities as e
        where e.kind = 'user' and e.id = asked.clerk_id and e.deleted_at is not null
    )
    and not exists (
        select from clerk.users as u
        where u.clerk_id = asked.clerk_id and (u.banned or u.deprovisioned or u.deleted_at is not null)
    );

-- Deleted organizations and users with child rows that are not hidden yet: nearly always none.
create view clerk_sync.organizations_half_deleted with (security_barrier) as
select u.id as clerk_org_id
from clerk_sync.unfinished_deletes as u
where u.kind = 'organization' and u.is_deleted;

create view clerk_sync.users_half_deleted with (security_barrier) as
select u.id as clerk_id
from clerk_sync.unfinished_deletes as u
where u.kind = 'user' and u.is_deleted;

-- The role org:admin holds all of Clerk's own permissions unless its row names some of them: the row can be older than
-- its column, or list only the permissions defined by the app. Any other role holds what its row names.
create view clerk_sync.memberships_of_caller with (security_barrier) as
select
    m.clerk_org_id,
    m.role,
    case
        when m.role = 'org:admin' and array_to_string(m.permissions, ' ') not like '%org:sys\_%'
            then
                m.permissions
                || array['org:sys_memberships:manage', 'org:sys_domains:manage', 'org:sys_billing:manage']
        else m.permissions
    end as permissions
from clerk.organization_memberships as m
where
    m.clerk_user_id = (select c.clerk_id from clerk_sync.caller as c) and m.deleted_at is null
    and m.clerk_org_id <> all(array(select h.clerk_org_id from clerk_sync.organizations_half_deleted as h));

-- The token says which organization is active; the synced row says whether the caller is a member, and with which role.
create view clerk_sync.active_membership_of_caller with (security_barrier) as
select
    m.clerk_org_id,
    m.role
from clerk.organization_memberships as m
where
    m.clerk_user_id = (select c.clerk_id from clerk_sync.caller as c)
    and m.clerk_org_id = (select clerk_sync.requesting_organization_id())
    and m.deleted_at is null
    and m.clerk_org_id <> all(array(select h.clerk_org_id from clerk_sync.organizations_half_deleted as h));

-- Who sees whose profile in users_public: one row, written by set_profile_visibility().
create table clerk_sync.profile_visibility (
    is_the_only_row boolean primary key default true check (is_the_only_row),
    visible_to text not null check (visible_to in ('everybody', 'organizations', 'nobody'))
);

alter table clerk_sync.profile_visibility enable row level security;

insert into clerk_sync.profile_visibility (visible_to) values ('everybody');

-- One row while every signed-in user sees every profile. A database without the setting, such as a restored schema
-- without rows, shows each user only the user's own profile.
create view clerk_sync.everybody_sees_profiles with (security_barrier) as
select true as is_so
from clerk_sync.profile_visibility as v
where v.visible_to = 'everybody';

-- The caller and, while the setting says `organizations`, the members of the caller's organizations. A member of
-- several of these organizations is listed several times. The caller is asked for once: a query of a page starts the
-- whole plan, also where everybody sees everybody, and a second caller would cost a sixth of its time.
create view clerk_sync.profiles_of_caller with (security_barrier) as
with asking as (
    select c.clerk_id from clerk_sync.caller as c
)

select a.clerk_id
from asking as a
union all
select m.clerk_user_id
from clerk.organization_memberships as m
where
    m.deleted_at is null
    and m.clerk_org_id = any(
        array(
            select own.clerk_org_id from clerk.organization_memberships as own
            where
                own.clerk_user_id = (select a.clerk_id from asking as a) and own.deleted_at is null
                and own.clerk_org_id
                <> all(array(select h.clerk_org_id from clerk_sync.organizations_half_deleted as h))
        )
    )
    and (select v.visible_to from clerk_sync.profile_visibility as v) = 'organizations';

revoke all on clerk_sync.caller, clerk_sync.memberships_of_caller, clerk_sync.active_membership_of_caller,
clerk_sync.everybody_sees_profiles, clerk_sync.profiles_of_caller, clerk_sync.organizations_half_deleted,
clerk_sync.users_half_deleted
from public, anon, authenticated, service_role;
grant select (is_so) on clerk_sync.everybody_sees_profiles to authenticated;
grant select (clerk_id) on clerk_sync.profiles_of_caller to authenticated;
grant select (clerk_id) on clerk_sync.users_half_deleted to authenticated;
grant select (clerk_id) on clerk_sync.caller to authenticated;
grant select (clerk_org_id, role, permissions) on clerk_sync.memberships_of_caller to authenticated;
grant select (clerk_org_id, role) on clerk_sync.active_membership_of_caller to authenticated;

create policy users_read_own on clerk.users
for select to authenticated
using (deleted_at is null and clerk_id = (select c.clerk_id from clerk_sync.caller as c));

-- At first login the app need not wait for the webhook. Only clerk_id can be given: the row is the same stub as sync
-- makes for an unknown parent, so the order of the two does not matter.
create policy users_insert_own on clerk.users
for insert to authenticated
with check (clerk_id = (select c.clerk_id from clerk_sync.caller as c));

-- Gives the stub the version of a stub, the lowest, which every event overrides; and refuses the row of a deleted user,
-- even if the delete is applied at this moment: insert and delete wait for each other at the entity. Security definer:
-- no role may write entities by hand. Only a trigger can call this function.
create function clerk_sync.enter_first_login()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    tombstone bigint;
begin
    insert into clerk_sync.entities as known (kind, id, version)
    values ('user', new.clerk_id, row(0, 0, -9223372036854775808))
    on conflict (kind, id) do update set deleted_at = known.deleted_at
    returning known.deleted_at into tombstone;

    if tombstone is not null then
        raise insufficient_privilege using message = 'this user was deleted in Clerk';
    end if;
    return new;
end
$$;

-- Not for sync or the owner, because both insert whole rows; and not for the id of another user, which the policy
-- refuses.
create trigger users_enter_first_login before insert on clerk.users
for each row
when (
    current_user = 'service_role'
    -- Without claims no caller is looked up, row by row. A null would not end the evaluation of this condition.
    or (
        coalesce(current_setting('request.jwt.claims', true), '') <> ''
        and new.clerk_id = clerk_sync.requesting_user_id()
    )
)
execute function clerk_sync.enter_first_login();

-- For many profiles Postgres reads profiles_of_caller once into a hash table, for few profiles by the index; while
-- everybody sees everybody, not at all.
create policy users_public_read_signed_in on clerk.users_public
for select to authenticated
using (
    deleted_at is null
    and (select c.clerk_id from clerk_sync.caller as c) is not null
    and (
        (select e.is_so from clerk_sync.everybody_sees_profiles as e)
        or exists (
            select from clerk_sync.profiles_of_caller as p
            where p.clerk_id = users_public.clerk_id
        )
    )
);

-- Sets who sees whose profile in users_public, from the next statement of each user on: `everybody` who is signed in,
-- the members of a shared organization (`organizations`), or `nobody` but the user. For the owner of the database.
create function clerk_sync.set_profile_visibility(audience text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if audience is null or audience not in ('everybody', 'organizations', 'nobody') then
        raise invalid_parameter_value
            using message = 'profiles are visible to ''everybody'', ''organizations'' or ''nobody''';
    end if;
    insert into clerk_sync.profile_visibility as v (visible_to) values (audience)
    on conflict (is_the_only_row) do update set visible_to = excluded.visible_to;
end
$$;

create policy organizations_read_as_member on clerk.organizations
for select to authenticated
using (
    deleted_at is null
    and clerk_org_id = any(array(select m.clerk_org_id from clerk_sync.memberships_of_caller as m))
);

-- Other members see no row of a deleted user; the user's other rows are seen by the user alone.
create policy organization_memberships_read_as_member on clerk.organization_memberships
for select to authenticated
using (
    deleted_at is null
    and clerk_user_id <> all(array(select h.clerk_id from clerk_sync.users_half_deleted as h))
    and clerk_org_id = any(array(select m.clerk_org_id from clerk_sync.memberships_of_caller as m))
);

-- By permission, as in Clerk's own components, because a custom role may hold the permission. Tokens do not count:
-- Clerk puts none of its own permissions (org:sys_...) into a token.
create policy organization_invitations_read_by_permission on clerk.organization_invitations
for select to authenticated
using (
    deleted_at is null
    and clerk_org_id = any(
        array(
            select m.clerk_org_id from clerk_sync.memberships_of_caller as m
            where 'org:sys_memberships:manage' = any(m.permissions)
        )
    )
);

create policy organization_domains_read_by_permission on clerk.organization_domains
for select to authenticated
using (
    deleted_at is null
    and clerk_org_id = any(
        array(
            select m.clerk_org_id from clerk_sync.memberships_of_caller as m
            where m.permissions && array['org:sys_domains:read', 'org:sys_domains:manage']
        )
    )
);

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0018_protect_tables');
