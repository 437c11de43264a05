"""A batch is one round trip, and one bad change in it fails alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any, LiteralString

import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, ValueRefused
from clerk_supabase.model.changes import Change, Delete, Upsert
from clerk_supabase.postgres.store import Outcome, Store
from tests.kit.databases import Connection, Database, at_port, outcomes, rows, value
from tests.kit.histories import Applied, alone, delete, delivered, upsert
from tests.kit.proxy import CountingProxy
from tests.kit.webhooks import membership

PRIVATE = "ada@private.example"


@pytest.fixture
def proxy(database: Database) -> Iterator[CountingProxy]:
    with CountingProxy(database.server.port) as proxy:
        yield proxy


@pytest.fixture
def distant_store(database: Database, proxy: CountingProxy) -> Iterator[Store]:
    """A store behind the proxy, its connection already open."""
    with closing(Store(Fixed(at_port(database.worker_url, proxy.port)))) as store:
        store.apply(alone(upsert("user_0")))
        yield store


@pytest.mark.parametrize("size", [1, 10, 100, 1000])
def test_a_batch_of_any_size_is_one_round_trip(size: int, distant_store: Store, proxy: CountingProxy) -> None:
    batch = [delivered(upsert(f"user_{number}"), f"msg_{number}") for number in range(1, size + 1)]
    before = proxy.round_trips
    assert distant_store.apply(batch) == ["created"] * size
    assert proxy.round_trips == before + 1


def test_a_batch_of_everything_that_can_happen_is_one_round_trip(distant_store: Store, proxy: CountingProxy) -> None:
    distant_store.apply(alone(upsert("user_1", version=5), upsert("user_2"), delete("user_3", at=1)))
    before = proxy.round_trips
    batch = [
        delivered(upsert("user_1", version=4), "msg_stale"),
        delivered(upsert("user_2", version=2), "msg_unchanged"),
        delivered(upsert("user_2", version=3, first_name="New"), "msg_updated"),
        delivered(upsert("user_3"), "msg_refused"),
        delivered(delete("user_1", at=9), "msg_deleted"),
        delivered(upsert("user_4"), "msg_created"),
        delivered(upsert("user_4"), "msg_created"),
    ]
    assert distant_store.apply(batch)[-2:] == ["created", "duplicate"]
    assert proxy.round_trips == before + 1


def test_an_empty_batch_needs_no_database(proxy: CountingProxy, database: Database) -> None:
    with closing(Store(Fixed(at_port(database.worker_url, proxy.port)))) as store:
        assert store.apply([]) == []
    assert proxy.round_trips == 0


def test_nothing_is_prepared_so_that_a_transaction_pooler_may_stand_between(store: Store) -> None:
    for version in range(20):
        store.apply(alone(upsert(version=version)))
    assert store._kept.connection is not None
    assert rows(store._kept.connection, "select * from pg_prepared_statements") == []


def test_no_transaction_and_no_setting_outlives_a_batch(store: Store, database: Database) -> None:
    store.apply(alone(upsert()))
    assert store._kept.connection is not None
    session = "select name, setting from pg_settings where source = 'session'"
    assert rows(store._kept.connection, session) == []
    with database.connect() as admin:
        state = "select distinct state from pg_stat_activity where datname = current_database() and usename = %s"
        assert rows(admin, state, "clerk_sync_worker") == [("idle",)]


# Poison


def with_metadata(user_id: str, **metadata: Any) -> Upsert:
    return upsert(user_id, public_metadata=metadata)


POISONS: dict[str, Change] = {
    "a null character": with_metadata("user_bad", note=f"{PRIVATE}\x00"),
    "half a surrogate pair": with_metadata("user_bad", note=f"{PRIVATE}\ud800"),
    "not a number": with_metadata("user_bad", note=float("nan"), email=PRIVATE),
    "infinity": with_metadata("user_bad", note=float("inf"), email=PRIVATE),
    "an id with a null character": Delete("user", f"user_bad\x00{PRIVATE}", 1),
    "a value too long for its index": upsert("user_bad", external_id=PRIVATE + "".join(map(str, range(100_000)))),
}


@pytest.mark.each_value("poison", "position")
@pytest.mark.parametrize("position", [0, 3, 6])
@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_a_change_that_postgres_refuses_fails_alone(
    poison: Change, position: int, store: Store, admin: Connection
) -> None:
    batch = [delivered(upsert(f"user_{number}"), f"msg_{number}") for number in range(6)]
    batch.insert(position, delivered(poison, "msg_bad"))

    answers = store.apply(batch)

    refused = answers.pop(position)
    assert answers == ["created"] * 6
    assert isinstance(refused, ChangeRefused)
    assert PRIVATE not in str(refused)
    assert sorted(outcomes(admin)) == [f"msg_{number}" for number in range(6)]


def test_several_poisons_fail_each_alone(store: Store, admin: Connection) -> None:
    batch: list[Applied] = [
        delivered(upsert(f"user_{number}"), f"msg_{number}")
        if number % 4
        else delivered(with_metadata(f"user_{number}", note="\x00"), f"msg_{number}")
        for number in range(16)
    ]
    answers = store.apply(batch)
    assert [isinstance(answer, ChangeRefused) for answer in answers] == [number % 4 == 0 for number in range(16)]
    assert value(admin, "select count(*) from clerk.users") == 12


def test_a_batch_of_nothing_but_poison_raises_nothing(store: Store, admin: Connection) -> None:
    answers = store.apply(alone(*[with_metadata(f"user_{number}", note="\x00") for number in range(8)]))
    assert all(isinstance(answer, ChangeRefused) for answer in answers)
    assert rows(admin, "select * from clerk_sync.entities") == []


def test_one_poison_costs_a_few_round_trips_not_one_per_change(
    distant_store: Store, proxy: CountingProxy, admin: Connection
) -> None:
    admin.execute("alter table clerk.users add constraint no_robots check (first_name <> 'Robot')")
    batch = alone(*[upsert(f"user_{number}") for number in range(1, 100)], upsert("user_bad", first_name="Robot"))
    before = proxy.round_trips
    distant_store.apply(batch)
    # The whole, then two halves on each of seven levels.
    assert proxy.round_trips - before <= 1 + 2 * 7


def test_the_refusal_names_the_rule_that_was_broken(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk.users add constraint no_robots check (first_name <> 'Robot')")
    [refused] = store.apply(alone(upsert(first_name="Robot", last_name=PRIVATE)))
    assert isinstance(refused, ChangeRefused)
    assert "no_robots" in str(refused)
    assert "table users" in str(refused)
    assert PRIVATE not in str(refused)


RAISES: dict[str, LiteralString] = {
    "as usual": "raise exception 'no robots: %', new.email",
    "with a SQLSTATE of its own": "raise exception 'no robots: %', new.email using errcode = 'R0BOT'",
    "with a SQLSTATE of PostgREST's": "raise sqlstate 'PT422' using message = new.email",
    "as a right that is missing": "raise insufficient_privilege using message = new.email",
    "as a bug of the server": "raise internal_error using message = new.email",
    "by a failed assertion": "assert false, new.email",
    "with a SQLSTATE of wrong data": "raise sqlstate '22023' using message = new.email",
}


@pytest.mark.parametrize("statement", RAISES.values(), ids=RAISES)
def test_a_user_that_a_trigger_of_the_app_refuses_fails_alone(
    statement: LiteralString, store: Store, admin: Connection
) -> None:
    admin.execute(
        "create function public.no_robots() returns trigger language plpgsql as $$ "
        "begin if new.first_name = 'Robot' then " + statement + "; end if; return new; end $$"
    )
    admin.execute("create trigger a before insert on clerk.users for each row execute function public.no_robots()")
    batch = alone(upsert("user_1"), upsert("user_bad", first_name="Robot", last_name=PRIVATE), upsert("user_2"))

    first, refused, last = store.apply(batch)

    created: Outcome = "created"
    assert (first, last) == (created, created)
    assert isinstance(refused, ChangeRefused)
    assert "example.test" not in str(refused)


# Values of clients


STUMBLES: dict[str, LiteralString] = {
    "over a type": "alter table clerk.users alter column first_name type varchar(10)",
    "over an index": "create index on clerk.users (first_name)",
    "over an index of a number": "create index on clerk.users (((unsafe_metadata ->> 'age')::integer))",
    "over a trigger that divides by zero": """
        create function public.stumble() returns trigger language plpgsql as
        $$ begin perform 1 / (length(new.first_name) - 10000); return new; end $$;
        create trigger a before insert on clerk.users for each row execute function public.stumble();
    """,
}
LONG = hashlib.shake_256(b"name").hexdigest(5_000)


@pytest.mark.each_value("statement", "position")
@pytest.mark.parametrize("position", [0, 3, 6])
@pytest.mark.parametrize("statement", STUMBLES.values(), ids=STUMBLES)
def test_when_an_object_of_the_app_refuses_a_value_of_a_client_the_rest_is_applied(
    statement: LiteralString, position: int, store: Store, admin: Connection
) -> None:
    admin.execute(statement)
    batch = [delivered(upsert(f"user_{number}", first_name="Ada"), f"msg_{number}") for number in range(6)]
    hostile: dict[str, Any] = {"first_name": LONG, "unsafe_metadata": {"age": "old"}}
    batch.insert(position, delivered(upsert("user_bad", **hostile, last_name="Kept", banned=True), "msg_bad"))

    assert store.apply(batch) == ["created"] * 7
    assert store.apply(batch) == ["duplicate"] * 7

    query: LiteralString = "select banned, last_name, email is not null from clerk.users where clerk_id = 'user_bad'"
    assert rows(admin, query) == [(True, "Kept", True)]
    [(entity_id, svix_id, fields)] = rows(admin, "select entity_id, svix_id, fields from clerk_sync.dropped_fields")
    assert (entity_id, svix_id) == ("user_bad", "msg_bad")
    assert fields == [["first_name"], ["unsafe_metadata"]][statement == STUMBLES["over an index of a number"]]


def test_two_fields_that_postgres_refuses_leave_the_rest(store: Store, admin: Connection) -> None:
    for name in ("first_name", "last_name"):
        admin.execute(sql.SQL("create index on clerk.users ({})").format(sql.Identifier(name)))
    assert store.apply(alone(upsert(first_name=LONG, last_name=LONG, banned=True))) == ["created"]
    query: LiteralString = "select banned, first_name, last_name, email, email_verified from clerk.users"
    assert rows(admin, query) == [(True, None, None, None, False)]


def test_a_stub_that_postgres_refuses_prevents_no_membership(store: Store, admin: Connection) -> None:
    admin.execute("create index on clerk.users (first_name)")
    known = {"user_id": "user_1", "first_name": LONG, "last_name": "Kept"}
    assert store.apply([membership(at=1, role="org:admin", public_user_data=known)]) == ["created"]
    assert rows(admin, "select role from clerk.organization_memberships") == [("org:admin",)]
    assert rows(admin, "select first_name, last_name from clerk.users") == [(None, "Kept")]
    assert rows(admin, "select fields from clerk_sync.dropped_fields") == [(["user.first_name"],)]


def test_a_value_decided_by_others_is_never_emptied(store: Store, admin: Connection) -> None:
    admin.execute("create index on clerk.users ((public_metadata ->> 'role'))")
    [refused] = store.apply(alone(upsert(public_metadata={"role": LONG})))
    assert isinstance(refused, ValueRefused)
    assert rows(admin, "select * from clerk.users") == []


def test_a_user_with_metadata_as_large_as_clerk_allows_is_applied(store: Store) -> None:
    large = {f"key_{number}": "é" * 100 for number in range(80)}
    assert store.apply(alone(upsert(public_metadata=large, unsafe_metadata=large))) == ["created"]


def test_text_of_any_language_arrives_as_it_was_sent(store: Store, admin: Connection) -> None:
    name = "Zoë 😀 \u202e مرحبا \\u0000 '; drop table users; -- \"\t\n\x7f"
    store.apply(alone(upsert(first_name=name, public_metadata={"note": name, "n": 10**30})))
    assert value(admin, "select first_name from clerk.users") == name
    assert value(admin, "select public_metadata ->> 'note' from clerk.users") == name
    assert value(admin, "select public_metadata ->> 'n' from clerk.users") == str(10**30)
