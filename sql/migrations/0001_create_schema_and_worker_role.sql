-- The two schemas, the list of applied migrations, and the role the sync function logs in with.

create schema if not exists clerk_sync;

comment on schema clerk_sync is 'clerk-supabase-sync: its machinery. Never expose it through the API.';

revoke all on schema clerk_sync from public, anon, authenticated, service_role;

-- Each migration writes its own name: `clerk-supabase migrate`, psql and `supabase db push` agree on what is applied.
create table if not exists clerk_sync.migrations (
    name text primary key,
    checksum text,
    applied_at timestamptz not null default now()
);

comment on column clerk_sync.migrations.checksum is
'SHA-256 of the file, written by `clerk-supabase migrate`; null when another tool applied it.';

alter table clerk_sync.migrations enable row level security;

-- A tool with its own list of migrations does not know the migrations applied by another tool, and begins with this
-- file again.
do $$
declare
    applied text;
begin
    select string_agg(split_part(m.name, '_', 1), ' ' order by m.name) into applied
    from clerk_sync.migrations as m;

    if applied is not null then
        raise duplicate_object using message = format(
            'these migrations were applied by another tool; Supabase''s is told so with: '
            'supabase migration repair --status applied %s',
            applied
        );
    end if;
end
$$;

-- The tables and functions for the app. No object of this project depends on a name in another schema of the app.
create schema clerk;

comment on schema clerk is 'clerk-supabase-sync: Clerk''s users and organizations, kept true. Read-only for the app.';

revoke all on schema clerk from public, anon, authenticated, service_role;
grant usage on schema clerk to anon, authenticated, service_role;

-- Name of the schema of these tables. `clerk-supabase migrate --render` writes all files for another name.
create function clerk_sync.mirror_schema()
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select 'clerk'
$$;

-- Revokes the rights of PUBLIC and of the API's roles on everything in clerk_sync except what policies need: the
-- functions requesting_...() and the views. Postgres lets every role execute a new function and use a new type, and the
-- project's default privileges may grant more. So every migration ends with a call of this function, and then grants by
-- name.
create function clerk_sync.revoke_default_rights()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    thing text;
begin
    for thing in
        with things as (
            select
                'routine ' || p.oid::regprocedure::text as name,
                coalesce(p.proacl, acldefault('f', p.proowner)) as rights
            from pg_catalog.pg_proc as p
            where p.pronamespace = 'clerk_sync'::regnamespace and p.proname not like 'requesting\_%'
            union all
            select
                case c.relkind when 'S' then 'sequence ' else 'table ' end || c.oid::regclass::text,
                coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
            from pg_catalog.pg_class as c
            where c.relnamespace = 'clerk_sync'::regnamespace and c.relkind in ('r', 'S')
            union all
            select 'type ' || t.oid::regtype::text, coalesce(t.typacl, acldefault('T', t.typowner))
            from pg_catalog.pg_type as t
            where t.typnamespace = 'clerk_sync'::regnamespace and t.typtype in ('c', 'e')
        )

        select t.name from things as t
        where exists (
            select from aclexplode(t.rights) as a
            where a.grantee in (0, 'anon'::regrole, 'authenticated'::regrole, 'service_role'::regrole)
        )
    loop
        execute format('revoke all on %s from public, anon, authenticated, service_role', thing);
    end loop;
end
$$;

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'clerk_sync_worker') then
        create role clerk_sync_worker login noinherit;
    end if;
exception
    -- Roles belong to the whole cluster: another database may have created this role a moment ago.
    when duplicate_object or unique_violation then null;
end
$$;

-- Limits belong to the role, not to the session: the limits hold through a transaction pooler too.
alter role clerk_sync_worker set statement_timeout = '15s';
alter role clerk_sync_worker set lock_timeout = '5s';
alter role clerk_sync_worker set idle_in_transaction_session_timeout = '15s';

grant usage on schema clerk_sync to clerk_sync_worker;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0001_create_schema_and_worker_role');
