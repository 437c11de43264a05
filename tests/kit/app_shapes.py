"""Tables of apps with users from Clerk, as found in public repositories, and the SQL of their webhook handlers."""

from __future__ import annotations

from typing import Final

from clerk_supabase_cli.adopt.mapping import Clear
from tests.kit.app_shape import Shape

_A: Final = Shape(
    name="A",
    title="text keys that are Clerk's ids, and the function of Clerk's old guide",
    guard=True,
    create="""
    create function public.requesting_user_id() returns text language sql stable as
        $$ select nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')::text $$;
    create table public.users (
        id text primary key, email text, first_name text, last_name text, image_url text,
        created_at timestamptz not null default now(), updated_at timestamptz
    );
    create index users_email_idx on public.users (email);
    create table public.organizations (id text primary key, name text not null, slug text unique, created_by text);
    create table public.members (
        id text primary key, role text not null,
        user_id text not null references public.users on delete cascade,
        organization_id text not null references public.organizations on delete cascade
    );
    create table public.projects (
        id bigint generated always as identity primary key, title text,
        owner_id text not null default public.requesting_user_id() references public.users on delete cascade
    );
    alter table public.projects enable row level security;
    create policy "own projects" on public.projects to authenticated using (owner_id = public.requesting_user_id());
    insert into public.users (id, email, first_name, last_name, image_url) values
    ('user_ada', 'ada@example.test', 'Ada', 'Lovelace', 'https://img.example.test/ada.png'),
    ('user_eve', 'eve@example.test', 'Eve', 'Lovelace', 'https://img.example.test/eve.png');
    insert into public.organizations values ('org_acme', 'Acme', 'acme', 'user_ada');
    insert into public.members values ('orgmem_1', 'org:admin', 'user_ada', 'org_acme');
    insert into public.projects (title, owner_id) values ('Engine', 'user_ada'), ('Apple', 'user_eve');
    """,
    table="public.users",
    key="id",
    update={
        "email": "mirror.email",
        "first_name": "mirror.first_name",
        "last_name": "mirror.last_name",
        "image_url": "mirror.image_url",
    },
    upsert="""
    insert into public.users (id, email, first_name, last_name, image_url, updated_at)
    values (%(id)s, %(email)s, %(first_name)s, %(last_name)s, %(image_url)s, now())
    on conflict (id) do update set email = excluded.email, first_name = excluded.first_name,
        last_name = excluded.last_name, image_url = excluded.image_url, updated_at = now()
    """,
    delete="delete from public.users where id = %(id)s",
)

_B: Final = Shape(
    name="B",
    title="uuid keys, and the names of the organization tables of the mirror",
    collision="users_email_key",
    create="""
    create table public.users (
        id uuid primary key default gen_random_uuid(), clerk_user_id varchar(255) not null unique,
        email varchar(255) not null unique, first_name text not null, last_name text,
        created_at timestamptz default now()
    );
    create table public.organizations (
        id uuid primary key default gen_random_uuid(), clerk_org_id text unique not null, name text not null
    );
    create table public.organization_members (
        user_id uuid not null references public.users on delete cascade,
        organization_id uuid not null references public.organizations on delete cascade,
        role text not null default 'member', primary key (user_id, organization_id)
    );
    insert into public.users (clerk_user_id, email, first_name, last_name) values
    ('user_ada', 'ada@example.test', 'Ada', 'Lovelace'), ('user_eve', 'eve@example.test', 'Eve', 'Lovelace');
    insert into public.organizations (clerk_org_id, name) values ('org_acme', 'Acme');
    insert into public.organization_members select u.id, o.id, 'admin' from public.users as u, public.organizations as o
    where u.clerk_user_id = 'user_ada';
    """,
    table="public.users",
    key="clerk_user_id",
    update={
        "email": "mirror.email",
        "first_name": "coalesce(mirror.first_name, '')",
        "last_name": "mirror.last_name",
    },
    upsert="""
    insert into public.users (clerk_user_id, email, first_name, last_name)
    values (%(id)s, %(email)s, coalesce(%(first_name)s, ''), %(last_name)s)
    on conflict (clerk_user_id) do update set email = excluded.email, first_name = excluded.first_name,
        last_name = excluded.last_name
    """,
    delete="delete from public.users where clerk_user_id = %(id)s",
)

