-- Plans and features of Clerk Billing: of the token, and of the mirrored subscriptions.

-- The plans (`pla`) or features (`fea`) of the token that count, each spelled user:<slug> or org:<slug>. Every element
-- of the claim has a scope: `u` for the user, `o` for the organization, `uo` and `ou` for both. As in Clerk's has(), an
-- unknown scope is skipped, and an element without a scope voids the claims. More is left out than by has(): elements
-- of an organization that is not active, slugs that are empty or hold a colon, and all elements beside a claim that
-- has() fails to read. Only version 2 has these claims: in any other token, such as one of a JWT template, the app
-- wrote the claims. Source: https://github.com/clerk/javascript, packages/shared/src/authorization.ts.
create function clerk_sync.requesting_entitlements(
    claim text,
    claims jsonb default clerk_sync.requesting_claims(),
    user_id text default clerk_sync.requesting_user_id(),
    organization_id text default clerk_sync.requesting_organization_id()
)
returns text[]
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    -- The characters that JavaScript's trim() removes, as in requesting_permissions().
    blanks constant text := U&' \0009\000A\000B\000C\000D\00A0\1680\2000\2001\2002\2003\2004\2005\2006\2007'
    || U&'\2008\2009\200A\2028\2029\202F\205F\3000\FEFF';
    texts constant jsonb[] := array[claims -> 'pla', claims -> 'fea', claims -> 'o' -> 'per', claims -> 'o' -> 'fpm'];
