-- The subscriptions of Clerk's Billing. Each payer, a user or an organization, has one.

create table clerk.subscriptions (
    clerk_subscription_id text primary key,
    clerk_user_id text references clerk.users (clerk_id) on delete cascade,
    clerk_org_id text references clerk.organizations (clerk_org_id) on delete cascade,
    payer_id text,
    status text,
    active_at timestamptz,
    past_due_at timestamptz,
    canceled_at timestamptz,
    ended_at timestamptz,
    created_at timestamptz,
    deleted_at timestamptz,
    constraint subscriptions_payer_check check (num_nonnulls(clerk_user_id, clerk_org_id) = 1)
) with (fillfactor = 85);

comment on table clerk.subscriptions is
'One row per payer. The payer reads it: the user, or members with the permission to read or manage billing.';
comment on column clerk.subscriptions.payer_id is 'Clerk''s id of the payer in Billing, which no other table has.';
comment on column clerk.subscriptions.status is
'active or past_due, nearly always: plans start and end in subscription_items. Clerk may add values. Null: none that '
'can be read.';
comment on column clerk.subscriptions.deleted_at is 'Clerk''s clock: when the payer was deleted.';

create index subscriptions_user_idx on clerk.subscriptions (clerk_user_id) where clerk_user_id is not null;
create index subscriptions_org_idx on clerk.subscriptions (clerk_org_id) where clerk_org_id is not null;

create trigger subscriptions_keep_key before update on clerk.subscriptions
for each row when (old.clerk_subscription_id <> new.clerk_subscription_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.subscriptions enable row level security;

-- Supabase may grant everything on new tables to the API's roles; start from nothing.
revoke all on clerk.subscriptions from public, anon, authenticated, service_role;
grant select on clerk.subscriptions to authenticated;
grant select, insert, update, delete on clerk.subscriptions to service_role;

-- The payer: the user, or members by permission, as invitations.
create policy subscriptions_read_as_payer on clerk.subscriptions
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
    'subscription', 8, 'clerk.subscriptions', 'clerk_subscription_id',
    parents => '{"clerk_user_id": "user", "clerk_org_id": "organization"}'
);

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0032_create_subscriptions');
