-- The parts of Supabase that a plain Postgres lacks: the API's roles and `auth.jwt()`.
-- Run this file before the migrations, only where the database is not Supabase. Safe to run twice.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
exception
    -- Roles belong to the whole cluster: another database may have created them a moment ago.
    when duplicate_object or unique_violation then null;
end
$$;

alter role service_role bypassrls;

grant usage on schema public to anon, authenticated, service_role;

create schema if not exists auth;

grant usage on schema auth to anon, authenticated, service_role;

-- The claims of the caller's token, as PostgREST leaves them in the transaction's settings.
create or replace function auth.jwt()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
