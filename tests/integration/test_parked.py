"""`clerk-supabase parked`: the work of an operator on events that could not be applied."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.errors import SetUpWrong
from clerk_supabase.model.changes import Delete
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.operate.database import DatabaseFailed, open_database
from clerk_supabase_cli.operate.parked import NoSuchEvent, NotPossible, Replayed, Selection, discard, find, replay
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT, alone
from tests.kit.parked import Command, created, park
from tests.kit.pipeline import Pipeline

REFUSE_ADA = "alter table clerk.users add constraint no_ada check (first_name <> 'Ada')"
TAKE_ADA = "alter table clerk.users drop constraint no_ada"


@pytest.fixture
def command(database: Database, account: Account) -> Command:
    return Command({"DATABASE_URL": database.url})


@pytest.fixture
def to_queues(account: Account) -> list[str]:
    """The options that name the queues of the account."""
    return ["--sync-queue-url", account.sync_queue_url, "--parked-queue-url", account.parked_queue_url]


@pytest.fixture
def pipeline(account: Account, store: Store) -> Pipeline:
    return Pipeline(account, store, received_at=RECEIVED_AT)


@contextmanager
def at_every_send(account: Account, happening: Callable[[], object]) -> Iterator[None]:
    """Something happens just before a message goes to SQS."""
    event = "before-call.sqs.SendMessage"

    def handler(**_: Any) -> None:
        happening()

    account.sqs.meta.events.register(event, handler)
    try:
        yield
    finally:
        account.sqs.meta.events.unregister(event, handler)


def delete_user(store: Store, user_id: str = "user_1") -> None:
    store.apply(alone(Delete("user", user_id, CREATED_AT + 9)))


# The whole way


def test_a_parked_event_is_listed_replayed_applied_and_settled(
    pipeline: Pipeline, admin: Connection, command: Command, to_queues: list[str]
) -> None:
    admin.execute(REFUSE_ADA)
    pipeline.post(json.dumps(created()), "msg_1")
    pipeline.drain()
    assert command.listed() == ["msg_1"]

    admin.execute(TAKE_ADA)
    command.run("parked", "replay", "msg_1", *to_queues)
    assert command.states() == {"msg_1": "replayed"}
    assert pipeline.drain() == []

    assert command.states() == {"msg_1": "settled"}
    assert "settled: created" in command.run("parked", "list", "--state", "settled").stdout
    assert command.listed() == []
    assert value(admin, "select first_name from clerk.users") == "Ada"


def test_a_replayed_event_that_fails_again_is_parked_again(
    pipeline: Pipeline, admin: Connection, command: Command, to_queues: list[str]
) -> None:
    admin.execute(REFUSE_ADA)
    pipeline.post(json.dumps(created()), "msg_1")
    pipeline.drain()

    command.run("parked", "replay", "--all", *to_queues)
    pipeline.drain()

    assert command.states() == {"msg_1": "parked"}


def test_an_event_that_clerk_sent_again_is_settled_without_a_replay(
    pipeline: Pipeline, admin: Connection, command: Command
) -> None:
    admin.execute(REFUSE_ADA)
    pipeline.post(json.dumps(created()), "msg_1")
    pipeline.drain()
    admin.execute(TAKE_ADA)

    pipeline.post(json.dumps(created()), "msg_1")
    pipeline.drain()

    assert command.states() == {"msg_1": "settled"}


# Replay


@pytest.mark.parametrize("body", [b'{"type": "user.created"}', "caf\u00e9".encode(), b"\xff\x00", b""])
def test_a_replayed_event_is_the_one_that_came_first(
    body: bytes, account: Account, store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1", body, attempts=8)

    command.run("parked", "replay", "msg_1", *to_queues)

    [message] = messages_of(account.lambda_event(account.sync_queue_url))
    envelope = message.envelope
    assert (envelope.svix_id, envelope.body, envelope.received_at) == ("msg_1", body, RECEIVED_AT)
    assert envelope.attempts == 0


def test_many_events_are_replayed_once_each(
    account: Account, store: Store, command: Command, to_queues: list[str]
) -> None:
    ids = [f"msg_{number:03}" for number in range(120)]
    body = json.dumps(created()).encode()
    store.park([ParkedEvent(Envelope(svix_id, body, RECEIVED_AT), "refused", "") for svix_id in ids])

    assert command.json("parked", "replay", "--all", *to_queues)["replayed"] == len(ids)

    sent = messages_of(account.lambda_event(account.sync_queue_url))
    assert sorted(message.envelope.svix_id for message in sent) == ids
    assert set(command.states().values()) == {"replayed"}
    assert command.json("parked", "replay", "--all", *to_queues)["replayed"] == 0


def test_an_event_that_is_back_before_it_is_marked_stays_parked(
    account: Account, store: Store, database: Database, command: Command
) -> None:
    park(store, "msg_1")
    with (
        at_every_send(account, lambda: park(store, "msg_1", reason="again")),
        open_database(database.url) as connection,
    ):
        result = replay(connection, Queue(account.sqs, account.sync_queue_url), Selection(states=("parked",)))

    assert result == Replayed(sent=1)
    assert command.states() == {"msg_1": "parked"}


def test_a_replay_killed_after_sending_leaves_a_duplicate_which_is_harmless(
    pipeline: Pipeline, database: Database, admin: Connection, command: Command, to_queues: list[str]
) -> None:
    account = pipeline.account
    park(pipeline.store, "msg_1")
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'clerk-supabase'"
    with (
        pytest.raises(DatabaseFailed),
        at_every_send(account, lambda: admin.execute(cut)),
        open_database(database.url) as connection,
    ):
        replay(connection, Queue(account.sqs, account.sync_queue_url), Selection())
    assert command.states() == {"msg_1": "parked"}

    command.run("parked", "replay", "msg_1", *to_queues)
    assert pipeline.drain() == []

    assert command.states() == {"msg_1": "settled"}
    assert rows(admin, "select outcome from clerk_sync.deliveries") == [("created",)]


def test_when_sqs_refuses_the_replay_says_so_and_nothing_is_marked(
    account: Account, store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1")
    account.remove_queue(account.sync_queue_url)

    result = command.run("parked", "replay", "--all", *to_queues, status=1)

    assert "0 replayed" in result.stdout
    assert "stopped, run it again for the rest" in result.stderr
    assert command.states() == {"msg_1": "parked"}


def test_an_event_whose_user_was_deleted_cannot_be_replayed_and_says_so(
    account: Account, store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1")
    park(store, "msg_2", created("user_2"))
    delete_user(store)

    refused = command.run("parked", "replay", "msg_1", "msg_2", *to_queues, status=1)
    assert isinstance(refused.exception, NotPossible)
    assert "msg_1 has no body any more" in str(refused.exception)
    assert account.received(account.sync_queue_url) == []
    assert command.listed("--scrubbed") == ["msg_1"]

    assert command.json("parked", "replay", "--all", *to_queues) == {
        "replayed": 1,
        "without_body": 1,
        "too_large": [],
        "stopped_by": None,
    }
    assert command.states() == {"msg_1": "parked", "msg_2": "replayed"}


def test_a_settled_or_unknown_event_is_not_replayed(
    pipeline: Pipeline, store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1")
    pipeline.post(json.dumps(created()), "msg_1")
    pipeline.drain()

    settled = command.run("parked", "replay", "msg_1", *to_queues, status=1)
    unknown = command.run("parked", "replay", "msg_2", *to_queues, status=1)

    assert "msg_1 is settled: it was applied (created)" in str(settled.exception)
    assert isinstance(unknown.exception, NoSuchEvent)
    assert "msg_2" in str(unknown.exception)


def test_an_event_replayed_before_is_sent_again_only_on_request(
    store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1")
    replays = [
        command.json("parked", "replay", *which, *to_queues)["replayed"]
        for which in (["--all"], ["--all"], ["--all", "--again"], ["msg_1"])
    ]
    assert replays == [1, 0, 1, 1]


@pytest.mark.parametrize("verb", ["replay", "discard"])
@pytest.mark.parametrize(
    "which", [[], ["msg_1", "--all"], ["--all", "--type", "user.*"], ["msg_1", "--class", "refused"]]
)
def test_replay_and_discard_need_a_choice_of_events(
    which: list[str], verb: str, store: Store, command: Command
) -> None:
    park(store, "msg_1")
    assert "Say which events" in command.run("parked", verb, *which, status=2).stderr
    assert command.states() == {"msg_1": "parked"}


def test_without_a_queue_replay_says_how_to_name_one(store: Store, command: Command) -> None:
    park(store, "msg_1")
    assert "--stack-name NAME" in command.run("parked", "replay", "--all", status=2).stderr


# Filters


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--type", "user.created"], ["msg_ada", "msg_old"]),
        (["--type", "user.*"], ["msg_ada", "msg_old"]),
        (["--type", "user_created"], []),
        (["--type", "*"], ["msg_ada", "msg_old"]),
        (["--class", "unusable"], ["msg_junk"]),
        (["--reason", "NO_ADA"], ["msg_ada"]),
        (["--reason", "%"], []),
        (["--entity", "user_ada"], ["msg_ada"]),
        (["--since", "2h"], ["msg_junk", "msg_ada"]),
        (["--before", "2h"], ["msg_old"]),
        (["--since", "2020-01-01", "--before", "2020-02-01T00:00+01:00"], []),
        (["--type", "user.*", "--reason", "constraint"], ["msg_ada"]),
        ([], ["msg_junk", "msg_ada", "msg_old"]),
    ],
    ids=" ".join,
)
def test_events_are_found_by(
    filters: list[str], found: list[str], store: Store, admin: Connection, command: Command
) -> None:
    park(store, "msg_old", created("user_old"), reason_class="exhausted", reason="timeout")
    admin.execute("update clerk_sync.parked_events set last_parked_at = now() - interval '1 day'")
    park(store, "msg_ada", created("user_ada"), reason="Postgres refuses the data, constraint no_ada")
    park(store, "msg_junk", b"[]", reason_class="unusable", reason="not an object")

    assert command.listed(*filters) == found


def test_a_filter_names_what_is_replayed_and_what_is_discarded(
    store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1", created(), reason="timeout")
    park(store, "msg_2", b"[]", reason_class="unusable")
    park(store, "msg_3", created("user_3"))

    command.run("parked", "replay", "--reason", "timeout", *to_queues)
    command.run("parked", "discard", "--class", "unusable", "--yes")

    assert command.states() == {"msg_1": "replayed", "msg_2": "discarded", "msg_3": "parked"}


@pytest.mark.parametrize("when", ["yesterday", "5y", "999999w", "2026-13-01"])
def test_a_time_that_is_none_is_refused_with_an_example(when: str, command: Command) -> None:
    assert "2026-01-31T12:00" in command.run("parked", "list", "--since", when, status=2).stderr


# Show and list


def test_a_parked_event_is_shown_with_its_body(store: Store, command: Command) -> None:
    park(store, "msg_1", reason="first")
    park(store, "msg_1", reason="second", attempts=8)

    shown = command.run("parked", "show", "msg_1").stdout
    assert all(text in shown for text in ("user.created", "user_1", "refused: second", "first", '"Ada"', "8 times"))
    document = command.json("parked", "show", "msg_1")
    assert json.loads(document["body"]) == created()
    assert document["event"]["state"] == "parked"


def test_a_body_that_is_no_text_is_shown_in_base64_to_machines(store: Store, command: Command) -> None:
    park(store, "msg_1", b"\xff\x00", reason_class="unusable")
    assert command.json("parked", "show", "msg_1")["body_base64"] == base64.b64encode(b"\xff\x00").decode()
    assert "\\xff\\x00" in command.run("parked", "show", "msg_1").stdout


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x9b2J", "\x1b]0;title\x07", "\u202eevil", "\r", "[bold]markup[/bold]", "\ud800"]
)
def test_foreign_text_cannot_command_the_terminal(hostile: str, store: Store, command: Command) -> None:
    text = json.dumps({"type": f"user.{hostile}", "data": {"id": f"user_{hostile}"}, "timestamp": 1})
    raw = f"not json {hostile}".encode(errors="surrogatepass")
    park(store, "msg_1", text.encode(), reason=f"because {hostile}")
    park(store, "msg_2", raw, reason_class="unusable")

    printed = [
        command.run("parked", "list").stdout,
        command.run("parked", "show", "msg_1").stdout,
        command.run("parked", "show", "msg_2").stdout,
        command.run("status", status=1).stdout,
    ]

    for each in printed:
        assert all(character.isprintable() or character == "\n" for character in each)
    assert "[bold]" not in hostile or "[bold]" in printed[0]


def test_the_list_says_how_many_there_are_and_how_many_wait_in_the_parked_queue(
    account: Account, store: Store, command: Command, to_queues: list[str]
) -> None:
    for number in range(3):
        park(store, f"msg_{number}")
    account.sqs.send_message(QueueUrl=account.parked_queue_url, MessageBody="{}")

    listed = command.run("parked", "list", "--limit", "2", *to_queues).stdout

    assert "3 events, 2 of them shown" in listed
    assert "1 more wait there" in listed
    assert command.json("parked", "list", *to_queues)["in_parked_queue"] == 1
    assert "not looked at; name it by --stack-name" in command.run("parked", "list").stderr


# Discard


def test_discarding_asks_first_and_leaves_a_trace(store: Store, admin: Connection, command: Command) -> None:
    park(store, "msg_1")

    assert "Discard 1 event for good?" in command.run("parked", "discard", "msg_1", answer="n\n", status=1).stderr
    assert command.states() == {"msg_1": "parked"}

    command.run("parked", "discard", "msg_1", answer="y\n")
    assert command.states() == {"msg_1": "discarded"}
    assert command.listed() == []
    assert rows(
        admin,
        "select discarded_by <> '', discarded_at <= now(), body is null, reason <> '' from clerk_sync.parked_events",
    ) == [(True, True, True, True)]


def test_without_an_answer_nothing_is_discarded(store: Store, command: Command) -> None:
    park(store, "msg_1")
    command.run("parked", "discard", "--all", "--json", status=1)
    assert command.states() == {"msg_1": "parked"}


def test_a_discarded_event_cannot_be_replayed_but_is_applied_when_clerk_sends_it_again(
    store: Store, command: Command, to_queues: list[str]
) -> None:
    park(store, "msg_1")
    command.run("parked", "discard", "msg_1", "--yes")
    assert "was discarded" in str(command.run("parked", "replay", "msg_1", *to_queues, status=1).exception)

    park(store, "msg_1")

    assert command.states() == {"msg_1": "parked"}
    assert command.json("parked", "replay", "msg_1", *to_queues)["replayed"] == 1


def test_an_event_parked_again_while_the_operator_thought_is_not_discarded(
    store: Store, database: Database, command: Command
) -> None:
    park(store, "msg_1")
    with open_database(database.url) as connection:
        seen = find(connection, Selection())
        park(store, "msg_1", reason="another one")
        assert discard(connection, seen, "ada") == 0
    assert command.states() == {"msg_1": "parked"}


# The database


def test_a_database_without_the_migrations_says_what_to_run(new_database: str, account: Account) -> None:
    failed = Command({"DATABASE_URL": new_database}).run("parked", "list", status=1)
    assert str(failed.exception).endswith("run: clerk-supabase migrate")


def test_the_role_of_the_worker_is_refused_with_the_advice_to_connect_as_the_owner(
    database: Database, account: Account
) -> None:
    failed = Command({"DATABASE_URL": database.worker_url}).run("parked", "list", status=1)
    assert "connect as the owner" in str(failed.exception)


@pytest.mark.parametrize("url", ["postgresql://nobody:hunter2@127.0.0.1:1/x", "hunter2", "postgresql://[hunter2"])
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(url: str, account: Account) -> None:
    failed = Command({"DATABASE_URL": url}).run("parked", "list", status=1)
    assert isinstance(failed.exception, DatabaseFailed | SetUpWrong)
    assert "hunter2" not in str(failed.exception)
    assert "\n" not in str(failed.exception)
