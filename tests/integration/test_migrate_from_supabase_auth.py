"""docs/migrate-from-supabase-auth.md: its SQL, run unchanged, on a database with users of Supabase Auth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
import pytest

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import alone, upsert

ADA, BOB, EVE = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))

_SQL_BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# As far as the document looks at it. https://github.com/supabase/auth, migrations
SUPABASE_AUTH: LiteralString = """
    create table auth.users (
        id uuid primary key, email text, phone text, encrypted_password text, email_confirmed_at timestamptz,
        phone_confirmed_at timestamptz, raw_app_meta_data jsonb, raw_user_meta_data jsonb, banned_until timestamptz,
        created_at timestamptz default now(), deleted_at timestamptz
    );
    create function auth.uid() returns uuid language sql stable
    as $$ select (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
    create table public.projects (
        id bigint generated always as identity primary key,
        name text not null,
        owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade
    );
    alter table public.projects enable row level security;
    grant select, insert, update, delete on public.projects to authenticated;
    create policy projects_of_their_owner on public.projects using (owner_id = auth.uid());
"""


@pytest.fixture(scope="module")
def blocks(root: Path) -> dict[str, list[LiteralString]]:
    """The SQL below each heading."""
    text = (root / "docs" / "migrate-from-supabase-auth.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## \d\. (.+)$", text, flags=re.MULTILINE)
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        heading: [
            cast("LiteralString", each) for each in re.findall(r"^```sql\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        ]
        for heading, part in found.items()
    }


@pytest.fixture
def old(admin: Connection) -> Iterator[Connection]:
    """A database with an app of Supabase Auth's: Ada and Bob have projects, Eve never verified anything."""
    admin.execute(SUPABASE_AUTH)
    for user_id, name, verified in ((ADA, "ada", True), (BOB, "bob", True), (EVE, "eve", False)):
        admin.execute(
            """
            insert into auth.users (
                id, email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data
            )
            values (
                %(id)s, %(email)s, '$2a$10$abcdefghijklmnopqrstuv', case when %(verified)s then now() end,
                '{"provider": "email", "providers": ["email"], "plan": "pro"}', '{"role": "admin"}'
            )
            """,
            {"id": user_id, "email": f"{name}@example.test", "verified": verified},
        )
    admin.execute("insert into public.projects (name, owner_id) values ('of ada', %s), ('of bob', %s)", [ADA, BOB])
    yield admin
    admin.execute("drop table public.projects; drop table auth.users; drop function auth.uid()")


def imported(store: Store) -> None:
    """Clerk has made the users, and its webhooks have brought them."""
    store.apply(
        alone(
            upsert("user_ada", external_id=ADA),
            upsert("user_bob", external_id=BOB),
            upsert("user_new", external_id=None),
        )
    )


def run(connection: Connection, blocks: list[LiteralString]) -> None:
    for block in blocks:
        connection.execute(block)


def test_the_queries_find_the_foreign_key_the_policy_and_the_default(
    old: Connection, blocks: dict[str, list[LiteralString]]
) -> None:
    keys, callers = blocks["Look"]
    assert rows(old, keys) == [("projects", "owner_id", "projects_owner_id_fkey", True)]
    assert [(kind, name) for kind, name in rows(old, callers)] == [
        ("default", "projects.owner_id"),
        ("policy", "projects_of_their_owner on projects"),
    ]


def test_auth_uid_fails_for_a_clerk_id(old: Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), acting_as(old, "authenticated", {"sub": "user_ada"}):
        old.execute("select * from public.projects")


def test_only_verified_users_are_exported_and_nobody_writes_their_own_role(
    old: Connection, blocks: dict[str, list[LiteralString]]
) -> None:
    [export] = blocks["Bring the users to Clerk"]
    exported: list[dict[str, Any]] = [user for (user,) in rows(old, export)]
    assert sorted(user["external_id"] for user in exported) == [ADA, BOB]
    ada = exported[0]
    assert ada["public_metadata"] == {"plan": "pro"}
    assert ada["unsafe_metadata"] == {"role": "admin"}
    assert (ada["password_hasher"], ada["email_address"]) == ("bcrypt", ["ada@example.test"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", ada["created_at"])


def test_afterwards_each_user_has_their_own_rows_by_their_clerk_id(
    old: Connection, store: Store, blocks: dict[str, list[LiteralString]]
) -> None:
    imported(store)
    *pairs, missing = blocks["Who is who"]
    run(old, pairs)
    assert rows(old, "select old_id::text, clerk_id from clerk_migration.identities order by 1") == [
        (ADA, "user_ada"),
        (BOB, "user_bob"),
    ]
    assert [email for _, email, _ in rows(old, missing)] == ["eve@example.test"]

    run(old, blocks["Turn uuids into Clerk ids, table by table"])
    assert rows(old, "select name, user_id, old_owner_id::text from public.projects order by 1") == [
        ("of ada", "user_ada", ADA),
        ("of bob", "user_bob", BOB),
    ]
    with acting_as(old, "authenticated", {"sub": "user_ada"}):
        assert rows(old, "select name from public.projects") == [("of ada",)]
    with acting_as(old, "authenticated", {"sub": "user_new"}):
        assert rows(old, "select name from public.projects") == []
        old.execute("insert into public.projects (name) values ('of somebody new')")
        assert rows(old, "select user_id from public.projects") == [("user_new",)]
    with pytest.raises(psycopg.errors.NotNullViolation):
        old.execute("insert into public.projects (name) values ('of nobody')")

    _, callers = blocks["Look"]
    assert rows(old, callers) == []
    old.execute("delete from auth.users")
    assert value(old, "select count(*) from public.projects") == 3
    run(old, blocks["Tidy up"])
    assert rows(old, "select 1 from information_schema.columns where column_name = 'old_owner_id'") == []


def test_a_row_whose_owner_is_not_in_clerk_stops_the_move_and_nothing_changes(
    old: Connection, store: Store, blocks: dict[str, list[LiteralString]]
) -> None:
    imported(store)
    run(old, blocks["Who is who"])
    function, move = blocks["Turn uuids into Clerk ids, table by table"]
    old.execute(function)
    old.execute("insert into public.projects (name, owner_id) values ('of eve', %s)", [EVE])
    with pytest.raises(psycopg.errors.RaiseException, match=r"1 rows of public\.projects belong"):
        old.execute(move)
    old.execute("rollback")
    assert value(old, "select count(*) from public.projects where owner_id is not null") == 3
    old.execute("drop schema clerk_migration cascade")


def test_two_users_of_clerk_with_one_old_id_are_found_out(
    old: Connection, store: Store, blocks: dict[str, list[LiteralString]]
) -> None:
    imported(store)
    store.apply(alone(upsert("user_twin", external_id=ADA)))
    *pairs, _ = blocks["Who is who"]
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(old, pairs)
    old.execute("drop schema if exists clerk_migration cascade")


def test_no_role_of_the_api_reads_the_pairs_of_old_and_new_ids(
    old: Connection, store: Store, blocks: dict[str, list[LiteralString]], database: Database
) -> None:
    run(old, blocks["Who is who"])
    for role in ("anon", "authenticated"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(old, role):
            old.execute("select * from clerk_migration.identities")
    old.execute("drop schema clerk_migration cascade")
