"""Retry, parking, outages and crashes in random schedules: nothing is lost for them, and a fault would be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import LiteralString, cast

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase import retry
from clerk_supabase.aws.queue import Message
from clerk_supabase.errors import ChangeRefused, Retryable
from clerk_supabase.model.changes import Changes, Delivery
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.postgres.store import Outcome, Store
from clerk_supabase.retry import Retry
from clerk_supabase_cli.simulator import line
from clerk_supabase_cli.simulator.line import Job
from clerk_supabase_cli.simulator.orders import exploration, poison, schedules
from clerk_supabase_cli.simulator.orders.exploration import explore
from clerk_supabase_cli.simulator.orders.worker import Worker
from clerk_supabase_cli.simulator.outages import Outage
from clerk_supabase_cli.simulator.report import Report
from tests.kit.databases import Database, Databases, value

# Enough to find any fault; a search ends when it has. Always the same schedules, so that the duration is the same, too.
SCHEDULES = 1000
PLANTED = "planted"

LOST = "None, but applied in order"
POISON_LOST = "not parked, but it is"
PARKED_FOR_NOTHING = "parked though it could be applied"


@pytest.fixture(scope="module")
def reference(databases: Databases) -> Iterator[Database]:
    """A database in which each event is applied once, alone and in order."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> str:
    """Printed at the top of every run, settable by --hypothesis-seed."""
    return str(pytestconfig.option.hypothesis_seed)


Search = Callable[..., Report]


