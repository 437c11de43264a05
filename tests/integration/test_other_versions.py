"""Functions and commands that meet a database of another version.

Of another major version: functions wait, and nothing is parked or lost; commands say what to do. Of another minor
version: all works.
"""

from __future__ import annotations

import io
import json
import runpy
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from clerk_supabase.aws.queue import Message, Queue
from clerk_supabase.errors import DatabaseNotReady, OtherVersion
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.model.changes import Delete
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.retry import MAX_ATTEMPTS, Retry
from clerk_supabase.settings import Keep
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import metrics
from clerk_supabase.version import MAJOR, VERSION
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.console import opened
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.doctoring import Doctor
from tests.kit.environments import environment_of
from tests.kit.histories import CREATED_AT, RECEIVED_AT, alone, delivered, upsert
from tests.kit.parked import Command
from tests.kit.reconciling import rig_with
from tests.kit.sessions import App

NEWER: Final = f"{MAJOR + 1}.0.0"
OLDER: Final = f"{MAJOR - 1}.9.0"
WHAT_TO_DO: Final = {
    NEWER: f"deploy the functions of version {MAJOR + 1}, with the command of that version",
    OLDER: f"apply the migrations of version {MAJOR}: clerk-supabase migrate",
}


def becomes(admin: Connection, version: str) -> None:
    """Makes the database one of another version, as the first new migration of that version does."""
    statement = f"""
        create or replace function clerk_sync.version() returns text language sql immutable parallel safe
        set search_path = pg_catalog, pg_temp as $$select '{version}'$$
    """
    admin.execute(statement.encode())


def counted(name: str) -> int:
    return int(sum(metrics.metric_set.get(name, {}).get("Value", [])))


def message(number: int, attempts: int = 0) -> Message:
    data = samples.user(f"user_{number}", created_at=CREATED_AT, updated_at=CREATED_AT + 1)
    body = json.dumps(samples.event("user.updated", data, timestamp=CREATED_AT + 1)).encode()
    return Message(f"message-{number}", Envelope(f"msg_{number}", body, RECEIVED_AT, attempts))


def made(store: Store, account: Account) -> tuple[Sync, Retry]:
    parked = Queue(account.sqs, account.parked_queue_url)
    sync = Sync(store, Parking(store, parked))
    return sync, Retry(store, Sync(store, Parking(store)), Queue(account.sqs, account.sync_queue_url))


def test_a_new_database_is_of_this_version(admin: Connection) -> None:
    assert value(admin, "select clerk_sync.version()") == VERSION


@pytest.mark.parametrize("version", WHAT_TO_DO)
def test_a_database_of_another_major_version_takes_nothing_and_says_what_to_do(
    version: str, admin: Connection, store: Store
) -> None:
    becomes(admin, version)
    calls: list[Callable[[], object]] = [
        store.check,
        lambda: store.apply(alone(upsert("user_1"))),
        lambda: store.apply([delivered(upsert("user_1"), "msg_1")]),
        lambda: store.park([ParkedEvent(message(1).envelope, "unusable", "why")]),
        lambda: store.call("windows_of_run", {"run": 1}),
    ]
    for call in calls:
        with pytest.raises(OtherVersion) as caught:
            call()
        assert str(caught.value) == (
            f"the database is of version {version}, and its caller of version {MAJOR}: {WHAT_TO_DO[version]}"
        )
    assert rows(admin, "select from clerk_sync.entities union all select from clerk_sync.parked_events") == []
    becomes(admin, VERSION)
    assert store.apply(alone(upsert("user_1"))) == ["created"]


@pytest.mark.parametrize("version", [f"{MAJOR}.99.0", f"{MAJOR}.0.99"])
def test_a_database_of_another_minor_version_works(version: str, admin: Connection, store: Store) -> None:
    becomes(admin, version)
    store.check()
    assert store.apply(alone(upsert("user_1"))) == ["created"]


def test_sync_and_retry_park_nothing_and_an_alarm_rings(admin: Connection, store: Store, account: Account) -> None:
    becomes(admin, NEWER)
    sync, retry = made(store, account)
    assert [each.message_id for each in sync.process([message(1), message(2)])] == ["message-1", "message-2"]
    assert retry.process([message(3), message(4, MAX_ATTEMPTS)]) == ["message-3", "message-4"]
    assert account.received(account.parked_queue_url) == []
    assert rows(admin, "select from clerk_sync.parked_events") == []
    # SetUpWrongAlarm rings at once, and no alarm on an outage.
    assert (counted("SetUpWrong"), counted("Postponed"), counted("RetryPostponed"), counted("Parked")) == (2, 0, 0, 0)
    becomes(admin, VERSION)
    assert sync.process([message(1), message(2)]) == []
    assert retry.process([message(4, MAX_ATTEMPTS)]) == []
    assert sorted(rows(admin, "select clerk_id from clerk.users")) == [("user_1",), ("user_2",), ("user_4",)]


