-- Supabase's default privileges until 30 October 2026: the API's roles get all rights on every new object of the owner
-- in public. The statements without a schema also concern the schema clerk, which the migrations make later.
-- Run this file as the owner, before the migrations.

alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges grant all on schemas to anon, authenticated, service_role;
alter default privileges grant all on tables to anon, authenticated, service_role;
alter default privileges grant all on functions to anon, authenticated, service_role;
alter default privileges grant all on sequences to anon, authenticated, service_role;
alter default privileges grant all on types to anon, authenticated, service_role;
