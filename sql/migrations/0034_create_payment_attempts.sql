-- The attempts to pay for subscription items.

create table clerk.payment_attempts (
    clerk_payment_attempt_id text primary key,
    clerk_user_id text references clerk.users (clerk_id) on delete cascade,
    clerk_org_id text references clerk.organizations (clerk_org_id) on delete cascade,
    payer_id text,
    payment_id text,
    statement_id text,
    status text,
    charge_type text,
    amount bigint,
    subtotal bigint,
    tax bigint,
    currency text,
    subscription_item_ids text[],
    billing_date timestamptz,
    paid_at timestamptz,
    failed_at timestamptz,
    failure_code text,
    decline_code text,
    created_at timestamptz,
    deleted_at timestamptz,
    constraint payment_attempts_payer_check check (num_nonnulls(clerk_user_id, clerk_org_id) = 1)
) with (fillfactor = 85);

comment on table clerk.payment_attempts is
'One row per attempt, without the card and the ids of the payment provider. The payer reads it: the user, or members '
'with the permission to read or manage billing. Clerk sends no event about a refund.';
comment on column clerk.payment_attempts.payer_id is 'Clerk''s id of the payer in Billing, which no other table has.';
comment on column clerk.payment_attempts.payment_id is 'The same for all attempts of one payment.';
comment on column clerk.payment_attempts.status is
'pending, paid or failed. Clerk may add values. Null: none that can be read.';
comment on column clerk.payment_attempts.charge_type is 'checkout or recurring.';
comment on column clerk.payment_attempts.amount is
'The grand total, in the smallest unit of the currency, such as cents; so are subtotal and tax.';
comment on column clerk.payment_attempts.subscription_item_ids is
'Ids of the items that the attempt pays for. Null: only a comparison has written the row, as Clerk''s Backend API '
'names one of the items at most.';
comment on column clerk.payment_attempts.deleted_at is 'Clerk''s clock: when the payer was deleted.';

create index payment_attempts_user_idx on clerk.payment_attempts (clerk_user_id) where clerk_user_id is not null;
create index payment_attempts_org_idx on clerk.payment_attempts (clerk_org_id) where clerk_org_id is not null;

create trigger payment_attempts_keep_key before update on clerk.payment_attempts
for each row when (old.clerk_payment_attempt_id <> new.clerk_payment_attempt_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.payment_attempts enable row level security;

-- Supabase may grant everything on new tables to the API's roles; start from nothing.
revoke all on clerk.payment_attempts from public, anon, authenticated, service_role;
grant select on clerk.payment_attempts to authenticated;
grant select, insert, update, delete on clerk.payment_attempts to service_role;

-- The payer: the user, or members by permission, as invitations.
create policy payment_attempts_read_as_payer on clerk.payment_attempts
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
    'payment_attempt', 10, 'clerk.payment_attempts', 'clerk_payment_attempt_id',
    parents => '{"clerk_user_id": "user", "clerk_org_id": "organization"}'
);

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0034_create_payment_attempts');
