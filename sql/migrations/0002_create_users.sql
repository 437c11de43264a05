-- Clerk's users as the app sees them through Supabase's API.

-- The claims of a token. A missing or malformed claim is null or empty, never an error, and never grants anything: only
-- the signer of the token grants rights, and a guess could only add some. Clerk's session tokens of version 1 and 2 and
-- the tokens of its former JWT template for Supabase are read alike; `v` says how. Sources:
-- https://clerk.com/docs/guides/sessions/session-tokens and https://github.com/clerk/javascript,
-- packages/shared/src/jwtPayloadParser.ts.

-- The functions that decide are in clerk_sync, where only the owner can add an overload. The API's roles may execute
-- these functions and may not use the schema: policies, views, defaults and triggers call the functions; no caller can
-- name them. The claims or the id by which a function decides are its argument, whose default is a call of another
-- function. Postgres looks up the default when the function is made. A name inside the body would be looked up at each
-- call, with the caller's rights.

-- Before Postgres 17 a block with an exception handler cannot run in a parallel worker: restricted to the leader.
create function clerk_sync.requesting_claims()
returns jsonb
language plpgsql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
as $$
declare
    given constant text := current_setting('request.jwt.claims', true);
    claims jsonb;
begin
    if coalesce(given, '') = '' then
        return '{}';
    end if;
    begin
        claims := given::jsonb;
    exception
        when data_exception or program_limit_exceeded then return '{}';
    end;
    return case jsonb_typeof(claims) when 'object' then claims else '{}' end;
end
$$;

-- Tokens of Supabase Auth have the same role and a uuid as their sub: such a token names no user here. A session with a
-- task left to do (sts: pending) is signed out, as in Clerk's own libraries.
create function clerk_sync.requesting_user_id(claims jsonb default clerk_sync.requesting_claims())
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    user_id constant text := claims ->> 'sub';
begin
    if
        user_id ~ '^user_[!-~]+$'
        and length(user_id) <= 255
        and coalesce(claims -> 'sts', 'null') in ('null', '""', '"active"')
    then
        return user_id;
    end if;
    return null;
end
$$;

