"""The sync function: from messages of the queue to rows, and its answer for each message."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator, Sequence
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from clerk_supabase.aws.queue import Message, Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.credentials import Fixed
from clerk_supabase.ingest import Ingest
from clerk_supabase.model.envelope import Envelope
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import IngestSettings
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.simulator.sqs import record
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign_body
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, at_port, outcomes, rows, value
from tests.kit.environments import environment_of
from tests.kit.histories import CREATED_AT, RECEIVED_AT
from tests.kit.proxy import CountingProxy

PRIVATE = "ada@private.example"


def body(user_id: str = "user_1", *, version: int = 1, event_type: str = "user.updated", **fields: Any) -> str:
    data = samples.user(user_id, created_at=CREATED_AT, updated_at=version) | fields
    return json.dumps(samples.event(event_type, data, timestamp=1_600_000_000_000 + version))


def message(text: str | bytes, number: int = 1) -> Message:
    sent = text.encode() if isinstance(text, str) else text
    return Message(f"message-{number}", Envelope(f"msg_{number}", sent, RECEIVED_AT))


@pytest.fixture
def sync(store: Store, account: Account) -> Sync:
    return Sync(store, Parking(store, Queue(account.sqs, account.parked_queue_url)))


@pytest.fixture
def sync_without_database(account: Account) -> Iterator[Sync]:
    nowhere = f"postgresql://clerk_sync_worker:secret@127.0.0.1:{free_port()}/postgres?sslmode=disable"
    with closing(Store(Fixed(nowhere))) as store:
        yield Sync(store, Parking(store, Queue(account.sqs, account.parked_queue_url)))


def must_come_again(sync: Sync, messages: Sequence[Message]) -> list[str]:
    return [failure.message_id for failure in sync.process(messages)]


def parked(admin: Connection) -> dict[str, str]:
    """The reason of every event in the table of parked events, by its delivery."""
    return dict(rows(admin, "select svix_id, reason from clerk_sync.parked_events"))


def overflowed(account: Account) -> dict[str, str]:
    """The reason of every event in the parked queue, by its delivery."""
    return {
        each["messageAttributes"]["svix_id"]["stringValue"]: each["messageAttributes"]["reason"]["stringValue"]
        for each in account.received(account.parked_queue_url)
    }


def counted(name: str) -> int:
    return int(sum(metrics.metric_set.get(name, {"Value": []})["Value"]))


def test_a_message_becomes_a_row(sync: Sync, admin: Connection) -> None:
    assert sync.process([message(body("user_1", first_name="Ada"))]) == []
    assert rows(admin, "select clerk_id, first_name, email from clerk.users") == [("user_1", "Ada", "1@example.test")]
    assert outcomes(admin) == {"msg_1": "created"}
    assert counted("Created") == 1


def test_every_column_arrives_as_clerk_sent_it(sync: Sync, admin: Connection) -> None:
    sync.process(
        [
            message(
                body(
                    external_id="42",
                    username="ada",
                    last_name=None,
                    locale="de-CH",
                    banned=True,
                    public_metadata={"plan": "pro", "seats": 3},
                    legal_accepted_at=1_600_000_000_123,
                )
            )
        ]
    )
    [row] = rows(
        admin,
        """
        select external_id, username, last_name, locale, banned, locked, public_metadata, deleted_at,
            extract(epoch from legal_accepted_at) * 1000, extract(epoch from created_at) * 1000,
            email_addresses -> 0 ->> 'email_address'
        from clerk.users
        """,
    )
    assert row == (
        *("42", "ada", None, "de-CH", True, False, {"plan": "pro", "seats": 3}, None),
        *(1_600_000_000_123, CREATED_AT, "1@example.test"),
    )


def test_private_metadata_reaches_no_table(sync: Sync, admin: Connection) -> None:
    sync.process([message(body(private_metadata={"note": PRIVATE}))])
    # A parked event would hold it as bytes, in which it would not be found.
    assert outcomes(admin) == {"msg_1": "created"}
    tables = "select schemaname, tablename from pg_tables where schemaname in ('clerk', 'clerk_sync')"
    for table in rows(admin, tables):
        query = sql.SQL("select coalesce(string_agg(t::text, ''), '') from {} as t").format(sql.Identifier(*table))
        [(content,)] = admin.execute(query).fetchall()
        assert PRIVATE not in content, table


def test_a_batch_of_many_is_applied_and_says_nothing_must_come_again(sync: Sync, admin: Connection) -> None:
    assert sync.process([message(body(f"user_{number}"), number) for number in range(10)]) == []
    assert value(admin, "select count(*) from clerk.users") == 10


def test_an_empty_batch_is_no_work(sync: Sync) -> None:
    assert sync.process([]) == []


def test_a_message_that_comes_again_changes_nothing(sync: Sync, admin: Connection) -> None:
    sync.process([message(body())])
    assert sync.process([message(body())]) == []
    assert outcomes(admin) == {"msg_1": "created"}
    assert counted("Duplicate") == 1


# Parked


UNUSABLE: dict[str, str | bytes] = {
    "empty": "",
    "no json": "not json",
    "no object": "[]",
    "no type": "{}",
    "not UTF-8": b"\xff",
    "no id": body(id=None),
    "no version": body(updated_at=None),
    "no object in it": json.dumps(samples.event("user.updated", {}, timestamp=1)),
    "a type that is not synced": body(event_type="session.created"),
    "a field of another type": body(external_id=[PRIVATE]),
    "half a surrogate pair": body(external_id=f"{PRIVATE}\ud800"),
    "a null character": body(external_id=f"{PRIVATE}\x00"),
    "a ban that is none": body(banned=PRIVATE),
    "public metadata that are none": body(public_metadata=PRIVATE),
}


@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE)
def test_an_event_that_cannot_be_applied_is_parked_alone(
    bad: str | bytes, sync: Sync, account: Account, admin: Connection
) -> None:
    batch = [message(body("user_1"), 1), message(bad, 2), message(body("user_3"), 3)]

    assert sync.process(batch) == []

    assert sorted(outcomes(admin)) == ["msg_1", "msg_3"]
    [(svix_id, reason, first_reason)] = rows(
        admin, "select svix_id, reason, first_reason from clerk_sync.parked_events"
    )
    assert svix_id == "msg_2"
    assert reason == first_reason != ""
    assert PRIVATE not in reason
    assert counted("Parked") == 1
    assert overflowed(account) == {}


def test_a_parked_event_keeps_all_that_was_known_of_it(sync: Sync, admin: Connection) -> None:
    text = body(banned="wrong")
    sync.process([message(text)])
    [row] = rows(
        admin,
        """
        select event_type, entity_id, user_id, reason_class, attempts, body, replayed_at,
            extract(epoch from received_at) * 1000, clock_timestamp() - first_parked_at < interval '1 minute'
        from clerk_sync.parked_events
        """,
    )
    assert row == ("user.updated", "user_1", "user_1", "unusable", 0, text.encode(), None, RECEIVED_AT, True)


def test_a_rule_of_the_database_parks_with_its_name(sync: Sync, admin: Connection) -> None:
    admin.execute("alter table clerk.users add constraint no_robots check (first_name <> 'Robot')")
    assert sync.process([message(body(first_name="Robot", last_name=PRIVATE))]) == []
    [(reason_class, reason)] = rows(admin, "select reason_class, reason from clerk_sync.parked_events")
    assert reason_class == "refused"
    assert "no_robots" in reason
    assert PRIVATE not in reason


def test_a_batch_in_which_everything_is_unusable_raises_nothing(sync: Sync, admin: Connection) -> None:
    batch = [message("{}", 1), message(body(external_id="\x00"), 2), message(body(id=None), 3)]
    assert sync.process(batch) == []
    assert sorted(parked(admin)) == ["msg_1", "msg_2", "msg_3"]


def test_all_that_a_batch_parks_is_one_round_trip(database: Database, account: Account) -> None:
    with (
        CountingProxy(database.server.port) as proxy,
        closing(Store(Fixed(at_port(database.worker_url, proxy.port)))) as store,
    ):
        sync = Sync(store, Parking(store, Queue(account.sqs, account.parked_queue_url)))
        sync.process([message(body("user_0"))])
        before = proxy.round_trips
        sync.process([message("{}", number) for number in range(10)])
        assert proxy.round_trips - before == 1


@pytest.mark.parametrize("position", range(10))
def test_poison_at_any_position_of_a_batch_is_parked_alone(position: int, sync: Sync, admin: Connection) -> None:
    batch = [message(body(f"user_{number}"), number) for number in range(10)]
    for poison in ("{}", body("user_poison", external_id="\x00")):
        batch[position] = message(poison, position)
        assert sync.process(batch) == []
    assert list(parked(admin)) == [f"msg_{position}"]
    assert sorted(outcomes(admin)) == [f"msg_{number}" for number in range(10) if number != position]


def test_without_the_table_of_parked_events_the_queue_holds_them(
    sync: Sync, account: Account, admin: Connection
) -> None:
    admin.execute("drop table clerk_sync.parked_events cascade")
    batch = [message("{}", 1), message(body("user_2"), 2), message(body(external_id="\x00"), 3)]
    assert sync.process(batch) == []
    assert outcomes(admin) == {"msg_2": "created"}
    assert list(overflowed(account)) == ["msg_1", "msg_3"]
    assert counted("Parked") == 2


def test_a_message_that_neither_table_nor_queue_takes_comes_again(
    sync: Sync, account: Account, admin: Connection
) -> None:
    admin.execute("drop table clerk_sync.parked_events cascade")
    account.remove_queue(account.parked_queue_url)
    batch = [message("{}", 1), message(body("user_2"), 2), message(body(external_id="\x00"), 3)]
    assert must_come_again(sync, batch) == ["message-1", "message-3"]
    assert outcomes(admin) == {"msg_2": "created"}
    assert counted("Parked") == 0


# The database is unavailable


def test_when_the_database_is_unavailable_all_messages_come_again_and_none_is_parked(
    sync_without_database: Sync, account: Account
) -> None:
    batch = [message(body(f"user_{number}"), number) for number in range(3)]
    assert must_come_again(sync_without_database, batch) == ["message-0", "message-1", "message-2"]
    assert overflowed(account) == {}
    assert counted("Postponed") == 3


def test_when_the_database_is_unavailable_an_unusable_event_is_still_parked(
    sync_without_database: Sync, account: Account
) -> None:
    assert must_come_again(sync_without_database, [message("{}", 1), message(body(), 2)]) == ["message-2"]
    assert list(overflowed(account)) == ["msg_1"]


def test_a_broken_connection_string_is_no_outage_all_messages_come_again_and_none_is_parked(account: Account) -> None:
    with closing(Store(Fixed("postgresql://clerk_sync_worker:S3cret%Pw@host/postgres"))) as store:
        sync = Sync(store, Parking(store, Queue(account.sqs, account.parked_queue_url)))
        assert must_come_again(sync, [message(body())]) == ["message-1"]
    assert overflowed(account) == {}
    assert (counted("SetUpWrong"), counted("Postponed")) == (1, 0)


def test_when_the_migrations_are_missing_all_messages_come_again(
    sync: Sync, account: Account, admin: Connection
) -> None:
    admin.execute("drop function clerk_sync.apply(jsonb)")
    assert must_come_again(sync, [message(body())]) == ["message-1"]
    assert parked(admin) == {}
    assert overflowed(account) == {}


def test_after_the_outage_the_same_messages_are_applied(sync: Sync, database: Database) -> None:
    batch = [message(body(f"user_{number}"), number) for number in range(3)]
    database.server.stop()
    try:
        assert len(sync.process(batch)) == 3
    finally:
        database.server.start()
    assert sync.process(batch) == []
    with database.connect() as admin:
        assert sorted(outcomes(admin).values()) == ["created"] * 3


# Log and metrics


def test_no_log_line_holds_personal_data(sync: Sync, admin: Connection, log: StringIO) -> None:
    private: dict[str, Any] = {"last_name": PRIVATE, "public_metadata": {"note": PRIVATE}}
    sync.process([message(body(**private)), message(body(**private, external_id=[PRIVATE]), 2)])
    sync.process([message(body(**private, username="\x00", unsafe_metadata={PRIVATE: "\x00"}), 3)])
    admin.execute("alter table clerk.users add constraint short check (length(last_name) < 5) not valid")
    sync.process([message(body("user_4", **private), 4)])
    admin.execute("drop function clerk_sync.apply(jsonb)")
    sync.process([message(body("user_5", **private), 5)])
    assert len(log.getvalue().splitlines()) == 6
    assert PRIVATE not in log.getvalue()


def test_a_message_of_postgres_with_personal_data_in_it_is_not_logged(
    sync: Sync, admin: Connection, log: StringIO
) -> None:
    # Any trigger of the app may raise with any SQLSTATE, and put the row into its message.
    admin.execute(
        """
        create function public.talk() returns trigger language plpgsql as
        $$ begin raise exception 'no: %', new.last_name using errcode = 'XYZ00'; end $$;
        create trigger talk before insert on clerk.users for each row execute function public.talk();
        """
    )
    sync.process([message(body(last_name=PRIVATE))])
    assert log.getvalue()
    assert PRIVATE not in log.getvalue()


def test_a_log_line_names_the_delivery_and_the_user(sync: Sync, log: StringIO) -> None:
    sync.process([message(body())])
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["message"], line["svix_id"], line["object_id"]) == ("created", "msg_1", "user_1")


# The whole way of an event, without a deployment


@pytest.fixture
def pipeline(account: Account, database: Database, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The sync function's handler after a cold start."""
    arn = account.put_secret("database", database.worker_url)
    environment = environment_of("sync", DATABASE_SECRET_ARN=arn, PARKED_QUEUE_URL=account.parked_queue_url)
    for name, given in environment.items():
        monkeypatch.setenv(name, given)
    module = runpy.run_path(str(root / "functions" / "sync" / "handler.py"))
    yield module["lambda_handler"]
    module["sync"]._store.close()