_C: Final = Shape(
    name="C",
    title="uuid keys, and the columns of the mirror",
    on_delete="delete",
    guard=True,
    create="""
    create table public.users (
        id uuid primary key default gen_random_uuid(), clerk_id text unique, email text, first_name text,
        last_name text, image_url text
    );
    create table public.products (
        id bigint generated always as identity primary key, name text not null,
        user_id uuid not null references public.users on delete cascade
    );
    insert into public.users (clerk_id, email, first_name, last_name, image_url) values
    ('user_ada', 'ada@example.test', 'Ada', 'Lovelace', 'https://img.example.test/ada.png'),
    ('user_eve', 'eve@example.test', 'Eve', 'Lovelace', 'https://img.example.test/eve.png');
    insert into public.products (name, user_id) select 'Engine', id from public.users where clerk_id = 'user_ada';
    """,
    table="public.users",
    key="clerk_id",
    update={
        "email": "mirror.email",
        "first_name": "mirror.first_name",
        "last_name": "mirror.last_name",
        "image_url": "mirror.image_url",
    },
    upsert="""
    insert into public.users (clerk_id, email, first_name, last_name, image_url)
    values (%(id)s, %(email)s, %(first_name)s, %(last_name)s, %(image_url)s)
    on conflict (clerk_id) do update set email = excluded.email, first_name = excluded.first_name,
        last_name = excluded.last_name, image_url = excluded.image_url
    """,
    delete="delete from public.users where clerk_id = %(id)s",
)

_D: Final = Shape(
    name="D",
    title="uuid keys, rows without a Clerk id, ten tables below, and a function that policies ask",
    collision="users_email_key",
    create="""
    create table public.users (
        id uuid primary key default gen_random_uuid(), clerk_user_id text unique, email text unique not null,
        email_confirmed_at timestamptz, role text not null default 'user'
    );
    do $$
    begin
        for number in 1..10 loop
            execute format(
                'create table public.things_%1$s (id uuid primary key default gen_random_uuid(),
                user_id uuid not null references public.users on delete cascade)', number
            );
        end loop;
    end
    $$;
    create function public.is_clerk_user(wanted uuid) returns boolean language sql stable security definer
    set search_path = public as $$
        select exists (
            select from users as u where u.id = wanted and u.clerk_user_id = auth.jwt() ->> 'sub'
        )
    $$;
    alter table public.things_1 enable row level security;
    create policy "own things" on public.things_1 to authenticated using (public.is_clerk_user(user_id));
    insert into public.users (clerk_user_id, email, email_confirmed_at, role) values
    ('user_ada', 'ada@example.test', now(), 'admin'), ('user_eve', 'eve@example.test', now(), 'user'),
    (null, 'bob@example.test', now(), 'user'), (null, 'mallory@example.test', null, 'user');
    insert into public.things_1 (user_id) select id from public.users;
    """,
    table="public.users",
    key="clerk_user_id",
    update={"email": "coalesce(mirror.email, mirror.clerk_id || '@no-address.invalid')"},
    upsert="""
    insert into public.users (clerk_user_id, email) values (%(id)s, %(email)s)
    on conflict (clerk_user_id) do update set email = excluded.email
    """,
    delete="delete from public.users where clerk_user_id = %(id)s",
)

_E: Final = Shape(
    name="E",
    title="policies and a function, but no table of users",
    create="""
    create function public.requesting_user_id() returns text language sql stable as
        $$ select nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')::text $$;
    create table public.tasks (
        id bigint generated always as identity primary key, name text not null,
        user_id text not null default public.requesting_user_id()
    );
    alter table public.tasks enable row level security;
    create policy "own tasks" on public.tasks to authenticated using (public.requesting_user_id() = user_id);
    insert into public.tasks (name, user_id) values ('Write', 'user_ada'), ('Read', 'user_ada'), ('Wait', 'user_eve');
    """,
)

