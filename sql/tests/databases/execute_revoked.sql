-- The statement that Supabase's guide on functions ends with, for who wants to grant by name. It takes grants by name
-- away, too. Run it as the owner, after the migrations.
-- https://supabase.com/docs/guides/database/functions

revoke execute on all functions in schema public from public, anon, authenticated;