def test_the_handler_reports_only_the_messages_that_must_come_again(
    pipeline: Any, account: Account, admin: Connection
) -> None:
    admin.execute("drop table clerk_sync.parked_events cascade")
    account.remove_queue(account.parked_queue_url)
    event = {"Records": [record("message-1", body("user_1")), record("message-2", "{}")]}
    assert pipeline(event, None) == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    assert value(admin, "select count(*) from clerk.users") == 1


def test_a_signed_webhook_becomes_a_row(pipeline: Any, account: Account, admin: Connection) -> None:
    secret = generate_secret()
    arn = account.put_secret("webhook", secret)
    ingest = Ingest(
        IngestSettings(arn, account.sync_queue_url, account.parked_queue_url, "", 1_040_000),
        Secret(account.secrets_manager, arn),
        sync_queue=Queue(account.sqs, account.sync_queue_url),
        parked_queue=Queue(account.sqs, account.parked_queue_url),
        clock_ms=lambda: RECEIVED_AT,
    )
    name = "Zoë \ufffe 😀"
    request = sign_body(body(first_name=name), secret, svix_id="msg_1")
    assert ingest.answer(api_gateway_event(request)).status == 202

    assert pipeline(account.lambda_event(account.sync_queue_url), None) == {"batchItemFailures": []}

    assert value(admin, "select first_name from clerk.users") == name
    assert outcomes(admin) == {"msg_1": "created"}


def test_the_samples_of_events_become_rows(pipeline: Any, root: Path, admin: Connection) -> None:
    event = json.loads((root / "events" / "sync.json").read_bytes())
    assert pipeline(event, None) == {"batchItemFailures": []}
    assert len(outcomes(admin)) == len(event["Records"])