_F: Final = Shape(
    name="F",
    title="the function of the guide returns the app's own uuid",
    on_delete="delete",
    guard=True,
    create="""
    create table public.accounts (
        id uuid primary key default gen_random_uuid(), clerk_id text unique not null, email text, name text
    );
    create function public.requesting_user_id() returns uuid language sql stable security definer
    set search_path = public as $$ select a.id from accounts as a where a.clerk_id = auth.jwt() ->> 'sub' $$;
    create table public.notes (
        id bigint generated always as identity primary key, body text,
        account_id uuid not null default public.requesting_user_id() references public.accounts on delete cascade
    );
    alter table public.notes enable row level security;
    create policy "own notes" on public.notes to authenticated using (account_id = public.requesting_user_id());
    insert into public.accounts (clerk_id, email, name) values
    ('user_ada', 'ada@example.test', 'Ada Lovelace'), ('user_eve', 'eve@example.test', 'Eve Lovelace');
    insert into public.notes (body, account_id) select 'Engine', id from public.accounts where clerk_id = 'user_ada';
    """,
    table="public.accounts",
    key="clerk_id",
    update={
        "email": "mirror.email",
        "name": "nullif(concat_ws(' ', mirror.first_name, mirror.last_name), '')",
    },
    upsert="""
    insert into public.accounts (clerk_id, email, name)
    values (%(id)s, %(email)s, nullif(concat_ws(' ', %(first_name)s::text, %(last_name)s::text), ''))
    on conflict (clerk_id) do update set email = excluded.email, name = excluded.name
    """,
    delete="delete from public.accounts where clerk_id = %(id)s",
)

_G: Final = Shape(
    name="G",
    title="profiles with a user name and a display name that must be there",
    on_delete=Clear(("bio",)),
    collision="profiles_username_key",
    create="""
    create table public.profiles (
        id uuid primary key default gen_random_uuid(), clerk_user_id text unique not null,
        username text unique not null, display_name text not null, bio text
    );
    insert into public.profiles (clerk_user_id, username, display_name) values
    ('user_ada', 'ada', 'Ada Lovelace'), ('user_eve', 'eve', 'Eve Lovelace');
    """,
    table="public.profiles",
    key="clerk_user_id",
    on_insert={
        "username": "coalesce(mirror.username, mirror.clerk_id)",
        "display_name": "concat_ws(' ', mirror.first_name, mirror.last_name)",
    },
    upsert="""
    insert into public.profiles (clerk_user_id, username, display_name)
    values (%(id)s, coalesce(%(username)s, %(id)s), concat_ws(' ', %(first_name)s::text, %(last_name)s::text))
    on conflict (clerk_user_id) do update set username = excluded.username, display_name = excluded.display_name
    """,
    delete="delete from public.profiles where clerk_user_id = %(id)s",
)

_H: Final = Shape(
    name="H",
    title="profiles, with foreign keys to the column of Clerk's id",
    on_delete="delete",
    guard=True,
    create="""
    create table public.profiles (
        id uuid primary key default gen_random_uuid(), clerk_user_id text unique not null, email text,
        full_name text, avatar_url text
    );
    create table public.posts (
        id bigint generated always as identity primary key, title text not null,
        author_id text not null references public.profiles (clerk_user_id)
    );
    insert into public.profiles (clerk_user_id, email, full_name, avatar_url) values
    ('user_ada', 'ada@example.test', 'Ada Lovelace', 'https://img.example.test/ada.png'),
    ('user_eve', 'eve@example.test', 'Eve Lovelace', 'https://img.example.test/eve.png');
    insert into public.posts (title, author_id) values ('On engines', 'user_ada');
    """,
    table="public.profiles",
    key="clerk_user_id",
    update={
        "email": "mirror.email",
        "full_name": "nullif(concat_ws(' ', mirror.first_name, mirror.last_name), '')",
        "avatar_url": "mirror.image_url",
    },
    upsert="""
    insert into public.profiles (clerk_user_id, email, full_name, avatar_url)
    values (%(id)s, %(email)s, nullif(concat_ws(' ', %(first_name)s::text, %(last_name)s::text), ''), %(image_url)s)
    on conflict (clerk_user_id) do update set email = excluded.email, full_name = excluded.full_name,
        avatar_url = excluded.avatar_url
    """,
    delete="delete from public.profiles where clerk_user_id = %(id)s",
)

