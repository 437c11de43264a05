"""users_public is always the projection of users, whoever writes users; of a deleted user only the key is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.errors import InsufficientPrivilege, RestrictViolation

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, Rows, acting_as, rows
from tests.kit.histories import alone, delete, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually

DIFFERENCE = """
    with projection as (
        select clerk_id, username, first_name, last_name, image_url as avatar_url, null::timestamptz as deleted_at
        from clerk.users where deleted_at is null
        union all
        select clerk_id, null, null, null, null, deleted_at from clerk.users where deleted_at is not null
    )
    (table projection except table clerk.users_public) union all (table clerk.users_public except table projection)
"""


def difference(connection: Connection) -> Rows:
    return connection.execute(DIFFERENCE).fetchall()


@pytest.fixture(scope="module")
def connection(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


ids: st.SearchStrategy[str | None] = st.sampled_from(["user_1", "user_2", "user_3", "user_4"])
columns = st.sampled_from(["username", "first_name", "last_name", "image_url", "email", "locale"])
texts = st.sampled_from([None, "", "Ada", "Eve"])
deleted = st.sampled_from([None, "2020-01-01"])

Refusals = tuple[type[psycopg.Error], ...]

INSERT: LiteralString = "insert into clerk.users (clerk_id, {0}, deleted_at) values (%s, %s, %s)"
WRITES: dict[str, LiteralString] = {
    "insert": INSERT,
    "ignore": INSERT + " on conflict do nothing",
    "upsert": INSERT + " on conflict (clerk_id) do update set {0} = excluded.{0}, deleted_at = excluded.deleted_at",
    "update": "update clerk.users set {0} = %s where clerk_id <> %s",
    "update all": "update clerk.users set {0} = clerk_id, deleted_at = %s",
    "hide": "update clerk.users set deleted_at = %s where clerk_id = %s",
    "delete": "delete from clerk.users where clerk_id = %s",
    "rename": "update clerk.users set clerk_id = %s where clerk_id = %s",
    "truncate": "truncate clerk.users cascade",
    "merge": """
        merge into clerk.users as u using (values (%s, %s), ('user_2', 'Mae')) as v (id, name) on u.clerk_id = v.id
        when matched and v.name is null then delete
        when matched then update set {0} = v.name, deleted_at = null
        when not matched then insert (clerk_id, username) values (v.id, v.name)
    """,
}


USUAL_REFUSALS: Refusals = (psycopg.errors.IntegrityError, psycopg.errors.CardinalityViolation)
# It would leave no trace in the audit log.
REFUSALS: dict[str, Refusals] = {"truncate": (InsufficientPrivilege,)}


@st.composite
def writes(draw: st.DrawFn) -> tuple[str, str, list[Any]]:
    """One statement of the service role: its kind, a column and its parameters."""
    kind = draw(st.sampled_from(sorted(WRITES)))
    strategies: dict[str, list[st.SearchStrategy[str | None]]] = {
        "insert": [ids, texts, deleted],
        "ignore": [ids, texts, deleted],
        "upsert": [ids, texts, deleted],
        "update": [texts, ids],
        "update all": [deleted],
        "hide": [deleted, ids],
        "delete": [ids],
        "rename": [ids, ids],
        "truncate": [],
        "merge": [ids, texts],
    }
    return kind, draw(columns), [draw(each) for each in strategies[kind]]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(writes(), min_size=1, max_size=8))
def test_the_public_side_follows_every_write_of_the_service_role_to_users(
    connection: Connection, history: list[tuple[str, str, list[Any]]]
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("set local role service_role")
        for kind, column, parameters in history:
            statement = sql.SQL(WRITES[kind]).format(sql.Identifier(column))
            # A refused statement changes nothing at all, so the projection stays.
            with suppress(*REFUSALS.get(kind, USUAL_REFUSALS)), connection.transaction():
                connection.execute(statement, parameters)
            assert difference(connection) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("update clerk.users set deleted_at = null, username = 'ada'", "delete from clerk.users"),
        ("delete from clerk.users", "update clerk.users set deleted_at = null, username = 'ada'"),
        ("delete from clerk.users", "insert into clerk.users values ('user_1') on conflict do nothing"),
        (
            "update clerk.users set deleted_at = now()",
            "insert into clerk.users as u values ('user_1') on conflict (clerk_id) do update set deleted_at = null",
        ),
    ],
)
@pytest.mark.parametrize("deleted_at", [None, "2020-01-01"], ids=["there", "hidden"])
def test_two_writers_at_the_same_moment_leave_the_projection_correct(
    first: LiteralString, second: LiteralString, deleted_at: str | None, database: Database, admin: Connection
) -> None:
    admin.execute("insert into clerk.users (clerk_id, deleted_at) values ('user_1', %s)", [deleted_at])
    with database.connect() as one, database.connect() as other:
        with one.transaction():
            one.execute(first)
            writing = started(lambda: other.execute(second))
            eventually(lambda: waiting(admin), lambda number: number == 1)
        writing.join(timeout=60)
        assert not writing.is_alive()
    assert difference(admin) == []


def test_the_service_role_cannot_write_to_the_public_side_itself(connection: Connection) -> None:
    # It is always the projection of users: a hand that edits it makes it lie.
    with connection.transaction(force_rollback=True):
        with acting_as(connection, "service_role"):
            connection.execute("insert into clerk.users (clerk_id, username) values ('user_1', 'ada')")
        with pytest.raises(InsufficientPrivilege), acting_as(connection, "service_role"):
            connection.execute("update clerk.users_public set username = 'root'")


def test_when_the_owner_empties_users_nobody_stays_public(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("insert into clerk.users (clerk_id) values ('user_1')")
        connection.execute("truncate clerk.users cascade")
        assert rows(connection, "select * from clerk.users_public") == []


def test_nobody_gives_a_user_another_id(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("insert into clerk.users (clerk_id) values ('user_1')")
        with pytest.raises(RestrictViolation, match="names the object for good"):
            connection.execute("update clerk.users set clerk_id = 'user_2'")


def test_changes_that_sync_applies_reach_the_public_side(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1", username="ada"), upsert("user_2"), upsert("user_3")))
    store.apply(alone(upsert("user_1", version=2, username="augusta"), delete("user_3", at=9)))
    assert difference(admin) == []
    assert rows(admin, "select clerk_id, username, deleted_at is null from clerk.users_public order by 1") == [
        ("user_1", "augusta", True),
        ("user_2", None, True),
        ("user_3", None, False),
    ]


def test_a_change_of_an_email_does_not_touch_the_public_side(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert()))
    # xmax: a row that was only locked is written to the log, too.
    query: LiteralString = "select ctid::text, xmin::text, xmax::text from clerk.users_public"
    before = rows(admin, query)
    store.apply(alone(upsert(version=2, email_addresses=[], primary_email_address_id=None)))
    assert rows(admin, query) == before


def test_a_user_who_is_purged_leaves_the_public_side_too(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert()))
    admin.execute("delete from clerk.users")
    assert rows(admin, "select * from clerk.users_public") == []
