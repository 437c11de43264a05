create table public.roles (
    clerk_role_id text collate "C" primary key,
    key text,
    name text,
    description text,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

alter table public.roles enable row level security;
revoke all on public.roles from public, anon, authenticated, service_role;
grant select, insert, update, delete on public.roles to service_role;

select clerk_sync.register('role', 9002, 'public.roles', 'clerk_role_id', is_read_by_id => true);

insert into clerk_sync.migrations (name) values ('9002_create_roles');
