-- Avatars in Storage. Run it after the tables of the app.

-- A public bucket: everybody who knows the address sees the picture. Supabase checks the size and the type.
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('avatars', 'avatars', true, 1000000, '{image/png,image/jpeg,image/webp}')
on conflict (id) do nothing;

-- Each user writes into the folder with their own id alone.
select clerk_sync.secure_bucket('avatars', 'user', read_by => 'everybody');

-- Which users have an avatar. Only they may list their files, and every signed-in user reads this table.
create table public.avatars (
    user_id text primary key,
    changed_at timestamptz not null default now()
);

select clerk_sync.secure('public.avatars', 'user');

alter policy clerk_sync_select on public.avatars
using ((select c.clerk_id from clerk_sync.caller as c) is not null);
