-- Profiles that their owners may publish: everybody reads the public ones, also without signing in, and only the owner
-- reads a private one. Only the owner writes theirs.

create table if not exists public.profiles (
    user_id text primary key,
    display_name text not null,
    about text,
    is_public boolean not null default false
);

create index if not exists profiles_public_idx on public.profiles (display_name) where is_public;

-- Again, should the lines below have been run before: secure() refuses a table with policies that allow more.
drop policy if exists profiles_read_public on public.profiles;

select clerk_sync.secure('public.profiles', 'user');

-- Wider than secure() makes it: one policy for each role, as several would all be asked.
alter policy clerk_sync_select on public.profiles
using (is_public or user_id = (select c.clerk_id from clerk_sync.caller as c));

create policy profiles_read_public on public.profiles
for select to anon
using (is_public);

grant select on public.profiles to anon;

-- The owner may change everything but whose profile it is.
revoke update on public.profiles from authenticated;
grant update (display_name, about, is_public) on public.profiles to authenticated;
