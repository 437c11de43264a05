-- Clerk's waitlist.

create table clerk.waitlist_entries (
    clerk_waitlist_entry_id text primary key,
    email_address text,
    status text,
    is_locked boolean not null default false,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.waitlist_entries is
'One row per entry of the waitlist, without the secret link of its invitation. Only service_role reads it.';
comment on column clerk.waitlist_entries.status is 'pending, invited, completed or rejected.';

-- Comparisons with Clerk walk its lists in the order of creation.
create index waitlist_entries_created_idx on clerk.waitlist_entries (created_at) where deleted_at is null;

create trigger waitlist_entries_keep_key before update on clerk.waitlist_entries
for each row when (old.clerk_waitlist_entry_id <> new.clerk_waitlist_entry_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.waitlist_entries enable row level security;
revoke all on clerk.waitlist_entries from public, anon, authenticated, service_role;
grant select, insert, update, delete on clerk.waitlist_entries to service_role;

-- The addresses are those of people who have no account yet, and no signed-in user has a claim to any. The policy holds
-- even where somebody grants everything in the schema to the API's roles.
create policy waitlist_entries_read_by_nobody on clerk.waitlist_entries
for select to authenticated
using (false);

select clerk_sync.register('waitlist_entry', 11, 'clerk.waitlist_entries', 'clerk_waitlist_entry_id');

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0035_create_waitlist_entries');