_I: Final = Shape(
    name="I",
    title="profiles with billing, whose primary key is Clerk's id",
    create="""
    create type public.membership as enum ('free', 'pro');
    create table public.profiles (
        user_id text primary key, membership public.membership not null default 'free', stripe_customer_id text,
        stripe_subscription_id text, created_at timestamp not null default now(), updated_at timestamp default now()
    );
    insert into public.profiles (user_id, membership, stripe_customer_id) values
    ('user_ada', 'pro', 'cus_1'), ('user_eve', 'free', null);
    """,
    table="public.profiles",
    key="user_id",
    upsert="insert into public.profiles (user_id) values (%(id)s) on conflict (user_id) do nothing",
    delete="delete from public.profiles where user_id = %(id)s",
)

_K: Final = Shape(
    name="K",
    title="Prisma: quoted names, a cuid, an enum, and restricting keys",
    on_delete="delete",
    guard=True,
    collision="User_email_key",
    create="""
    create table public._prisma_migrations (
        id varchar(36) primary key, checksum varchar(64) not null, finished_at timestamptz, migration_name varchar(255)
    );
    create type public."Role" as enum ('USER', 'ADMIN');
    create table public."User" (
        "id" text not null, "clerkUserId" text not null, "email" text not null, "firstName" text, "lastName" text,
        "role" public."Role" not null default 'USER', "createdAt" timestamp(3) not null default current_timestamp,
        "updatedAt" timestamp(3) not null, constraint "User_pkey" primary key ("id")
    );
    create unique index "User_clerkUserId_key" on public."User" ("clerkUserId");
    create unique index "User_email_key" on public."User" ("email");
    create table public."Post" (
        "id" text not null primary key, "authorId" text not null,
        constraint "Post_authorId_fkey" foreign key ("authorId") references public."User" ("id")
        on delete restrict on update cascade
    );
    insert into public."User" ("id", "clerkUserId", "email", "firstName", "lastName", "updatedAt") values
    ('clx1', 'user_ada', 'ada@example.test', 'Ada', 'Lovelace', now()),
    ('clx2', 'user_eve', 'eve@example.test', 'Eve', 'Lovelace', now());
    insert into public."Post" values ('clp1', 'clx1');
    """,
    table='public."User"',
    key="clerkUserId",
    on_insert={"id": "gen_random_uuid()::text", "updatedAt": "now()"},
    update={
        "email": "coalesce(mirror.email, mirror.clerk_id || '@no-address.invalid')",
        "firstName": "mirror.first_name",
        "lastName": "mirror.last_name",
    },
    upsert="""
    insert into public."User" ("id", "clerkUserId", "email", "firstName", "lastName", "updatedAt")
    values ('c' || %(id)s, %(id)s, %(email)s, %(first_name)s, %(last_name)s, now())
    on conflict ("clerkUserId") do update set "email" = excluded."email", "firstName" = excluded."firstName",
        "lastName" = excluded."lastName", "updatedAt" = now()
    """,
    delete='delete from public."User" where "clerkUserId" = %(id)s',
)

_L: Final = Shape(
    name="L",
    title="Drizzle: tables named by reserved words, Clerk's ids as keys, and no row level security",
    on_delete="delete",
    create="""
    create schema drizzle;
    create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint);
    create table public."user" (id text primary key, name text, email text, "imageUrl" text);
    create table public.organization (id text primary key, name text not null, slug text);
    create table public.invoice (
        id serial primary key, user_id text references public."user" on delete set null,
        org_id text references public.organization on delete cascade
    );
    insert into public."user" values
    ('user_ada', 'Ada Lovelace', 'ada@example.test', 'https://img.example.test/ada.png'),
    ('user_eve', 'Eve Lovelace', 'eve@example.test', 'https://img.example.test/eve.png');
    insert into public.organization values ('org_acme', 'Acme', 'acme');
    insert into public.invoice (user_id, org_id) values ('user_ada', 'org_acme');
    """,
    table='public."user"',
    key="id",
    update={
        "name": "nullif(concat_ws(' ', mirror.first_name, mirror.last_name), '')",
        "email": "mirror.email",
        "imageUrl": "mirror.image_url",
    },
    upsert="""
    insert into public."user" (id, name, email, "imageUrl")
    values (%(id)s, nullif(concat_ws(' ', %(first_name)s::text, %(last_name)s::text), ''), %(email)s, %(image_url)s)
    on conflict (id) do update set name = excluded.name, email = excluded.email, "imageUrl" = excluded."imageUrl"
    """,
    delete='delete from public."user" where id = %(id)s',
)

