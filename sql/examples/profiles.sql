-- Profiles with an owner, public or private: everybody reads the public profiles, also without signing in, and only the
-- owner reads a private profile. Only the owner writes a profile.

create table if not exists public.profiles (
    user_id text primary key,
    display_name text not null,
    about text,
    is_public boolean not null default false
);

create index if not exists profiles_public_idx on public.profiles (display_name) where is_public;

-- Drops the policy of an earlier run of this file: secure() refuses a table with policies that allow more.
drop policy if exists profiles_read_public on public.profiles;

select clerk_sync.secure('public.profiles', 'user');

-- Wider than the policy of secure(), in the same policy: Postgres would check each of several policies for a role.
alter policy clerk_sync_select on public.profiles
using (is_public or user_id = (select c.clerk_id from clerk_sync.caller as c));

create policy profiles_read_public on public.profiles
for select to anon
using (is_public);

grant select on public.profiles to anon;

-- The owner may change every column except the owner of the profile.
revoke update on public.profiles from authenticated;
grant update (display_name, about, is_public) on public.profiles to authenticated;