begin
    if
        user_id is null
        or claims -> 'v' is distinct from '2'
        or exists (select from unnest(texts) as t (given) where jsonb_typeof(t.given) not in ('string', 'null'))
        or exists (
            select from unnest(texts[1:2]) as t (given)
            cross join unnest(string_to_array(nullif(t.given #>> '{}', ''), ',')) as e (element)
            where strpos(e.element, ':') = 0
        )
    then
        return '{}';
    end if;
    return array(
        select s.scope || ':' || split_part(e.element, ':', 2)
        from unnest(string_to_array(claims ->> claim, ',')) with ordinality as given (untrimmed, place)
        cross join lateral btrim(given.untrimmed, blanks) as e (element)
        inner join (values ('user', '{u,uo,ou}'::text[]), ('org', '{o,uo,ou}')) as s (scope, spelled)
            on split_part(e.element, ':', 1) = any(s.spelled)
        where e.element ~ '^[^:]+:[^:]+$' and (s.scope = 'user' or organization_id is not null)
        order by given.place
    );
end
$$;

-- Whether a plan or feature is among these. A question names its scope: `user:pro` or `org:team`, or as in has() `u:`,
-- `o:` or `organization:`. Any other question is an error, and null for null, not false: behind a `not`, false would
-- open the rows.
create function clerk_sync.requesting_user_holds(question text, entitlements text[])
returns boolean
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    parts constant text[] := regexp_match(question, '^(u|user|o|org|organization):([^:]+)$');
begin
    if question is not null and parts is null then
        raise invalid_parameter_value using
            message = format(
                'a plan or feature is spelled user:%1$s or org:%1$s (short u:%1$s, o:%1$s), not %2$L',
                coalesce(substring(question from '[^:[:space:]]+$'), '<slug>'), question
            );
    end if;
    if question is null then
        return null;
    end if;
    return coalesce(
        case left(parts[1], 1) when 'u' then 'user:' else 'org:' end || parts[2] = any(entitlements), false
    );
end
$$;

create function clerk_sync.requesting_user_has_plan(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_holds(question, clerk_sync.requesting_entitlements('pla'));

create function clerk_sync.requesting_user_has_feature(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_holds(question, clerk_sync.requesting_entitlements('fea'));

-- The items that count now: of the caller, and of the caller's active organization, each with the scope of its plan. A
-- canceled plan lasts to the end of the paid period. A plan with a payment past due does not count: Clerk documents
-- neither whether such a plan is still granted, nor for how long. Nobody but the owner reads this view.
create view clerk_sync.items_of_caller with (security_barrier) as
select
    i.plan_id,
    i.plan_slug,
    'user' as scope
from clerk.subscription_items as i
where
    i.clerk_user_id = (select c.clerk_id from clerk_sync.caller as c) and i.deleted_at is null
    and (i.status = 'active' or (i.status = 'canceled' and i.period_end > now()))
union all
select
    i.plan_id,
    i.plan_slug,
    'org' as scope
from clerk.subscription_items as i
where
    i.clerk_org_id = any(array(select m.clerk_org_id from clerk_sync.active_membership_of_caller as m))
    and i.deleted_at is null
    and (i.status = 'active' or (i.status = 'canceled' and i.period_end > now()));

-- The plans of these items, spelled as above. Reads as its owner, as the views of 0018: only some members may read the
-- subscription of their organization, and its plan is of all members.
create view clerk_sync.plans_of_caller with (security_barrier) as
select i.scope || ':' || i.plan_slug as plan from clerk_sync.items_of_caller as i;

create function clerk_sync.requesting_user_subscribes_to_plan(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_holds(question, array(select p.plan from clerk_sync.plans_of_caller as p));

revoke all on function clerk_sync.requesting_user_subscribes_to_plan(text)
from public, anon, authenticated, service_role;
grant execute on function clerk_sync.requesting_user_subscribes_to_plan(text) to authenticated;
revoke all on clerk_sync.items_of_caller, clerk_sync.plans_of_caller from public, anon, authenticated, service_role;
grant select (plan) on clerk_sync.plans_of_caller to authenticated;

-- The plan and the feature for which secure() asks, as words that are equal for equal questions: `plan user:pro`, or of
-- the mirror `mirrored plan user:pro`. Raises an error for a question without a scope, and for a source without a
-- question.
create function clerk_sync.entitlements_asked(plan text, feature text, from_mirror boolean default false)
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if from_mirror and num_nonnulls(plan, feature) = 0 then
        raise invalid_parameter_value using message = 'from_mirror is about a plan or a feature: name one';
    end if;
    return array(
        select
            case when from_mirror then 'mirrored ' else '' end || a.kind
            || case when left(a.question, 1) = 'u' then ' user' else ' org' end
            || substr(a.question, strpos(a.question, ':'))
        from (values ('feature', feature), ('plan', plan)) as a (kind, question)
        where a.question is not null and not clerk_sync.requesting_user_holds(a.question, '{}')
        order by a.kind
    );
end
$$;

revoke all on function
clerk_sync.requesting_entitlements(text, jsonb, text, text),
clerk_sync.requesting_user_holds(text, text[]),
clerk_sync.requesting_user_has_plan(text),
clerk_sync.requesting_user_has_feature(text)
from public, anon, authenticated, service_role;
grant execute on function
clerk_sync.requesting_entitlements(text, jsonb, text, text),
clerk_sync.requesting_user_holds(text, text[]),
clerk_sync.requesting_user_has_plan(text),
clerk_sync.requesting_user_has_feature(text)
to anon, authenticated, service_role;

-- The names that apps use.
create function clerk.requesting_plan()
returns text
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return (
    select held.plan
    from unnest(clerk_sync.requesting_entitlements('pla')) with ordinality as held (plan, place)
    where
        split_part(held.plan, ':', 1)
        = case when clerk_sync.requesting_organization_id() is null then 'user' else 'org' end
    order by held.place
    limit 1
);

comment on function clerk.requesting_plan() is
'Plan of the active organization, or of the user when none is active, as the token says: up to a minute old. Spelled '
'org:<slug> or user:<slug>.';

create function clerk.requesting_user_has_plan(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_has_plan(question);

comment on function clerk.requesting_user_has_plan(text) is
'Whether the token names the plan user:<slug>, or org:<slug> of the active organization: up to a minute old. In '
'policies write (select clerk.requesting_user_has_plan(...)): once per statement, not per row.';

create function clerk.requesting_user_has_feature(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_has_feature(question);

comment on function clerk.requesting_user_has_feature(text) is
'Whether the token names the feature user:<slug>, or org:<slug> of the active organization: up to a minute old. In '
'policies write (select clerk.requesting_user_has_feature(...)): once per statement, not per row.';

create function clerk.requesting_user_subscribes_to(question text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_subscribes_to_plan(question);

comment on function clerk.requesting_user_subscribes_to(text) is
'Whether the caller (user:<slug>), or the active organization (org:<slug>), subscribes to a plan, as '
'subscription_items says: no wait for the next token. In policies write '
'(select clerk.requesting_user_subscribes_to(...)).';

revoke all on function
clerk.requesting_plan(),
clerk.requesting_user_has_plan(text),
clerk.requesting_user_has_feature(text),
clerk.requesting_user_subscribes_to(text)
from public, anon, authenticated, service_role;
grant execute on function
clerk.requesting_plan(),
clerk.requesting_user_has_plan(text),
clerk.requesting_user_has_feature(text)
to anon, authenticated, service_role;
grant execute on function clerk.requesting_user_subscribes_to(text) to authenticated;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0037_create_plans_and_features');
