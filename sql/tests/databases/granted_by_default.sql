-- Supabase's default privileges until 30 October 2026: the API's roles get all rights on every new object of the owner
-- in public.
-- Run this file as the owner, before the migrations.

alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
