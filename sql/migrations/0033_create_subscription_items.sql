-- The items of subscriptions: the plans of a payer, past, present and scheduled.

create table clerk.subscription_items (
    clerk_subscription_item_id text primary key,
    -- No foreign key: an item may arrive before its subscription.
    clerk_subscription_id text,
    clerk_user_id text references clerk.users (clerk_id) on delete cascade,
    clerk_org_id text references clerk.organizations (clerk_org_id) on delete cascade,
    payer_id text,
    status text,
    plan_id text,
    plan_slug text,
    plan_name text,
    plan_period text,
    amount bigint,
    currency text,
    is_free_trial boolean not null default false,
    is_seat_based boolean not null default false,
    seats bigint,
    period_start timestamptz,
    period_end timestamptz,
    created_at timestamptz,
    deleted_at timestamptz,
    constraint subscription_items_payer_check check (num_nonnulls(clerk_user_id, clerk_org_id) = 1)
) with (fillfactor = 85);

comment on table clerk.subscription_items is
'One row per plan that a payer has, had or will have. The payer reads it: the user, or members with the permission to '
'read or manage billing.';
comment on column clerk.subscription_items.clerk_subscription_id is
'Null until an event or an answer of Clerk names the subscription.';
comment on column clerk.subscription_items.payer_id is 'Clerk''s id of the payer in Billing, which no other table has.';
comment on column clerk.subscription_items.status is
'active; canceled: in force until period_end; past_due; upcoming; incomplete: not paid; ended, abandoned, expired. The '
'item of a default plan keeps its id, and is active again after it ended. Clerk may add values. Null: none that can be '
'read.';
comment on column clerk.subscription_items.plan_slug is
'A user plan and an organization plan may have the same slug. Null after the plan was removed in Clerk.';
comment on column clerk.subscription_items.plan_period is 'month or annual.';
comment on column clerk.subscription_items.amount is
'Price of the plan for one period, in the smallest unit of the currency, such as cents. Null after the plan was '
'removed in Clerk.';
comment on column clerk.subscription_items.seats is
'Null with is_seat_based: any number of seats; null without: the plan has no seats. 0 also for a number that cannot be '
'read.';
comment on column clerk.subscription_items.period_end is 'Null for a default plan, which has no end.';
comment on column clerk.subscription_items.deleted_at is 'Clerk''s clock: when the payer was deleted.';

create index subscription_items_user_idx on clerk.subscription_items (clerk_user_id) where clerk_user_id is not null;
create index subscription_items_org_idx on clerk.subscription_items (clerk_org_id) where clerk_org_id is not null;
create index subscription_items_subscription_idx on clerk.subscription_items (clerk_subscription_id);
-- Comparisons with Clerk walk its lists in the order of creation.
create index subscription_items_created_idx on clerk.subscription_items (created_at) where deleted_at is null;

create trigger subscription_items_keep_key before update on clerk.subscription_items
for each row when (old.clerk_subscription_item_id <> new.clerk_subscription_item_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.subscription_items enable row level security;

-- Supabase may grant everything on new tables to the API's roles; start from nothing.
revoke all on clerk.subscription_items from public, anon, authenticated, service_role;
grant select on clerk.subscription_items to authenticated;
grant select, insert, update, delete on clerk.subscription_items to service_role;

-- The payer: the user, or members by permission, as invitations.
create policy subscription_items_read_as_payer on clerk.subscription_items
for select to authenticated
using (
    deleted_at is null and (
        clerk_user_id = (select c.clerk_id from clerk_sync.caller as c)
        or clerk_org_id = any(
            array(
                select m.clerk_org_id from clerk_sync.memberships_of_caller as m
                where m.permissions && array['org:sys_billing:read', 'org:sys_billing:manage']
            )
        )
    )
);

select clerk_sync.register(
    'subscription_item', 9, 'clerk.subscription_items', 'clerk_subscription_item_id',
    parents => '{"clerk_user_id": "user", "clerk_org_id": "organization"}'
);

-- {run, ids} -> [id, ...]: the listed items whose subscription has no row here, or a row that contradicts its items: a
-- subscription is past_due as long as one of its items is. Clerk lists no subscriptions, so a comparison reads these
-- again. null when the run is over.
create function clerk_sync.items_without_subscription(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant bigint := (clerk_sync.running(request)).run_id;
begin
    if run is null then
        return null;
    end if;
    return (
        select coalesce(jsonb_agg(i.clerk_subscription_item_id), '[]')
        from clerk.subscription_items as i
        left join clerk.subscriptions as s on i.clerk_subscription_id = s.clerk_subscription_id
        where i.clerk_subscription_item_id = any(array(select jsonb_array_elements_text(request -> 'ids')))
        and i.deleted_at is null
        and (
            s.clerk_subscription_id is null
            or (s.status is not distinct from 'past_due') <> exists (
                select from clerk.subscription_items as o
                where o.clerk_subscription_id = s.clerk_subscription_id and o.status = 'past_due'
            )
        )
    );
end
$$;

select clerk_sync.revoke_default_rights();

grant execute on function clerk_sync.items_without_subscription(jsonb) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0033_create_subscription_items');