_M: Final = Shape(
    name="M",
    title="composite keys, in the table of the users and in the table of the members",
    on_delete="delete",
    create="""
    create table public.tenant_users (
        tenant_id integer not null default 1, clerk_user_id text not null, email text, first_name text,
        primary key (tenant_id, clerk_user_id)
    );
    create table public.tenant_members (
        clerk_org_id text not null, clerk_user_id text not null, role text not null default 'org:member',
        primary key (clerk_org_id, clerk_user_id)
    );
    create table public.seats (
        id bigint generated always as identity primary key, tenant_id integer, clerk_user_id text,
        foreign key (tenant_id, clerk_user_id) references public.tenant_users on delete cascade
    );
    insert into public.tenant_users (clerk_user_id, email, first_name) values
    ('user_ada', 'ada@example.test', 'Ada'), ('user_eve', 'eve@example.test', 'Eve');
    insert into public.tenant_members values ('org_acme', 'user_ada', 'org:admin');
    insert into public.seats (tenant_id, clerk_user_id) values (1, 'user_ada');
    """,
    table="public.tenant_users",
    keys={"tenant_id": "1", "clerk_user_id": "mirror.clerk_id"},
    update={"email": "mirror.email", "first_name": "mirror.first_name"},
    upsert="""
    insert into public.tenant_users (clerk_user_id, email, first_name) values (%(id)s, %(email)s, %(first_name)s)
    on conflict (tenant_id, clerk_user_id) do update set email = excluded.email, first_name = excluded.first_name
    """,
    delete="delete from public.tenant_users where clerk_user_id = %(id)s",
)

# The embedded Postgres has no extensions: the type has the same name and the same meaning of equal and unique.
_CITEXT: Final = """
    create type public.citext;
    create function public.citextin(cstring) returns public.citext language internal immutable strict as 'textin';
    create function public.citextout(public.citext) returns cstring language internal immutable strict as 'textout';
    create type public.citext (like = text, input = public.citextin, output = public.citextout, category = 'S');
    create cast (public.citext as text) without function as implicit;
    create cast (text as public.citext) without function as assignment;
    create cast (varchar as public.citext) without function as assignment;
    create function public.citext_cmp(public.citext, public.citext) returns integer language sql immutable strict as
    $$ select case when lower($1::text) < lower($2::text) then -1 when lower($1::text) > lower($2::text) then 1
       else 0 end $$;
    create function public.citext_lt(public.citext, public.citext) returns boolean language sql immutable strict as
    $$ select lower($1::text) < lower($2::text) $$;
    create function public.citext_le(public.citext, public.citext) returns boolean language sql immutable strict as
    $$ select lower($1::text) <= lower($2::text) $$;
    create function public.citext_eq(public.citext, public.citext) returns boolean language sql immutable strict as
    $$ select lower($1::text) = lower($2::text) $$;
    create function public.citext_ge(public.citext, public.citext) returns boolean language sql immutable strict as
    $$ select lower($1::text) >= lower($2::text) $$;
    create function public.citext_gt(public.citext, public.citext) returns boolean language sql immutable strict as
    $$ select lower($1::text) > lower($2::text) $$;
    create operator public.< (function = public.citext_lt, leftarg = public.citext, rightarg = public.citext);
    create operator public.<= (function = public.citext_le, leftarg = public.citext, rightarg = public.citext);
    create operator public.= (function = public.citext_eq, leftarg = public.citext, rightarg = public.citext);
    create operator public.>= (function = public.citext_ge, leftarg = public.citext, rightarg = public.citext);
    create operator public.> (function = public.citext_gt, leftarg = public.citext, rightarg = public.citext);
    create operator class public.citext_ops default for type public.citext using btree as
    operator 1 public.<, operator 2 public.<=, operator 3 public.=, operator 4 public.>=, operator 5 public.>,
    function 1 public.citext_cmp(public.citext, public.citext);
"""

