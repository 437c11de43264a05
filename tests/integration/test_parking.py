"""The table of parked events: the data kept, and the time of its removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Delete
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.model.events import Subject, subject_of
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT, alone
from tests.kit.polling import eventually
from tests.kit.stored import tables_with

TIMES = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 1}
PRIVATE = "ada@private.example"


def sent(event_type: str, data: Any) -> bytes:
    return json.dumps(samples.event(event_type, data, timestamp=CREATED_AT + 1)).encode()


def of_user(user_id: str = "user_1") -> bytes:
    return sent("user.updated", samples.user(user_id, **TIMES) | {"last_name": PRIVATE})


def of_member(user_id: str = "user_1") -> bytes:
    member = samples.user(user_id, **TIMES) | {"last_name": PRIVATE}
    membership = samples.membership("orgmem_1", samples.organization("org_1", **TIMES), member, **TIMES)
    return sent("organizationMembership.updated", membership)


def event(body: bytes, svix_id: str = "msg_1", *, reason: str = "why", attempts: int = 0) -> ParkedEvent:
    return ParkedEvent(Envelope(svix_id, body, RECEIVED_AT, attempts), "refused", reason)


def bodies(admin: Connection) -> dict[str, bytes | None]:
    return dict(rows(admin, "select svix_id, body from clerk_sync.parked_events"))


# Data that is kept


def test_an_event_that_is_parked_again_keeps_its_first_reason_and_counts_as_not_replayed(
    store: Store, admin: Connection
) -> None:
    store.park([event(b"{}", reason="first")])
    [first] = rows(admin, "select parked_id, first_parked_at, last_parked_at from clerk_sync.parked_events")
    admin.execute("update clerk_sync.parked_events set replayed_at = now()")
    store.park([event(b"{}", reason="second", attempts=8)])
    [(parked_id, reason, first_reason, attempts, replayed_at, first_at, last_at)] = rows(
        admin,
        """
        select parked_id, reason, first_reason, attempts, replayed_at, first_parked_at, last_parked_at
        from clerk_sync.parked_events
        """,
    )
    assert (parked_id, reason, first_reason, attempts, replayed_at) == (first[0], "second", "first", 8, None)
    assert first_at == first[1]
    assert last_at > first[2]


def test_the_same_event_twice_in_a_batch_is_one_row_with_the_most_attempts(store: Store, admin: Connection) -> None:
    store.park([event(b"{}", attempts=2), event(b"{}", attempts=8), event(b"{}", attempts=5)])
    assert rows(admin, "select attempts from clerk_sync.parked_events") == [(8,)]


texts = st.text(st.characters(), max_size=50)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile=st.builds(event, st.binary(), texts.filter(bool), reason=texts), name=texts)
@example(hostile=event(b"\x00\xff", "x" * 5000, reason="\x00"), name="\x00")
@example(hostile=event(b"", "\ud800", reason="\ud800"), name="\ud800")
@example(hostile=event(b"[" * 10_000, "😀" * 300, reason="😀" * 5000), name="x" * 5000)
def test_there_is_nothing_that_cannot_be_parked(
    hostile: ParkedEvent, name: str, store: Store, admin: Connection
) -> None:
    named = event(json.dumps({"type": name, "data": {"id": name, "user_id": name}}).encode(), "msg_named")
    admin.execute("delete from clerk_sync.parked_events")
    store.park([hostile, named])
    assert sorted(each or b"" for each in bodies(admin).values()) == sorted(
        each.envelope.body for each in (hostile, named)
    )


def test_long_ids_that_begin_the_same_stay_apart(store: Store, admin: Connection) -> None:
    store.park([event(b"1", "x" * 5000 + "1"), event(b"2", "x" * 5000 + "2")])
    assert sorted(bodies(admin).values(), key=str) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        (of_user(), Subject("user.updated", "user_1", "user_1")),
        (of_member(), Subject("organizationMembership.updated", "orgmem_1", "user_1")),
        (
            sent("organizationInvitation.accepted", {"id": "orginv_1", "user_id": "user_1"}),
            Subject("organizationInvitation.accepted", "orginv_1", "user_1"),
        ),
        (sent("organization.created", {"id": "org_1"}), Subject("organization.created", "org_1", None)),
        (sent("user.updated", {}), Subject("user.updated", None, None)),
        (b'{"type": 5, "data": [1]}', Subject()),
        (b'{"type": "user.updated", "data": {"id": 7}}', Subject("user.updated", None, None)),
        (b"[1]", Subject()),
        (b"", Subject()),
        (b"\xff", Subject()),
        (b"[" * 100_000, Subject()),
        (b"9" * 100_000, Subject()),
    ],
    ids=lambda value: str(value)[:40],
)
def test_type_object_and_user_of_a_body_are_read_as_far_as_they_are_named(body: bytes, subject: Subject) -> None:
    assert subject_of(body) == subject


# The end of the time to keep


def test_the_bodies_about_a_user_are_erased_when_the_user_is_deleted(store: Store, admin: Connection) -> None:
    store.park([event(of_user(), "msg_1"), event(of_member(), "msg_2"), event(of_user("user_2"), "msg_3")])
    store.apply(alone(Delete("user", "user_1", CREATED_AT + 2)))
    assert bodies(admin) == {"msg_1": None, "msg_2": None, "msg_3": of_user("user_2")}
    store.apply(alone(Delete("user", "user_2", CREATED_AT + 2)))
    assert tables_with(admin, PRIVATE) == []
    assert value(admin, "select count(*) from clerk_sync.parked_events where reason is not null") == 3


def test_an_event_parked_after_its_user_was_deleted_keeps_no_body(store: Store, admin: Connection) -> None:
    store.apply(alone(Delete("user", "user_1", CREATED_AT + 2)))
    store.park([event(of_user(), "msg_1"), event(of_member(), "msg_2"), event(of_user("user_2"), "msg_3")])
    assert bodies(admin) == {"msg_1": None, "msg_2": None, "msg_3": of_user("user_2")}


def test_the_end_of_an_organization_erases_no_body_of_a_user(store: Store, admin: Connection) -> None:
    store.park([event(of_user())])
    store.apply(alone(Delete("organization", "user_1", CREATED_AT + 2)))
    assert bodies(admin) == {"msg_1": of_user()}


def test_a_body_is_erased_ninety_days_after_it_was_parked(store: Store, admin: Connection) -> None:
    store.park([event(b"old", "msg_1"), event(b"young", "msg_2")])
    admin.execute(
        """
        update clerk_sync.parked_events
        set last_parked_at = now() - case svix_id when 'msg_1' then interval '91 days' else interval '89 days' end
        """
    )
    store.park([event(b"new", "msg_3")])
    assert bodies(admin) == {"msg_1": None, "msg_2": b"young", "msg_3": b"new"}


@contextmanager
def blocked_until_the_end(admin: Connection) -> Iterator[None]:
    """Asserts that the statement of another session, begun in the block, is still waiting when the block ends."""
    yield
    eventually(lambda: rows(admin, "select 1 from pg_locks where not granted"), bool)


DELETED = json.dumps([{"kind": "user", "id": "user_1", "observed_at": 1, "deleted_at": 1, "cause": "operator"}])


@pytest.mark.parametrize("is_known", [True, False])
def test_an_event_that_is_parked_while_its_user_is_being_deleted_keeps_no_body(
    is_known: bool, store: Store, database: Database, admin: Connection
) -> None:
    if is_known:
        store.park([event(of_user())])
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute("select * from clerk_sync.apply(%s::jsonb)", [DELETED])
            with blocked_until_the_end(admin):
                parked = pool.submit(store.park, [event(of_member(), "msg_2")])
        parked.result()
    assert set(bodies(admin).values()) == {None}


def test_a_user_who_is_deleted_while_an_event_is_being_parked_leaves_no_body(
    store: Store, database: Database, admin: Connection
) -> None:
    parked = [{"svix_id": "msg_1", "user_id": "user_1", "reason_class": "refused", "reason": "why", "attempts": 0}]
    batch = json.dumps([parked[0] | {"received_at": RECEIVED_AT, "body": "e30="}])
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute("select clerk_sync.park(%s::jsonb)", [batch])
            with blocked_until_the_end(admin):
                applied = pool.submit(store.apply, alone(Delete("user", "user_1", CREATED_AT + 2)))
        applied.result()
    assert bodies(admin) == {"msg_1": None}


def test_only_the_events_with_a_word_are_found_by_it(store: Store, admin: Connection) -> None:
    store.park([event(b'{"mail":"ada@example.test"}', "msg_ada"), event(b'{"mail":"eve@example.test"}', "msg_eve")])
    found = (
        "select array(select svix_id from clerk_sync.parked_events where ctid = any(clerk_sync.lock_parked_events(%s)))"
    )
    assert value(admin, found, ["ada@example.test"]) == ["msg_ada"]
    assert value(admin, found, []) == []


def test_workers_that_park_and_delete_at_once_never_deadlock(database: Database, admin: Connection) -> None:
    def work(number: int) -> None:
        with closing(Store(Fixed(database.worker_url))) as store:
            for turn in range(20):
                users = [f"user_{turn}_{each}" for each in range(4)]
                if number % 2:
                    store.park([event(of_user(user), f"msg_{user}") for user in users[::-number]])
                else:
                    store.apply(alone(*(Delete("user", user, CREATED_AT + 2) for user in users)))

    with ThreadPoolExecutor(4) as pool:
        for task in [pool.submit(work, number) for number in range(4)]:
            task.result()
    assert len(bodies(admin)) == 80
    assert set(bodies(admin).values()) == {None}
