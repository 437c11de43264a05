"""A row that cannot be written now never delays other rows: in a batch, at a last try, in a run, while parking."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, LiteralString

import pytest

from clerk_supabase.aws.queue import Message, Queue, messages_of
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, DatabaseUnavailable, Retryable, RowUnavailable
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs, Repair
from clerk_supabase.retry import MAX_ATTEMPTS, Retry
from clerk_supabase.sync import Sync
from clerk_supabase_cli.operate import comparing
from clerk_supabase_cli.simulator.sqs import SimulatedQueue, SimulatedSqs, record
from tests.integration.test_retry import body, dead
from tests.kit.clock import Clock
from tests.kit.databases import Connection, Database, outcomes, rows, value
from tests.kit.histories import RECEIVED_AT, alone, delete, delivered, upsert
from tests.kit.proxy import CountingProxy
from tests.kit.reconciling import rig_with
from tests.kit.webhooks import deleted, membership, organization

PRIVATE = "ada@private.example"
REFUSE: LiteralString = """
    create function public.refuse() returns trigger language plpgsql as $$
    begin
        if new.first_name = 'Robot' then raise exception using errcode = tg_argv[0], message = new.email; end if;
        return new;
    end $$
"""


def let_a_trigger_raise(admin: Connection, sqlstate: LiteralString) -> None:
    """A trigger of the app raises this SQLSTATE for users called Robot."""
    admin.execute(REFUSE)
    admin.execute(
        "create trigger a before insert or update on clerk.users "
        "for each row execute function public.refuse('" + sqlstate + "')"
    )


@pytest.fixture
def hasty(database: Database) -> Iterator[Store]:
    """A worker that waits for no lock longer than the tests do."""
    with closing(Store(Fixed(database.worker_url_with(lock_timeout="300ms")))) as store:
        yield store


@contextmanager
def locked(database: Database, statement: LiteralString) -> Iterator[None]:
    """The app holds a lock in a transaction of its own."""
    with database.connect() as app, app.transaction():
        app.execute(statement)
        yield


PASSING: list[LiteralString] = ["40001", "40P01", "57014", "55P03", "57P01", "53300", "08006", "25006", "XX000"]


@pytest.mark.parametrize("sqlstate", PASSING)
def test_a_row_for_which_a_trigger_of_the_app_speaks_of_an_outage_comes_again_alone(
    sqlstate: LiteralString, store: Store, admin: Connection
) -> None:
    let_a_trigger_raise(admin, sqlstate)
    batch = [delivered(upsert(f"user_{number}"), f"msg_{number}") for number in range(9)]
    batch.insert(3, delivered(upsert("user_bad", first_name="Robot", email=PRIVATE), "msg_bad"))

    answers = store.apply(batch)

    failed = answers.pop(3)
    assert answers == ["created"] * 9
    # A bug of the server is none where the app raises it.
    assert isinstance(failed, ChangeRefused if sqlstate == "XX000" else RowUnavailable)
    assert PRIVATE not in str(failed)
    assert sorted(outcomes(admin)) == [f"msg_{number}" for number in range(9)]


def test_a_row_that_the_app_holds_locked_comes_again_alone(hasty: Store, database: Database, admin: Connection) -> None:
    hasty.apply(alone(upsert("user_3")))
    batch = [delivered(upsert(f"user_{number}", version=2, first_name="New"), f"msg_{number}") for number in range(10)]
    with locked(database, "update clerk.users set locale = 'fr'"):
        answers = hasty.apply(batch)
    assert [answer for answer in answers if answer != "created"] == [answers[3]]
    assert isinstance(answers[3], RowUnavailable)
    assert len(outcomes(admin)) == 9
    assert hasty.apply(batch) == [*["duplicate"] * 3, "updated", *["duplicate"] * 6]


def test_a_row_for_which_a_trigger_takes_too_long_comes_again_alone(database: Database, admin: Connection) -> None:
    admin.execute(
        """
        create function public.dawdle() returns trigger language plpgsql as
        $$ begin if new.first_name = 'Robot' then perform pg_sleep(60); end if; return new; end $$;
        create trigger a before insert on clerk.users for each row execute function public.dawdle();
        """
    )
    with closing(Store(Fixed(database.worker_url_with(statement_timeout="3s")))) as store:
        *_, slow = answers = store.apply(
            alone(upsert("user_1"), upsert("user_2"), upsert("user_3", first_name="Robot"))
        )
    assert answers[:2] == ["created", "created"]
    assert isinstance(slow, RowUnavailable)


def test_several_rows_of_every_sort_leave_the_others_alone(hasty: Store, database: Database, admin: Connection) -> None:
    let_a_trigger_raise(admin, "40001")
    admin.execute("alter table clerk.users add constraint no_eve check (first_name <> 'Eve')")
    hasty.apply(alone(upsert("user_locked")))
    batch = alone(
        upsert("user_1"),
        upsert("user_2", first_name="Robot"),
        upsert("user_3", first_name="Eve"),
        upsert("user_locked", version=2, first_name="New"),
        upsert("user_4", public_metadata={"note": "\x00"}),
        delete("user_5", at=1),
    )
    with locked(database, "select from clerk.users for update"):
        answers = hasty.apply(batch)
    assert (answers[0], answers[5]) == ("created", "deleted")
    assert [isinstance(answers[place], RowUnavailable) for place in (1, 3)] == [True, True]
    assert [isinstance(answers[place], ChangeRefused) for place in (2, 4)] == [True, True]


def test_the_locked_row_of_an_organization_keeps_only_its_own_delete_waiting(hasty: Store, database: Database) -> None:
    hasty.apply([organization("org_1", at=1), organization("org_2", at=1), membership(at=1)])
    with locked(database, "update clerk.organization_memberships set role_name = 'x'"):
        waiting, done = hasty.apply([deleted("organization", "org_1", at=2), deleted("organization", "org_2", at=2)])
    assert isinstance(waiting, RowUnavailable)
    assert done == "deleted"


def test_an_outage_is_not_tried_in_parts(database: Database, admin: Connection) -> None:
    admin.execute(f"alter database {database.name} set default_transaction_read_only = on")
    with CountingProxy(database.server.port) as proxy:
        url = database.worker_url.replace(f":{database.server.port}/", f":{proxy.port}/")
        with closing(Store(Fixed(url))) as store:
            with pytest.raises(DatabaseUnavailable):
                store.apply(alone(upsert("user_0")))
            before = proxy.round_trips
            with pytest.raises(DatabaseUnavailable) as caught:
                store.apply(alone(*[upsert(f"user_{number}") for number in range(10)]))
            assert proxy.round_trips == before + 1
    assert not isinstance(caught.value, RowUnavailable)


def test_the_limits_of_a_part_end_with_it(store: Store, admin: Connection) -> None:
    let_a_trigger_raise(admin, "40001")
    store.apply(alone(upsert("user_1"), upsert("user_2", first_name="Robot")))
    assert store._kept.connection is not None
    limits: LiteralString = "select setting from pg_settings where name in ('lock_timeout', 'statement_timeout')"
    assert rows(store._kept.connection, limits) == [("5000",), ("15000",)]
    assert store._kept.connection.info.transaction_status.name == "IDLE"


# Sync and retry


def of(message: Message) -> dict[str, Any]:
    envelope = message.envelope
    return record(
        message.message_id, envelope.body.decode(), svix_id=envelope.svix_id, received_at=str(envelope.received_at)
    )


def test_only_the_message_of_that_row_comes_again(store: Store, admin: Connection, log: io.StringIO) -> None:
    let_a_trigger_raise(admin, "40001")
    batch = [dead(1), dead(2, first_name="Robot"), dead(3), dead(4, id="")]
    [failure] = Sync(store, Parking(store)).process(batch)
    assert failure.message_id == "message-2"
    assert sorted(outcomes(admin)) == ["msg_1", "msg_3"]
    assert rows(admin, "select svix_id, reason_class from clerk_sync.parked_events") == [("msg_4", "unusable")]
    assert "raised by a trigger of the app (40001)" in log.getvalue()


def test_after_its_attempts_the_message_of_that_row_is_parked_with_its_reason_and_the_others_applied(
    store: Store, admin: Connection
) -> None:
    let_a_trigger_raise(admin, "40001")
    sqs = SimulatedSqs(Clock())
    sqs.queues["sync"] = SimulatedQueue(180)
    retry = Retry(store, Sync(store, Parking(store)), Queue(sqs.client, "sync"))
    names = {2: "Robot", 4: "Robot"}
    batch = [dead(number, attempts=MAX_ATTEMPTS, first_name=names.get(number, "Ada")) for number in range(6)]
    assert retry.process(batch) == []
    assert sorted(outcomes(admin)) == ["msg_0", "msg_1", "msg_3", "msg_5"]
    assert rows(admin, "select svix_id, reason_class, reason from clerk_sync.parked_events order by svix_id") == [
        (f"msg_{number}", "exhausted", "SerializationFailure raised by a trigger of the app (40001)")
        for number in (2, 4)
    ]


@pytest.mark.parametrize("number", ["2147483648", "253402214400001", "9" * 15, "9" * 400])
def test_a_number_that_no_column_holds_keeps_neither_its_message_nor_its_neighbours_in_the_parked_queue(
    number: str, store: Store, admin: Connection
) -> None:
    sqs = SimulatedSqs(Clock())
    sqs.queues["sync"] = SimulatedQueue(180)
    retry = Retry(store, Sync(store, Parking(store)), Queue(sqs.client, "sync"))
    by_hand = [
        record("message-1", "{}", svix_id="msg_1", reason="why", attempts=number),
        record("message-2", "{}", svix_id="msg_2", reason="why", received_at=number),
        record("message-3", "{}", svix_id="msg_3", reason="why"),
    ]
    assert retry.process(messages_of({"Records": by_hand})) == []
    dead_letter = [record("message-4", body("user_1").decode(), svix_id="msg_4", attempts=number, received_at=number)]
    assert retry.process(messages_of({"Records": dead_letter})) == []
    assert value(admin, "select count(*) from clerk_sync.parked_events") == 3


def test_an_event_that_the_table_of_parked_events_refuses_stays_alone(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk_sync.parked_events add constraint no_2 check (svix_id <> 'msg_2')")
    events = [ParkedEvent(Envelope(f"msg_{number}", b"{}", RECEIVED_AT), "refused", "why") for number in range(5)]
    answers = store.park(events)
    assert [answer is None for answer in answers] == [True, True, False, True, True]
    assert isinstance(answers[2], ChangeRefused)
    assert value(admin, "select count(*) from clerk_sync.parked_events") == 4


# Reconcile


def test_a_row_that_cannot_be_written_now_ends_no_run(database: Database) -> None:
    with rig_with(database, 1_200) as rig:
        let_a_trigger_raise(rig.admin, "40001")
        name = {"first_name": "Robot"}
        robot = list(rig.world.users)[700]
        rig.world.update("user", robot, name)
        report = rig.run()
        assert report.state == "complete"
        assert "rows held up by locks of other transactions, or kept by triggers of the app: 1" in (report.reason or "")
        assert rig.shown() == set(rig.world.users) - {robot}


def test_a_locked_row_is_named_and_the_others_are_repaired(
    hasty: Store, database: Database, admin: Connection, log: io.StringIO
) -> None:
    hasty.apply(alone(upsert("user_1"), upsert("user_2")))
    repairs = []
    for number in (1, 2):
        sent = json.loads(body(f"user_{number}", first_name="New"))["data"]
        repairs.append(Repair(1, "user", f"user_{number}", RECEIVED_AT, json.dumps(sent).encode()))
    with locked(database, "select from clerk.users where clerk_id = 'user_1' for update"):
        locked_row, other = DirectRepairs().send(hasty, repairs, RECEIVED_AT)
    assert isinstance(locked_row, Retryable)
    assert other == "updated"
    assert "reconcile-1-user_1" in log.getvalue()
    assert rows(admin, "select clerk_id from clerk.users where first_name = 'New'") == [("user_2",)]


def test_a_command_of_the_owner_waits_for_no_lock_of_the_app_without_limit(
    store: Store, database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_LOCK_SECONDS", 0.2)
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    batch = alone(*[upsert(f"user_{number}", version=2, first_name="New") for number in (1, 2)])
    with (
        comparing.open_runs(f"{database.url}?sslmode=disable&options=-c%20statement_timeout%3D8s") as runs,
        closing(runs.twin().store) as owner,
        locked(database, "select from clerk.users where clerk_id = 'user_1' for update"),
    ):
        locked_row, other = owner.apply(batch)
    assert isinstance(locked_row, RowUnavailable)
    assert "lock timeout" in str(locked_row)
    assert other == "updated"