_N: Final = Shape(
    name="N",
    title="a citext e-mail, an enum role, a generated column, and an identity column",
    on_delete=Clear(("first_name", "last_name")),
    guard=True,
    collision="app_users_email_key",
    extension=_CITEXT,
    create="""
    create type public.app_role as enum ('member', 'admin');
    create table public.app_users (
        id uuid primary key default gen_random_uuid(), number bigint generated always as identity, clerk_id text unique,
        email public.citext unique not null, role public.app_role not null default 'member', first_name text,
        last_name text,
        full_name text generated always as (coalesce(first_name, '') || ' ' || coalesce(last_name, '')) stored
    );
    insert into public.app_users (clerk_id, email, first_name, last_name) values
    ('user_ada', 'Ada@Example.test', 'Ada', 'Lovelace'), ('user_eve', 'eve@example.test', 'Eve', 'Lovelace');
    """,
    table="public.app_users",
    key="clerk_id",
    update={
        "email": "coalesce(mirror.email, mirror.clerk_id || '@no-address.invalid')",
        "first_name": "mirror.first_name",
        "last_name": "mirror.last_name",
    },
    upsert="""
    insert into public.app_users (clerk_id, email, first_name, last_name)
    values (%(id)s, %(email)s::text, %(first_name)s, %(last_name)s)
    on conflict (clerk_id) do update set email = excluded.email, first_name = excluded.first_name,
        last_name = excluded.last_name
    """,
    delete="delete from public.app_users where clerk_id = %(id)s",
)

_O: Final = Shape(
    name="O",
    title="a partitioned table with triggers that write elsewhere, and a view in its place",
    on_delete="delete",
    guard=True,
    collision="handles_handle_key",
    create="""
    create schema app;
    -- The project of this owner opens new schemas to the API.
    revoke create on schema app from anon, authenticated, service_role;
    create table app.people (
        clerk_user_id text not null, mail text, given_name text, family_name text,
        created_at timestamptz not null default now(), primary key (clerk_user_id)
    ) partition by hash (clerk_user_id);
    create table app.people_0 partition of app.people for values with (modulus 2, remainder 0);
    create table app.people_1 partition of app.people for values with (modulus 2, remainder 1);
    create table app.handles (clerk_user_id text primary key, handle text unique not null);
    create table app.people_log (id bigint generated always as identity, what text not null, clerk_user_id text);
    create function app.after_person() returns trigger language plpgsql as $$
    begin
        if tg_op = 'INSERT' then
            insert into app.handles values (new.clerk_user_id, lower(new.given_name));
        elsif tg_op = 'DELETE' then
            delete from app.handles as h where h.clerk_user_id = old.clerk_user_id;
        end if;
        insert into app.people_log (what, clerk_user_id)
        values (tg_op, case tg_op when 'DELETE' then old.clerk_user_id else new.clerk_user_id end);
        return null;
    end
    $$;
    create trigger after_person after insert or update or delete on app.people
    for each row execute function app.after_person();
    create view public.users with (security_invoker = on) as
    select p.clerk_user_id as id, p.mail as email, p.given_name as first_name from app.people as p;
    insert into app.people (clerk_user_id, mail, given_name, family_name) values
    ('user_ada', 'ada@example.test', 'Ada', 'Lovelace'), ('user_eve', 'eve@example.test', 'Eve', 'Lovelace');
    """,
    table="app.people",
    key="clerk_user_id",
    update={"mail": "mirror.email", "given_name": "mirror.first_name", "family_name": "mirror.last_name"},
    upsert="""
    insert into app.people (clerk_user_id, mail, given_name, family_name)
    values (%(id)s, %(email)s, %(first_name)s, %(last_name)s)
    on conflict (clerk_user_id) do update set mail = excluded.mail, given_name = excluded.given_name,
        family_name = excluded.family_name
    """,
    delete="delete from app.people where clerk_user_id = %(id)s",
)

SHAPES: Final = (_A, _B, _C, _D, _E, _F, _G, _H, _I, _K, _L, _M, _N, _O)
WITH_USERS: Final = tuple(shape for shape in SHAPES if shape.table)
"""Shapes with a table of users."""