MISSING: Final = {
    "the check": "drop function clerk_sync.for_major(anyelement, integer)",
    "the function that applies": "drop function clerk_sync.apply(jsonb)",
    "a column": "alter table clerk.users rename column first_name to given_name",
    "a kind": "delete from clerk_sync.kinds where kind = 'user'",
}


@pytest.mark.parametrize("missing", MISSING)
def test_functions_that_are_newer_than_the_database_wait_and_park_nothing(
    missing: str, admin: Connection, store: Store, account: Account
) -> None:
    admin.execute(MISSING[missing].encode())
    sync, retry = made(store, account)
    [failed] = sync.process([message(1)])
    assert isinstance(failed.error, DatabaseNotReady)
    assert "clerk-supabase migrate" in str(failed.error)
    assert retry.process([message(2, MAX_ATTEMPTS)]) == ["message-2"]
    assert account.received(account.parked_queue_url) == []
    assert rows(admin, "select from clerk_sync.parked_events") == []


def test_post_session_answers_503_and_lets_the_user_in_afterwards(app: App, admin: Connection) -> None:
    app.signs_up()
    becomes(admin, NEWER)
    answer = app.post()
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert (counted("SetUpWrong"), counted("Unavailable"), app.calls) == (1, 0, 0)
    becomes(admin, VERSION)
    assert app.post().status == 200


class Context:
    """The context of Lambda, as far as the function reads it."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def test_reconcile_ends_with_a_state_and_a_reason_and_compares_again_afterwards(
    database: Database, admin: Connection, account: Account, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rig_with(database, 3) as rig:
        rig.api.answers.key = "sk_live_standin"
        variables = environment_of(
            "reconcile",
            CLERK_SECRET_KEY_ARN=account.put_secret("clerk", "sk_live_standin"),
            CLERK_API_URL=rig.api.url,
            DATABASE_SECRET_ARN=account.put_secret("database", database.worker_url),
            SYNC_QUEUE_URL=account.sync_queue_url,
        )
        for name, each in variables.items():
            monkeypatch.setenv(name, each)
        module = runpy.run_path(str(root / "functions" / "reconcile" / "handler.py"))
        handler: Callable[[dict[str, Any], Context], dict[str, Any]] = module["lambda_handler"]
        with closing(module["store"]), closing(module["clerk_http"]):
            becomes(admin, NEWER)
            answer = handler({"mode": "full"}, Context())
            assert answer["state"] == "waiting"
            assert WHAT_TO_DO[NEWER] in answer["reason"]
            assert rows(admin, "select from clerk_sync.reconcile_runs") == []
            becomes(admin, VERSION)
            assert handler({"mode": "full"}, Context())["state"] == "complete"


def test_status_and_doctor_say_what_to_do(database: Database, admin: Connection, doctor: Doctor) -> None:
    assert doctor.verdict("versions") == ("ok", f"the database and this command are of version {VERSION} -> ")
    becomes(admin, f"{MAJOR}.99.0")
    verdict, words = doctor.verdict("versions")
    assert (verdict, f"the database is of version {MAJOR}.99.0" in words) == ("warn", True)
    becomes(admin, NEWER)
    verdict, words = doctor.verdict("versions")
    assert (verdict, "docs/upgrade.md" in words) == ("fail", True)
    login = doctor.examine("worker-login", SYNC_DATABASE_URL=database.worker_url)
    assert "docs/upgrade.md" in login.words("worker-login")
    status = Command({"DATABASE_URL": database.url}).run("status", status=1).output
    assert f"the database is of version {NEWER}, and this command of version {VERSION}" in " ".join(status.split())


def test_housekeeping_purges_nothing_says_why_and_rings(admin: Connection, store: Store, log: io.StringIO) -> None:
    store.apply(alone(upsert("user_1")))
    store.apply(alone(Delete("user", "user_1", CREATED_AT + 9)))
    admin.execute("update clerk_sync.entities set delete_recorded_at = now() - interval '400 days'")
    becomes(admin, NEWER)
    assert Housekeeping(store, Keep()).run() == 0
    assert counted("HousekeepingFailed") == 1
    assert WHAT_TO_DO[NEWER] in log.getvalue()
    becomes(admin, VERSION)
    assert Housekeeping(store, Keep()).run() == 1


def test_the_console_shows_the_version_and_changes_nothing(database: Database, admin: Connection, store: Store) -> None:
    store.park([ParkedEvent(message(1).envelope, "unusable", "why")])
    becomes(admin, NEWER)
    with opened(database.url, can_write=True) as visitor:
        words = " ".join(visitor.sees(f"the database is of version {NEWER}").split())
    assert f"and this command of version {VERSION}" in words
    assert rows(admin, "select svix_id from clerk_sync.parked_events") == [("msg_1",)]
