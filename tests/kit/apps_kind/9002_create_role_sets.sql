create table public.role_sets (
    clerk_role_set_id text collate "C" primary key,
    key text,
    name text,
    description text,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

alter table public.role_sets enable row level security;
revoke all on public.role_sets from public, anon, authenticated, service_role;
grant select, insert, update, delete on public.role_sets to service_role;

select clerk_sync.register('role_set', 9002, 'public.role_sets', 'clerk_role_set_id', is_read_by_id => true);

insert into clerk_sync.migrations (name) values ('9002_create_role_sets');
