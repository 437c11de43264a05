-- Clerk's users as the app sees them through Supabase's API.

-- The Clerk id of the caller, or null when nobody is signed in.
create function public.requesting_user_id()
returns text
language sql
stable
set search_path = ''
as $$
    select nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')
$$;

comment on function public.requesting_user_id() is
'Clerk user id from the token. In policies write (select requesting_user_id()): once per statement, not per row.';

-- Room on each page lets an update stay on it (HOT) and leave the indexes alone.
create table public.users (
    clerk_id text primary key,
    external_id text,
    username text,
    first_name text,
    last_name text,
    email text,
    email_verified boolean not null default false,
    phone text,
    phone_verified boolean not null default false,
    image_url text,
    has_image boolean not null default false,
    locale text,
    public_metadata jsonb not null default '{}',
    unsafe_metadata jsonb not null default '{}',
    email_addresses jsonb not null default '[]',
    phone_numbers jsonb not null default '[]',
    web3_wallets jsonb not null default '[]',
    external_accounts jsonb not null default '[]',
    password_enabled boolean not null default false,
    two_factor_enabled boolean not null default false,
    banned boolean not null default false,
    locked boolean not null default false,
    legal_accepted_at timestamptz,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table public.users is 'One row per Clerk user, written by clerk-supabase-sync. A user reads their own row.';
comment on column public.users.unsafe_metadata is 'Writable by the user in the browser: never decide access by it.';
comment on column public.users.created_at is 'Clerk''s clock.';
comment on column public.users.deleted_at is 'Clerk''s clock. A row with it is hidden by every policy.';

-- No unique index on what Clerk may change or reuse: two rows may hold the same value for a moment.
create index users_email_idx on public.users (email);
create index users_username_idx on public.users (username);
create index users_external_id_idx on public.users (external_id);
create index users_created_at_idx on public.users (created_at);

alter table public.users enable row level security;

-- Supabase grants everything on new tables to the API's roles; start from nothing.
revoke all on public.users from public, anon, authenticated;
grant select on public.users to authenticated;
grant all on public.users to service_role;

create policy users_read_own on public.users
for select to authenticated
using (deleted_at is null and clerk_id = (select public.requesting_user_id()));

create table public.users_public (
    clerk_id text primary key references public.users (clerk_id) on delete cascade,
    username text,
    first_name text,
    last_name text,
    avatar_url text
) with (fillfactor = 85);

comment on table public.users_public is
'What every signed-in user may see of the others: always the projection of users.';

alter table public.users_public enable row level security;

revoke all on public.users_public from public, anon, authenticated, service_role;
grant select on public.users_public to authenticated, service_role;

create policy users_public_read_signed_in on public.users_public
for select to authenticated
using ((select public.requesting_user_id()) is not null);

-- Definer: whoever changes a user, the public profile follows. Only a trigger can call it.
create function clerk_sync.project_users_public()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    insert into public.users_public as p (clerk_id, username, first_name, last_name, avatar_url)
    select u.clerk_id, u.username, u.first_name, u.last_name, u.image_url
    from changed as u
    -- Most changes of a user leave the profile as it is. By the index, whatever the planner thinks of the tables' sizes.
    left join lateral (
        select k.* from public.users_public as k where k.clerk_id = u.clerk_id limit 1
    ) as known on true
    where u.deleted_at is null
    and (known.clerk_id, known.username, known.first_name, known.last_name, known.avatar_url)
    is distinct from (u.clerk_id, u.username, u.first_name, u.last_name, u.image_url)
    order by u.clerk_id
    on conflict (clerk_id) do update set
        username = excluded.username,
        first_name = excluded.first_name,
        last_name = excluded.last_name,
        avatar_url = excluded.avatar_url
    where (p.username, p.first_name, p.last_name, p.avatar_url)
    is distinct from (excluded.username, excluded.first_name, excluded.last_name, excluded.avatar_url);

    if exists (select from changed as u where u.deleted_at is not null) then
        delete from public.users_public as p
        using changed as u
        where p.clerk_id = u.clerk_id and u.deleted_at is not null;
    end if;

    return null;
end
$$;

create trigger users_project_on_insert after insert on public.users
referencing new table as changed
for each statement execute function clerk_sync.project_users_public();

create trigger users_project_on_update after update on public.users
referencing new table as changed
for each statement execute function clerk_sync.project_users_public();

insert into clerk_sync.migrations (name) values ('0002_create_users');
