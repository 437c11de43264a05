"""A user sees only what the policies allow, tried as each role that Supabase's API can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import alone, delete, upsert

ADA = {"sub": "user_ada", "role": "authenticated"}
EVE = {"sub": "user_eve", "role": "authenticated"}
GONE = {"sub": "user_gone", "role": "authenticated"}


@pytest.fixture(scope="module")
def people(shared_database: Database) -> Iterator[Connection]:
    """Ada and Eve have rows, Gone was deleted."""
    store = Store(Fixed(shared_database.worker_url))
    store.apply(alone(upsert("user_ada"), upsert("user_eve"), upsert("user_gone")))
    store.apply(alone(delete("user_gone", at=2)))
    store.close()
    with shared_database.connect() as connection:
        yield connection


def seen(people: Connection, table: str, claims: Any, role: str = "authenticated") -> list[str]:
    """The ids that a user with these claims sees in a table."""
    with acting_as(people, role, claims):
        query = sql.SQL("select clerk_id from {} order by 1").format(sql.Identifier(*table.split(".")))
        return [clerk_id for (clerk_id,) in people.execute(query)]


def test_a_user_reads_their_own_row_and_no_other(people: Connection) -> None:
    assert seen(people, "clerk.users", ADA) == ["user_ada"]
    assert seen(people, "clerk.users", EVE) == ["user_eve"]


def test_asking_for_the_row_of_another_user_finds_nothing(people: Connection) -> None:
    with acting_as(people, "authenticated", EVE):
        assert rows(people, "select * from clerk.users where clerk_id = 'user_ada'") == []
        assert value(people, "select count(*) from clerk.users") == 1


def test_a_signed_in_user_sees_the_public_side_of_everybody(people: Connection) -> None:
    assert seen(people, "clerk.users_public", ADA) == ["user_ada", "user_eve"]


def test_the_public_side_has_no_address_no_phone_and_no_metadata(people: Connection) -> None:
    columns = rows(
        people,
        "select column_name::text from information_schema.columns where table_name = 'users_public' order by 1",
    )
    assert [name for (name,) in columns] == [
        "avatar_url",
        "clerk_id",
        "deleted_at",
        "first_name",
        "last_name",
        "username",
    ]


def test_a_deleted_user_is_seen_by_nobody(people: Connection) -> None:
    assert seen(people, "clerk.users", GONE) == []
    assert "user_gone" not in seen(people, "clerk.users_public", GONE)
    assert "user_gone" not in seen(people, "clerk.users_public", ADA)


def test_a_user_without_a_row_sees_no_row_of_others(people: Connection) -> None:
    assert seen(people, "clerk.users", {"sub": "user_new"}) == []


@pytest.mark.parametrize("table", ["clerk.users", "clerk.users_public"])
@pytest.mark.parametrize("claims", [None, ADA, {"role": "anon"}])
def test_without_signing_in_nothing_can_be_read(table: LiteralString, claims: Any, people: Connection) -> None:
    with pytest.raises(InsufficientPrivilege):
        seen(people, table, claims, role="anon")


@pytest.mark.parametrize("table", ["clerk.users", "clerk.users_public"])
@pytest.mark.parametrize(
    "claims",
    [
        None,
        "",
        "{}",
        "null",
        "[]",
        '"user_ada"',
        "5",
        '["sub", "user_ada"]',
        '{"sub": null}',
        '{"sub": ""}',
        '{"Sub": "user_ada"}',
        '{"user_id": "user_ada"}',
        '[{"sub": "user_ada"}]',
        '{"o": {"sub": "user_ada"}}',
    ],
)
def test_claims_that_name_nobody_show_nothing(table: LiteralString, claims: Any, people: Connection) -> None:
    assert seen(people, table, claims) == []


@pytest.mark.parametrize("table", ["clerk.users", "clerk.users_public"])
@pytest.mark.parametrize("claims", ["not json", "{", "user_ada", '{"sub": "user_ada"', "'; select 1; --", "NaN"])
def test_claims_that_are_not_json_show_nothing(table: LiteralString, claims: str, people: Connection) -> None:
    assert seen(people, table, claims) == []


@pytest.mark.parametrize(
    "sub",
    [
        "%",
        "user_%",
        "USER_ADA",
        " user_ada",
        "user_ada ",
        "user_ada\\",
        "' or true --",
        ["user_ada"],
        {"a": 1},
        5,
        True,
    ],
)
def test_no_other_spelling_of_an_id_opens_the_row(sub: Any, people: Connection) -> None:
    assert seen(people, "clerk.users", {"sub": sub}) == []


def test_a_clerk_id_is_text_and_never_read_as_a_uuid(people: Connection) -> None:
    # auth.uid() would raise an error for every Clerk id.
    with acting_as(people, "authenticated", ADA):
        assert value(people, "select clerk.requesting_user_id()") == "user_ada"
        assert value(people, "select auth.jwt() ->> 'sub'") == "user_ada"


def test_claims_of_one_request_are_gone_in_the_next(people: Connection) -> None:
    assert seen(people, "clerk.users", ADA) == ["user_ada"]
    assert seen(people, "clerk.users", None) == []


@pytest.mark.parametrize(
    "statement",
    [
        "insert into {} (clerk_id) values ('user_new')",
        "insert into {} (clerk_id) values ('user_eve') on conflict (clerk_id) do update set username = 'eve'",
        "update {} set username = 'root' where clerk_id = 'user_eve'",
        "delete from {} where clerk_id = 'user_eve'",
        "truncate {} cascade",
        "select clerk_id from {} for update",
    ],
)
@pytest.mark.parametrize("table", ["users", "users_public"])
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_nobody_writes_through_the_api(role: str, table: str, statement: LiteralString, people: Connection) -> None:
    with pytest.raises(InsufficientPrivilege), acting_as(people, role, EVE):
        people.execute(sql.SQL(statement).format(sql.Identifier("clerk", table)))


@pytest.mark.parametrize("table", ["entities", "deliveries", "kinds", "migrations", "audit_log", "private_metadata"])
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_machinery_cannot_be_seen_through_the_api(role: str, table: str, people: Connection) -> None:
    with pytest.raises(InsufficientPrivilege), acting_as(people, role, ADA):
        people.execute(sql.SQL("select 1 from {}").format(sql.Identifier("clerk_sync", table)))


def test_every_table_has_row_level_security(people: Connection) -> None:
    unprotected = rows(
        people,
        """
        select c.oid::regclass::text from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname in ('clerk', 'clerk_sync') and not c.relrowsecurity
        """,
    )
    assert unprotected == []


def test_every_function_pins_its_search_path(people: Connection) -> None:
    unpinned = rows(
        people,
        """
        select p.oid::regprocedure::text from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname in ('clerk', 'clerk_sync', 'auth')
        and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)
        -- Relationships for PostgREST act as the caller, and are inlined only without settings.
        and not (n.nspname = 'clerk' and p.proretset and not p.prosecdef)
        """,
    )
    assert unpinned == []


def test_no_function_that_acts_as_its_owner_can_be_called_through_the_api(people: Connection) -> None:
    callable_definers = rows(
        people,
        """
        select p.oid::regprocedure::text, r.rolname::text from pg_proc as p
        inner join pg_namespace as n on n.oid = p.pronamespace
        cross join pg_roles as r
        where p.prosecdef and n.nspname in ('clerk', 'clerk_sync', 'auth')
        and r.rolname in ('anon', 'authenticated', 'service_role') and has_function_privilege(r.oid, p.oid, 'execute')
        """,
    )
    assert callable_definers == []


def test_the_service_role_sees_everybody(people: Connection) -> None:
    assert seen(people, "clerk.users", None, role="service_role") == ["user_ada", "user_eve", "user_gone"]


def test_a_table_granted_to_everybody_later_stays_closed(people: Connection) -> None:
    # Supabase's own default privileges, or a careless grant: the policies still hold.
    with people.transaction(force_rollback=True):
        people.execute("grant all on all tables in schema clerk to anon, authenticated")
        assert seen(people, "clerk.users", ADA, role="anon") == []
        assert seen(people, "clerk.users_public", ADA, role="anon") == []
        with acting_as(people, "authenticated", EVE):
            assert people.execute("update clerk.users set username = 'root'").rowcount == 0
            assert people.execute("delete from clerk.users").rowcount == 0
        with pytest.raises(InsufficientPrivilege), acting_as(people, "authenticated", EVE):
            people.execute("insert into clerk.users (clerk_id) values ('user_new')")
