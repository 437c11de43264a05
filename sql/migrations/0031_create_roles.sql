-- The roles of the instance, each with its permissions.

create table clerk.roles (
    clerk_role_id text primary key,
    key text,
    name text,
    description text,
    is_creator_eligible boolean not null default false,
    permissions text[] not null default '{}',
    permission_ids text[] not null default '{}',
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.roles is 'One row per role of the Clerk instance. Every signed-in user reads it.';
comment on column clerk.roles.key is 'Always spelled org:<role>, as in organization_memberships.role.';
comment on column clerk.roles.permissions is
'Keys of the permissions, as the newest event of the role or comparison says: a key may have changed since.';
comment on column clerk.roles.permission_ids is
'Ids of the permissions: join permissions by these ids for the present keys.';
comment on column clerk.roles.is_creator_eligible is 'Whether the creator of an organization may get the role.';

create index roles_key_idx on clerk.roles (key);
-- Comparisons with Clerk walk its lists in the order of creation.
create index roles_created_idx on clerk.roles (created_at) where deleted_at is null;

create trigger roles_keep_key before update on clerk.roles
for each row when (old.clerk_role_id <> new.clerk_role_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.roles enable row level security;
revoke all on clerk.roles from public, anon, authenticated, service_role;
grant select on clerk.roles to authenticated;
grant select, insert, update, delete on clerk.roles to service_role;

-- As with permissions.
create policy roles_read_signed_in on clerk.roles
for select to authenticated
using (deleted_at is null and (select c.clerk_id from clerk_sync.caller as c) is not null);

select clerk_sync.register('role', 7, 'clerk.roles', 'clerk_role_id', is_read_by_id => true);

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0031_create_roles');