create function clerk_sync.requesting_organization_id(
    claims jsonb default clerk_sync.requesting_claims(), user_id text default clerk_sync.requesting_user_id()
)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    organization_id jsonb;
begin
    if user_id is null then
        return null;
    end if;
    organization_id := case
        when claims -> 'v' = '2' then claims -> 'o' -> 'id'
        when coalesce(claims -> 'v', 'null') in ('null', '1') then claims -> 'org_id'
    end;
    return case jsonb_typeof(organization_id) when 'string' then nullif(organization_id #>> '{}', '') end;
end
$$;

create function clerk_sync.requesting_organization_role(
    claims jsonb default clerk_sync.requesting_claims(),
    organization_id text default clerk_sync.requesting_organization_id()
)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    role constant jsonb := case when claims -> 'v' = '2' then claims -> 'o' -> 'rol' else claims -> 'org_role' end;
begin
    if organization_id is null or jsonb_typeof(role) is distinct from 'string' or role = '""' then
        return null;
    end if;
    -- Version 2 leaves the prefix out, and so did the oldest version 1 tokens.
    return 'org:' || regexp_replace(role #>> '{}', '^org:', '');
end
$$;

-- Version 2 packs permissions: `fea` lists features with their scopes, `per` names of permissions, and `fpm` has one
-- number for each feature of the organization, whose bit i, from the lowest, grants permission i.
create function clerk_sync.requesting_permissions(
    claims jsonb default clerk_sync.requesting_claims(),
    organization_id text default clerk_sync.requesting_organization_id()
)
returns text[]
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    organization constant jsonb := claims -> 'o';
    permissions constant jsonb := claims -> 'org_permissions';
    -- The characters that JavaScript's trim() removes.
    blanks constant text := U&' \0009\000A\000B\000C\000D\00A0\1680\2000\2001\2002\2003\2004\2005\2006\2007'
    || U&'\2008\2009\200A\2028\2029\202F\205F\3000\FEFF';
    most_digits constant integer := 1000;
    -- No number of so many digits has a higher one.
    highest_bit constant integer := 3321;
    elements text[];
begin
    if organization_id is null then
        return '{}';
    end if;

    if claims -> 'v' is distinct from '2' then
        if
            jsonb_typeof(permissions) is distinct from 'array'
            or jsonb_path_exists(permissions, 'strict $[*] ? (@.type() != "string")')
        then
            return '{}';
        end if;
        return array(select jsonb_array_elements_text(permissions));
    end if;

    if
        jsonb_typeof(claims -> 'fea') is distinct from 'string'
        or jsonb_typeof(organization -> 'per') is distinct from 'string'
        or jsonb_typeof(organization -> 'fpm') is distinct from 'string'
    then
        return '{}';
    end if;
    elements := array(
        select btrim(element, blanks)
        from unnest(string_to_array(claims ->> 'fea', ',')) with ordinality as given (element, place)
        order by place
    );
    if exists (select from unnest(elements) as element where strpos(element, ':') = 0) then
        return '{}';
    end if;

    return array(
        with features as (
            select
                substr(element, strpos(element, ':') + 1) as feature,
                row_number() over (order by place) as place
            from unnest(elements) with ordinality as given (element, place)
            where split_part(element, ':', 1) in ('o', 'ou', 'uo')
        ),

        numbers as (
            select
                place,
                case when digits ~ '^[0-9]+$' and length(digits) <= most_digits then digits::numeric end as number
            from unnest(string_to_array(organization ->> 'fpm', ',')) with ordinality as given (untrimmed, place)
            cross join lateral btrim(untrimmed, blanks) as digits
        ),

        granted as (
            select
                format('org:%s:%s', features.feature, btrim(named.permission, blanks)) as permission,
                row_number() over (order by features.place, named.place) as place
            from features
            inner join numbers using (place)
            cross join unnest(string_to_array(organization ->> 'per', ',')) with ordinality as named (permission, place)
            where case
                when named.place - 1 <= highest_bit
                    then mod(div(numbers.number, power(2::numeric, named.place - 1)), 2) = 1
            end
        )

        select permission from granted group by permission order by min(place)
    );
end
$$;

create function clerk_sync.requesting_user_has_permission(
    permission text, permissions text[] default clerk_sync.requesting_permissions()
)
returns boolean
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(permission = any(permissions), false);
end
$$;

revoke all on function
clerk_sync.requesting_claims(),
clerk_sync.requesting_user_id(jsonb),
clerk_sync.requesting_organization_id(jsonb, text),
clerk_sync.requesting_organization_role(jsonb, text),
clerk_sync.requesting_permissions(jsonb, text),
clerk_sync.requesting_user_has_permission(text, text[])
from public, anon, authenticated, service_role;
grant execute on function
clerk_sync.requesting_claims(),
clerk_sync.requesting_user_id(jsonb),
clerk_sync.requesting_organization_id(jsonb, text),
clerk_sync.requesting_organization_role(jsonb, text),
clerk_sync.requesting_permissions(jsonb, text),
clerk_sync.requesting_user_has_permission(text, text[])
to anon, authenticated, service_role;

-- The names that apps use, in their policies and queries. This project does not call these functions. Their bodies are
-- parsed when the function is made: another function of the same name, added to this schema later, is not called.
create function clerk.requesting_claims()
returns jsonb
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_claims();

comment on function clerk.requesting_claims() is
'Claims of the caller''s token, as PostgREST leaves them in the transaction''s settings; {} when there are none.';

create function clerk.requesting_user_id()
returns text
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_id();

comment on function clerk.requesting_user_id() is
'Clerk user id from the token. In policies write (select clerk.requesting_user_id()): once per statement, not per row.';

create function clerk.requesting_organization_id()
returns text
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_organization_id();

comment on function clerk.requesting_organization_id() is
'Clerk id of the organization that is active in the token''s session. Whether the caller still belongs to it, only '
'organization_memberships knows.';

create function clerk.requesting_organization_role()
returns text
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_organization_role();

comment on function clerk.requesting_organization_role() is
'Role in the active organization, as the token says: up to a minute old. Always spelled org:<role>.';

create function clerk.requesting_permissions()
returns text[]
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_permissions();

comment on function clerk.requesting_permissions() is
'Permissions in the active organization, as the token says: up to a minute old, and in version 2 without Clerk''s own '
'(org:sys_...). Spelled org:<feature>:<permission>.';

create function clerk.requesting_user_has_permission(permission text)
returns boolean
language sql
stable
parallel restricted
set search_path = pg_catalog, pg_temp
return clerk_sync.requesting_user_has_permission(permission);

comment on function clerk.requesting_user_has_permission(text) is
'Whether the token grants org:<feature>:<permission>. In policies write '
'(select clerk.requesting_user_has_permission(...)): once per statement, not per row.';

revoke all on function
clerk.requesting_claims(),
clerk.requesting_user_id(),
clerk.requesting_organization_id(),
clerk.requesting_organization_role(),
clerk.requesting_permissions(),
clerk.requesting_user_has_permission(text)
from public, anon, authenticated, service_role;
grant execute on function
clerk.requesting_claims(),
clerk.requesting_user_id(),
clerk.requesting_organization_id(),
clerk.requesting_organization_role(),
clerk.requesting_permissions(),
clerk.requesting_user_has_permission(text)
to anon, authenticated, service_role;

-- Free space on each page lets an update stay on the same page (HOT) and leave the indexes unchanged.
create table clerk.users (
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
    primary_web3_wallet_id text,
    enterprise_accounts jsonb not null default '[]',
    password_enabled boolean not null default false,
    two_factor_enabled boolean not null default false,
    banned boolean not null default false,
    locked boolean not null default false,
    deprovisioned boolean not null default false,
    legal_accepted_at timestamptz,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.users is 'One row per Clerk user, written by clerk-supabase-sync. A user reads their own row.';
comment on column clerk.users.unsafe_metadata is
'Writable by the user in the browser: never decide access by this value.';
comment on column clerk.users.enterprise_accounts is
'Accounts at identity providers of companies, of SAML and OAuth.';
comment on column clerk.users.deprovisioned is
'Removed by the directory of their company (Directory Sync): sees as little as a banned user.';
comment on column clerk.users.created_at is 'Clerk''s clock.';
comment on column clerk.users.deleted_at is 'Clerk''s clock. Every policy hides a row with this value.';

-- No unique index on values that Clerk may change or reuse: two rows may hold the same value for a moment.
create index users_email_idx on clerk.users (email);
-- A column that most instances do not use takes no place in the index.
create index users_username_idx on clerk.users (username) where username is not null;
create index users_external_id_idx on clerk.users (external_id) where external_id is not null;
-- The index of visible users counts them, and cuts them into equal parts, without reading a row.
create index users_created_at_idx on clerk.users (created_at) where deleted_at is null;

alter table clerk.users enable row level security;

-- Supabase may grant everything on new tables to the API's roles; start from nothing.
revoke all on clerk.users from public, anon, authenticated, service_role;
grant select, insert (clerk_id) on clerk.users to authenticated;
-- No other right: a truncate would leave no trace in the audit log, and a trigger would run with the rights of the next
-- writer.
grant select, insert, update, delete on clerk.users to service_role;

-- No foreign key to users: the foreign key would look up the user of each row, row by row, and only the triggers below
-- write here.
create table clerk.users_public (
    clerk_id text primary key,
    username text,
    first_name text,
    last_name text,
    avatar_url text,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.users_public is
'The part of each user visible to every signed-in user: always the projection of users.';
comment on column clerk.users_public.deleted_at is
'As in users. In a row with this value only the key is left, for foreign keys of the app; policies hide the row.';

alter table clerk.users_public enable row level security;

revoke all on clerk.users_public from public, anon, authenticated, service_role;
grant select on clerk.users_public to authenticated, service_role;

-- Writes the profiles of users as their rows are now: a trigger of the app may have changed users again before this
-- trigger, which runs last, projects the outer statement.
create function clerk_sync.project_as_it_is(user_ids text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from clerk.users_public as p
    where p.clerk_id = any(user_ids) and not exists (select from clerk.users as u where u.clerk_id = p.clerk_id);
    insert into clerk.users_public as p (clerk_id, username, first_name, last_name, avatar_url, deleted_at)
    select
        u.clerk_id,
        case when u.deleted_at is null then u.username end,
        case when u.deleted_at is null then u.first_name end,
        case when u.deleted_at is null then u.last_name end,
        case when u.deleted_at is null then u.image_url end,
        u.deleted_at
    from clerk.users as u
    where u.clerk_id = any(user_ids)
    order by u.clerk_id
    on conflict (clerk_id) do update set
        username = excluded.username,
        first_name = excluded.first_name,
        last_name = excluded.last_name,
        avatar_url = excluded.avatar_url,
        deleted_at = excluded.deleted_at
    where (p.username, p.first_name, p.last_name, p.avatar_url, p.deleted_at)
    is distinct from (excluded.username, excluded.first_name, excluded.last_name, excluded.avatar_url, excluded.deleted_at);
end
$$;

-- Security definer: the public profile follows every change of a user, whichever role makes it. Only a trigger can call
-- this function.
create function clerk_sync.project_users_public()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from clerk.users_public where true;
        return null;
    end if;
    -- audit_user() runs before this trigger, and sets the flag.
    if current_setting('clerk_sync.nested', true) = 'yes' then
        perform clerk_sync.project_as_it_is(array(select c.clerk_id from changed as c));
        return null;
    end if;
    if tg_op = 'DELETE' then
        delete from clerk.users_public as p using changed as u where p.clerk_id = u.clerk_id;
        return null;
    end if;

    insert into clerk.users_public as p (clerk_id, username, first_name, last_name, avatar_url, deleted_at)
    select u.clerk_id, u.username, u.first_name, u.last_name, u.image_url, u.deleted_at
    from (
        select
            c.clerk_id, c.deleted_at,
            case when c.deleted_at is null then c.username end as username,
            case when c.deleted_at is null then c.first_name end as first_name,
            case when c.deleted_at is null then c.last_name end as last_name,
            case when c.deleted_at is null then c.image_url end as image_url
        from changed as c
    ) as u
    -- Most changes of a user leave the profile as it is; a new user has no profile. `lateral ... limit 1` uses the
    -- index, whatever the planner knows of the tables' sizes.
    left join lateral (
        select k.* from clerk.users_public as k where tg_op = 'UPDATE' and k.clerk_id = u.clerk_id limit 1
    ) as known on true
    where (known.clerk_id, known.username, known.first_name, known.last_name, known.avatar_url, known.deleted_at)
    is distinct from (u.clerk_id, u.username, u.first_name, u.last_name, u.image_url, u.deleted_at)
    order by u.clerk_id
    on conflict (clerk_id) do update set
        username = excluded.username,
        first_name = excluded.first_name,
        last_name = excluded.last_name,
        avatar_url = excluded.avatar_url,
        deleted_at = excluded.deleted_at
    where (p.username, p.first_name, p.last_name, p.avatar_url, p.deleted_at)
    is distinct from (excluded.username, excluded.first_name, excluded.last_name, excluded.avatar_url, excluded.deleted_at);

    return null;
end
$$;

create trigger users_project_on_insert after insert on clerk.users
referencing new table as changed
for each statement execute function clerk_sync.project_users_public();

create trigger users_project_on_update after update on clerk.users
referencing new table as changed
for each statement execute function clerk_sync.project_users_public();

create trigger users_project_on_delete after delete on clerk.users
referencing old table as changed
for each statement execute function clerk_sync.project_users_public();

create trigger users_project_on_truncate after truncate on clerk.users
for each statement execute function clerk_sync.project_users_public();

create function clerk_sync.refuse_new_key()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise restrict_violation using message = 'the key names the object for good: Clerk never changes it';
end
$$;

create trigger users_keep_key before update on clerk.users
for each row when (old.clerk_id <> new.clerk_id)
execute function clerk_sync.refuse_new_key();

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0002_create_users');
