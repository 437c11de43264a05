-- The permissions of the instance's roles.

create table clerk.permissions (
    clerk_permission_id text primary key,
    key text,
    name text,
    description text,
    type text,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.permissions is 'One row per permission of the Clerk instance. Every signed-in user reads it.';
comment on column clerk.permissions.key is 'Spelled org:<feature>:<permission>; another permission may have it later.';
comment on column clerk.permissions.type is 'Free text of Clerk''s: system for its own permissions.';

create index permissions_key_idx on clerk.permissions (key);
-- Comparisons with Clerk walk its lists in the order of creation.
create index permissions_created_idx on clerk.permissions (created_at) where deleted_at is null;

create trigger permissions_keep_key before update on clerk.permissions
for each row when (old.clerk_permission_id <> new.clerk_permission_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.permissions enable row level security;
revoke all on clerk.permissions from public, anon, authenticated, service_role;
grant select on clerk.permissions to authenticated;
grant select, insert, update, delete on clerk.permissions to service_role;

-- The instance's own vocabulary: no row is about a person or an organization, and the page on which a member chooses a
-- role needs the names. A banned or deleted user reads nothing.
create policy permissions_read_signed_in on clerk.permissions
for select to authenticated
using (deleted_at is null and (select c.clerk_id from clerk_sync.caller as c) is not null);

select clerk_sync.register('permission', 6, 'clerk.permissions', 'clerk_permission_id', is_read_by_id => true);

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0030_create_permissions');
