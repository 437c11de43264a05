"""The schema of Supabase Auth, with its columns, and an app of the usual shape on top."""

from __future__ import annotations

from typing import Any, Final, LiteralString

from psycopg import sql

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, rows
from tests.kit.histories import alone, upsert
from tests.kit.parked import Command

ADA, BOB, EVE, MAX, SUE = (f"0000000{number}-0000-4000-8000-00000000abcd" for number in range(1, 6))

BCRYPT: Final = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"

# https://github.com/supabase/auth, migrations
AUTH: Final[LiteralString] = """
    create table auth.users (
        instance_id uuid, id uuid primary key, aud varchar(255), role varchar(255), email varchar(255),
        encrypted_password varchar(255), email_confirmed_at timestamptz, invited_at timestamptz,
        confirmation_token varchar(255), confirmation_sent_at timestamptz, recovery_token varchar(255),
        recovery_sent_at timestamptz, email_change_token_new varchar(255), email_change varchar(255),
        email_change_sent_at timestamptz, last_sign_in_at timestamptz, raw_app_meta_data jsonb,
        raw_user_meta_data jsonb, is_super_admin boolean, created_at timestamptz, updated_at timestamptz,
        phone text unique, phone_confirmed_at timestamptz, phone_change text default '',
        phone_change_token varchar(255) default '', phone_change_sent_at timestamptz,
        confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored,
        email_change_token_current varchar(255) default '', email_change_confirm_status smallint default 0,
        banned_until timestamptz, reauthentication_token varchar(255) default '', reauthentication_sent_at timestamptz,
        is_sso_user boolean not null default false, deleted_at timestamptz, is_anonymous boolean not null default false
    );
    create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
    create table auth.identities (
        provider_id text not null, user_id uuid not null references auth.users (id) on delete cascade,
        identity_data jsonb not null, provider text not null, last_sign_in_at timestamptz, created_at timestamptz,
        updated_at timestamptz, email text generated always as (lower(identity_data ->> 'email')) stored,
        id uuid primary key default gen_random_uuid(), unique (provider_id, provider)
    );
    create table auth.mfa_factors (
        id uuid primary key, user_id uuid not null references auth.users (id) on delete cascade, friendly_name text,
        factor_type text not null, status text not null, created_at timestamptz not null,
        updated_at timestamptz not null, secret text
    );
    alter table auth.users enable row level security;
    alter table auth.identities enable row level security;
    create function auth.uid() returns uuid language sql stable
    as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
    create function auth.email() returns text language sql stable
    as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email' $$;
"""

# Profiles and projects of users, members of projects, and comments by profile: keys, policies and views between them.
APP: Final[LiteralString] = """
    create table public.profiles (
        id uuid primary key references auth.users (id) on delete cascade, username text unique
    );
    create table public.projects (
        id bigint generated always as identity primary key,
        name text not null,
        owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
        unique (owner_id, name)
    );
    create index projects_owner_idx on public.projects (owner_id) where name <> '';
    create table public.members (
        project_id bigint references public.projects (id),
        user_id uuid references public.profiles (id) on delete cascade,
        primary key (project_id, user_id)
    );
    create table public.audit (id bigint generated always as identity primary key, actor uuid, row_id uuid);
    create table public.notes (
        id bigint generated always as identity primary key, author uuid references auth.users (id) on delete set null
    );
    create view public.my_projects with (security_invoker = on) as
    select p.id, p.name, p.owner_id from public.projects as p where p.owner_id = auth.uid();
    create view public.names as select m.project_id, m.user_id from public.members as m;
    grant select on public.my_projects, public.names to authenticated;
    alter table public.profiles enable row level security;
    alter table public.projects enable row level security;
    alter table public.members enable row level security;
    alter table public.notes enable row level security;
    grant select, insert, update, delete on public.profiles, public.projects, public.members, public.notes
    to authenticated;
    create policy "own profile" on public.profiles using ((select auth.uid()) = id);
    create policy projects_of_owner on public.projects to authenticated
    using (auth.uid() = owner_id or id in (select m.project_id from public.members as m where m.user_id = auth.uid()))
    with check (owner_id = ((auth.jwt() ->> 'sub')::uuid));
    create policy own_memberships on public.members for select to authenticated using (user_id = auth.uid());
    create policy own_notes on public.notes to authenticated using (author = auth.uid());
    create function public.is_mine(owner uuid) returns boolean language sql stable
    as $$ select owner = auth.uid() $$;
    create function public.handle_new_user() returns trigger language plpgsql security definer
    as $$ begin insert into public.profiles (id) values (new.id); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
    for each row execute function public.handle_new_user();
"""


def user(
    connection: Connection,
    user_id: str,
    email: str | None = None,
    *,
    confirmed: bool = True,
    phone: str | None = None,
    password: str | None = BCRYPT,
    user_metadata: str | None = "{}",
    app_metadata: str | None = '{"provider": "email", "providers": ["email"]}',
    **flags: object,
) -> None:
    """Adds a user; *confirmed* holds for address and number; *flags* are more columns."""
    columns = {
        "id": user_id,
        "email": email,
        "email_confirmed_at": "2025-01-02T03:04:05Z" if confirmed and email else None,
        "phone": phone,
        "phone_confirmed_at": "2025-01-02T03:04:05Z" if confirmed and phone else None,
        "encrypted_password": password,
        "raw_user_meta_data": user_metadata,
        "raw_app_meta_data": app_metadata,
        "created_at": "2025-01-01T00:00:00Z",
        **flags,
    }
    statement = sql.SQL("insert into auth.users ({}) values ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(map(sql.Placeholder, columns))
    )
    connection.execute(statement, columns)


def app_of_three(database: Database, admin: Connection) -> Command:
    """Ada and Bob own a project each, and Bob is a member of Ada's; Eve never verified her address."""
    admin.execute(AUTH)
    admin.execute(APP)
    user(
        admin, ADA, "ada@example.test", user_metadata='{"full_name": "Ada King Lovelace", "role": "admin", "sub": "x"}'
    )
    user(admin, BOB, "bob@example.test")
    user(admin, EVE, "eve@example.test", confirmed=False)
    admin.execute("insert into public.projects (name, owner_id) values ('of ada', %s), ('of bob', %s)", [ADA, BOB])
    admin.execute("insert into public.members (project_id, user_id) values (1, %s)", [BOB])
    admin.execute("delete from public.profiles where id = %s", [EVE])
    admin.execute("insert into public.audit (actor, row_id) values (%s, gen_random_uuid())", [BOB])
    return Command({"DATABASE_URL": database.url})


def link(command: Command, store: Store) -> None:
    """Writes the pairs of Ada and Bob, whom Clerk has imported and the mirror knows."""
    store.apply(alone(upsert("user_ada", external_id=ADA), upsert("user_bob", external_id=BOB.upper())))
    command.run("adopt", "supabase-auth", "link", "--write")


def protection(admin: Connection) -> list[tuple[Any, ...]]:
    """Everything that decides who sees a row, but for the expressions."""
    return rows(
        admin,
        """
        select c.relname, c.relrowsecurity, c.relacl::text, c.reloptions::text, p.polname, p.polcmd, p.polroles::text
        from pg_class as c left join pg_policy as p on p.polrelid = c.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') order by 1, 5
        """,
    )
