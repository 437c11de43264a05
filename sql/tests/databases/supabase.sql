-- The other parts of Supabase that matter here, for tests on a plain Postgres: roles with their attributes and
-- memberships, the schemas with the tables and functions used by policies, and an owner of the database without
-- superuser rights.
-- Run this file as superuser after plain_postgres.sql, in a new database. The owner is called project_owner, because in
-- an embedded Postgres the superuser is called postgres. Supabase's extension supautils, which forbids some statements
-- and allows others, is missing.

do $$
declare
    role_name text;
    attributes text;
begin
    for role_name, attributes in
        values
        ('project_owner', 'login createdb createrole replication bypassrls'),
        ('authenticator', 'login noinherit'),
        ('supabase_auth_admin', 'login noinherit'),
        ('supabase_storage_admin', 'login noinherit createrole'),
        ('supabase_realtime_admin', 'login noinherit createrole replication'),
        ('supabase_read_only_user', 'login bypassrls'),
        ('dashboard_user', 'nologin createdb createrole replication')
    loop
        -- Roles belong to the whole server.
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('create role %I %s', role_name, attributes);
        end if;
    end loop;
    -- The inheritance of rights follows from the attributes.
    grant anon, authenticated, service_role, authenticator to project_owner with admin option;
    grant pg_monitor, pg_read_all_data, pg_signal_backend to project_owner with admin option;
    grant anon, authenticated, service_role to authenticator, supabase_realtime_admin;
    grant authenticator to supabase_storage_admin;
    grant supabase_storage_admin, supabase_realtime_admin to project_owner;
    grant pg_read_all_data to supabase_read_only_user;
    execute format('alter database %I owner to project_owner', current_database());
    execute format('grant create on database %I to supabase_auth_admin, supabase_realtime_admin', current_database());
end
$$;

alter role project_owner set search_path = "$user", public, extensions;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';

-- Schemas of Supabase's own

create schema extensions;
create schema graphql_public;
create schema storage;
create schema realtime;

grant usage on schema auth, graphql_public, storage, realtime, extensions
to project_owner, anon, authenticated, service_role;
grant create on schema extensions to project_owner;
grant create, usage on schema auth to supabase_auth_admin;
grant create, usage on schema storage to supabase_storage_admin;
grant create, usage on schema realtime, public to supabase_realtime_admin;

-- The functions of auth run as the caller, have no search_path, and may be executed by everybody.
create or replace function auth.jwt()
returns jsonb
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

alter function auth.jwt() reset all;
alter function auth.jwt() owner to supabase_auth_admin;

create function auth.uid()
returns uuid
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;

alter function auth.uid() owner to supabase_auth_admin;

create function auth.role()
returns text
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
$$;

alter function auth.role() owner to supabase_auth_admin;

create table auth.users (
    id uuid primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    phone text unique,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    created_at timestamptz,
    deleted_at timestamptz,
    is_anonymous boolean not null default false
);

alter table auth.users owner to supabase_auth_admin;
alter table auth.users enable row level security;
grant all on auth.users to project_owner, dashboard_user;

create table storage.buckets (
    id text primary key,
    name text not null unique,
    owner uuid,
    public boolean default false,
    owner_id text,
    created_at timestamptz default now()
);

create table storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner uuid,
    metadata jsonb,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    owner_id text,
    created_at timestamptz default now()
);

create unique index bucketid_objname on storage.objects (bucket_id, name);

alter table storage.buckets owner to supabase_storage_admin;
alter table storage.objects owner to supabase_storage_admin;
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
grant all on storage.buckets, storage.objects to anon, authenticated, service_role;
grant all on storage.buckets, storage.objects to project_owner with grant option;

create function storage.foldername(name text)
returns text[]
language sql
immutable
as $$
    select (string_to_array(name, '/'))[1:cardinality(string_to_array(name, '/')) - 1]
$$;

alter function storage.foldername(text) owner to supabase_storage_admin;

create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(),
    primary key (id, inserted_at)
) partition by range (inserted_at);

create table realtime.subscription (
    id bigint generated always as identity primary key,
    subscription_id uuid not null,
    entity regclass not null,
    claims jsonb not null
);

alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.subscription owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages, realtime.subscription to project_owner, dashboard_user;

create function realtime.topic()
returns text
language sql
stable
as $$
    select nullif(current_setting('realtime.topic', true), '')
$$;

alter function realtime.topic() owner to supabase_realtime_admin;

create publication supabase_realtime;
alter publication supabase_realtime owner to project_owner;
