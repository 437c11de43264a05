-- The to-do list of Clerk's guide for Supabase: each user has their own tasks.
-- https://clerk.com/docs/guides/development/integrations/databases/supabase

create table if not exists public.tasks (
    id bigint generated always as identity primary key,
    name text not null,
    is_done boolean not null default false,
    created_at timestamptz not null default now()
);

select clerk_sync.secure('public.tasks', 'user');
