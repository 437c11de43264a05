-- The items of subscriptions: the plans of a payer, past, present and scheduled.

create table clerk.subscription_items (
    clerk_subscription_item_id text primary key,
    clerk_user_id text references clerk.users (clerk_id) on delete cascade,
    clerk_org_id text references clerk.organizations (clerk_org_id) on delete cascade,
    status text not null,
    plan_slug text,
    period_end timestamptz,
    deleted_at timestamptz,
    constraint subscription_items_payer_check check (num_nonnulls(clerk_user_id, clerk_org_id) = 1)
) with (fillfactor = 85);

create index subscription_items_user_idx on clerk.subscription_items (clerk_user_id) where clerk_user_id is not null;
create index subscription_items_org_idx on clerk.subscription_items (clerk_org_id) where clerk_org_id is not null;

alter table clerk.subscription_items enable row level security;
revoke all on clerk.subscription_items from public, anon, authenticated, service_role;
grant select, insert, update, delete on clerk.subscription_items to service_role;
grant select on clerk.subscription_items to authenticated;
create policy subscription_items_read_own on clerk.subscription_items
for select to authenticated
using (deleted_at is null and clerk_user_id = (select c.clerk_id from clerk_sync.caller as c));

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0033_create_subscription_items');
