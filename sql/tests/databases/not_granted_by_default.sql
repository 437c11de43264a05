-- Supabase's default privileges since 30 October 2026: as before, but without rights to read, write or execute.
-- Run this file as the owner, before the migrations.

alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public revoke select, insert, update, delete on tables
from anon, authenticated, service_role;
alter default privileges in schema public grant update on sequences to anon, authenticated, service_role;
