-- The plans of the instance and their features; and the features of the caller, from the mirror.

create table clerk.plans (
    clerk_plan_id text primary key,
    slug text,
    name text,
    description text,
    for_payer_type text,
    is_default boolean not null default false,
    is_recurring boolean not null default false,
    is_publicly_visible boolean not null default false,
    amount bigint,
    annual_amount bigint,
    currency text,
    has_free_trial boolean not null default false,
    free_trial_days bigint,
    features text[] not null default '{}',
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.plans is
'One row per plan of the Clerk instance, with its features. Every signed-in user reads the plans that are publicly '
'visible. Clerk sends no event about a plan: comparisons with Clerk write the rows.';
comment on column clerk.plans.slug is 'A user plan and an organization plan may have the same slug.';
comment on column clerk.plans.for_payer_type is 'user or org.';
comment on column clerk.plans.is_default is 'The plan of each payer without another plan.';
comment on column clerk.plans.is_publicly_visible is 'False for a plan that Clerk''s own components do not offer.';
comment on column clerk.plans.amount is
'Price of a month, in the smallest unit of the currency, such as cents. Null for a plan that has no such price.';
comment on column clerk.plans.annual_amount is 'Price of a year.';
comment on column clerk.plans.features is 'Slugs of the features.';
comment on column clerk.plans.created_at is 'Null: Clerk tells no times of a plan.';
comment on column clerk.plans.deleted_at is 'When a comparison found that Clerk lists the plan no longer.';

create trigger plans_keep_key before update on clerk.plans
for each row when (old.clerk_plan_id <> new.clerk_plan_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.plans enable row level security;
revoke all on clerk.plans from public, anon, authenticated, service_role;
grant select on clerk.plans to authenticated;
grant select, insert, update, delete on clerk.plans to service_role;

-- As with roles, but for a plan that may have been made for one customer alone.
create policy plans_read_signed_in on clerk.plans
for select to authenticated
using (
    deleted_at is null and is_publicly_visible and (select c.clerk_id from clerk_sync.caller as c) is not null
);

select clerk_sync.register('plan', 13, 'clerk.plans', 'clerk_plan_id');

-- The features of the plans to which the caller, or the caller's active organization, subscribes now: spelled
-- user:<slug> or org:<slug>, by the payer. Joined by the id of the plan: a slug may be of two plans. A plan that is
-- deleted or was never listed has no features here. Reads as its owner, as plans_of_caller.
create view clerk_sync.features_of_caller with (security_barrier) as
select i.scope || ':' || f.slug as feature
from clerk_sync.items_of_caller as i
inner join clerk.plans as p on i.plan_id = p.clerk_plan_id and p.deleted_at is null
cross join unnest(p.features) as f (slug);

revoke all on clerk_sync.features_of_caller from public, anon, authenticated, service_role;
grant select (feature) on clerk_sync.features_of_caller to authenticated;

create function clerk_sync.requesting_user_subscribes_to_feature(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_holds(question, array(select f.feature from clerk_sync.features_of_caller as f));

-- The name that apps use.
create function clerk.requesting_user_subscribes_to_feature(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_subscribes_to_feature(question);

comment on function clerk.requesting_user_subscribes_to_feature(text) is
'Whether a plan to which the caller (user:<slug>), or the active organization (org:<slug>), subscribes has a feature, '
'as subscription_items and plans say: no wait for the next token. In policies write '
'(select clerk.requesting_user_subscribes_to_feature(...)).';

revoke all on function
clerk_sync.requesting_user_subscribes_to_feature(text),
clerk.requesting_user_subscribes_to_feature(text)
from public, anon, authenticated, service_role;
grant execute on function
clerk_sync.requesting_user_subscribes_to_feature(text),
clerk.requesting_user_subscribes_to_feature(text)
to authenticated;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0039_create_plans');
