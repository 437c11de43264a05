-- The last statement of Supabase's guide on functions, for an owner who wants to grant by name, for each schema with
-- functions of apps. The statement also revokes grants by name. Run this file as the owner, after the migrations.
-- https://supabase.com/docs/guides/database/functions

revoke execute on all functions in schema public, clerk from public, anon, authenticated;