@pytest.fixture
def search(database: Database, reference: Database, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Small rounds with many outages.

    `first`: the first schedule, so that the search is short; each test has its own, which the reference has not seen.
    """
    monkeypatch.setattr(exploration, "AT_ONCE", 10)
    monkeypatch.setattr(schedules, "_OUT", 1 / 10)
    monkeypatch.setattr(exploration, "_MOST_SHRUNK", 0)
    return partial(explore, database, reference, schedules=SCHEDULES, seed=PLANTED)


def test_valid_events_are_applied_and_the_others_parked_during_any_outage(
    search: Search, seed: str, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    monkeypatch.setitem(poison._KINDS, "exhausted", 10)
    report = search(schedules=100 if exhaustive else 40, seed=seed, first=1_068_000)
    assert (report.differences, report.deadlocks) == ([], 0)
    assert min(report.outages, report.sent_back, report.retries_killed, report.parked) > 0


def test_the_queues_are_those_of_the_template(root: Path) -> None:
    resources = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))["Resources"]
    sync, dead, parked = (resources[name]["Properties"] for name in ("SyncQueue", "SyncDeadLetterQueue", "ParkedQueue"))
    assert sync["VisibilityTimeout"] == line.SYNC_VISIBILITY_SECONDS
    assert sync["RedrivePolicy"]["maxReceiveCount"] == line.MAX_RECEIVES
    assert dead["VisibilityTimeout"] == parked["VisibilityTimeout"] == line.RETRY_VISIBILITY_SECONDS
    sources = [
        event["Properties"]["BatchSize"]
        for name in ("SyncFunction", "RetryFunction")
        for event in resources[name]["Properties"]["Events"].values()
        if event["Type"] == "SQS"
    ]
    assert sources == [line.BATCH_SIZE] * 3


# Faults that must be found


def test_a_retry_function_that_deletes_before_it_sends_loses_its_messages_when_killed(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = Worker._do

    def delete_first(worker: Worker, job: Job) -> None:
        if job.queue != "dead letters":
            do(worker, job)
            return
        queue = worker._line._queues[job.queue]
        queue.delete(job.entries)
        staying = worker._functions[job.queue](job.messages)
        queue.messages += [each for each in job.entries if each.record["messageId"] in staying]

    monkeypatch.setattr(Worker, "_do", delete_first)
    hour = Outage("the database is read-only", 3_600)
    monkeypatch.setattr(schedules, "random_outages", lambda _: iter([hour]))
    monkeypatch.setattr(schedules, "_RETRY_SENDS", (0,))
    monkeypatch.setattr(exploration, "_MOST_SHRUNK", exploration.AT_ONCE)
    report = search(first=1_095_160)
    assert says([LOST], report)
    # All it takes: a message, an outage that makes a dead letter of it, and the crash.
    [batch] = report.smallest
    assert (len(batch.messages), batch.outages, batch.retry_sends) == (1, (hour,), 0)


def test_a_sync_function_that_acknowledges_before_it_applies_loses_events_in_an_outage_or_crash(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = Worker._do

    def acknowledge_first(worker: Worker, job: Job) -> None:
        if job.queue == "sync":
            worker._line.acknowledge(job, ())
        do(worker, job)

    monkeypatch.setattr(Worker, "_do", acknowledge_first)
    assert says([LOST, POISON_LOST], search(first=1_124_030))


def test_a_retry_function_that_counts_attempts_during_an_outage_parks_valid_events(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    def park_at_once(retry: Retry, messages: Sequence[Message]) -> Sequence[Message]:
        parked = [ParkedEvent(message.envelope, "exhausted", "failed too often") for message in messages]
        answers = retry._parking.park(parked)
        return [message for message, answer in zip(messages, answers, strict=True) if answer is not None]

    # Longer than a dead letter and one attempt more take.
    long = Outage("the database refuses connections", 3_600)
    monkeypatch.setattr(retry, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(schedules, "random_outages", lambda _: iter([long]))
    monkeypatch.setattr(Store, "check", lambda _: None)
    monkeypatch.setattr(Retry, "_try_once_more", park_at_once)
    report = search(first=1_135_060)
    assert says(["not left in the queue during the outage", "parked though it could be applied"], report)
    assert says([PARKED_FOR_NOTHING], report)


def test_an_event_that_never_works_and_is_never_parked_is_found(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each event is tried for two days, so that one schedule at a time is enough, without an outage.
    monkeypatch.setattr(exploration, "AT_ONCE", 1)
    monkeypatch.setattr(schedules, "_OUT", 0)
    monkeypatch.setitem(poison._KINDS, "exhausted", 60)
    monkeypatch.setattr(retry, "MAX_ATTEMPTS", 10_000)
    assert says(["neither applied nor parked"], search(first=1_154_157))


def test_an_event_that_is_parked_twice_is_found(search: Search, database: Database) -> None:
    with database.connect() as admin:
        park = value(admin, "select pg_get_functiondef('clerk_sync.park(jsonb)'::regprocedure)")
        start, end = park.index("on conflict"), park.index(kept := "body = coalesce(kept.body, excluded.body)")
        forgetful = park[:start] + park[end + len(kept) :]
        admin.execute(cast("LiteralString", forgetful))
        admin.execute("alter table clerk_sync.parked_events drop constraint parked_events_svix_id_key")
    assert says(["parked twice"], search(first=1_162_260))


Batch = Sequence[tuple[Changes, Delivery | None]]
Answers = Sequence[Outcome | ChangeRefused | Retryable]


@pytest.mark.parametrize(
    ("becomes_of_neighbours", "found"),
    [
        ("refused", [PARKED_FOR_NOTHING]),
        # If the poison is not the first of the batch, the poison is forgotten.
        ("forgotten", [LOST, POISON_LOST]),
    ],
    ids=["refused", "forgotten"],
)
def test_events_lost_or_parked_beside_an_invalid_event_are_found(
    becomes_of_neighbours: str, found: list[str], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Store.apply
    forgotten: Outcome = "stale"

    def apply_all_or_none(store: Store, batch: Batch) -> Answers:
        return apply(store, batch) if len(batch) == 1 else together(store, batch)

    def together(store: Store, batch: Batch) -> Answers:
        try:
            return store._apply_together(batch) if batch else []
        except ChangeRefused as refusal:
            if becomes_of_neighbours == "refused":
                return [refusal for _ in batch]
            return [refusal, *(forgotten for _ in batch[1:])]

    monkeypatch.setattr(Store, "apply", apply_all_or_none)
    assert says(found, search(first=1_176_060))


def says(what: Sequence[str], report: Report) -> bool:
    return any(each in difference for each in what for difference in report.differences)
