"""The logs of a stack's functions, read for events and outages that no table records."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from clerk_supabase_cli.operate.queues import client, errors_explained

# The newest records first: CloudWatch lists a period from its beginning, and a long one may take minutes.
# An event waits for at most 14 days.
_AGES: Final = (0, 15 * 60, 2 * 3600, 24 * 3600, 14 * 24 * 3600)
_MOST_SECONDS: Final = 10.0
# Retry looks every six minutes; its next report may be late.
_STREAK_SECONDS: Final = 15 * 60
# Errors about the access to the database, and not about a row or a lock.
_OUTAGES: Final = frozenset(
    {"DatabaseUnavailable", "DatabaseNotReady", "OtherVersion", "SetUpWrong", "SecretUnavailable"}
)

Function = Literal["ingest", "sync", "retry"]
_USERS_OF_THE_DATABASE: Final[tuple[Function, ...]] = ("sync", "retry")


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that ingest accepted."""

    at: datetime
    svix_id: str
    event_type: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The last attempt to apply an event, which failed and will be repeated."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the functions could not use the database."""

    since: datetime
    until: datetime
    """The last failure: the functions try again after some minutes."""
    reason: str


@dataclass(frozen=True, slots=True)
class FunctionLogs:
    """The logs of the functions of a stack. Each method raises AwsUnreachable."""

    stack_name: str
    seconds: float = _MOST_SECONDS
    """The longest time of a search, which then ends with what it found."""

    def accepted(self, object_id: str) -> list[Accepted]:
        """The accepted events of an object, each once, by the time of the first delivery."""
        found = [
            Accepted(at, str(record.get("svix_id")), str(record.get("event_type")))
            for at, record in self._search("ingest", object_id)
            if record.get("message") == "accepted" and record.get("object_id") == object_id
        ]
        first: dict[str, Accepted] = {}
        for each in sorted(found, key=lambda accepted: accepted.at):
            first.setdefault(each.svix_id, each)
        return list(first.values())

    def object_of(self, svix_id: str) -> str | None:
        """The id of the object of an accepted event; None if ingest accepted no such event."""
        for _, record in self._search("ingest", svix_id):
            if record.get("message") == "accepted" and record.get("svix_id") == svix_id and record.get("object_id"):
                return str(record["object_id"])
        return None

    def applied(self, object_id: str) -> set[str]:
        """The svix ids of an object's events that sync applied."""
        return {
            str(record.get("svix_id"))
            for _, record in self._search("sync", object_id)
            if record.get("object_id") == object_id
        }

    def failures(self) -> dict[str, Failed]:
        """The last failure of each event that could not be applied, by svix id."""
        found: dict[str, Failed] = {}
        for at, record in self._search("sync", "svix_ids"):
            for svix_id in _ids(record):
                if svix_id not in found or found[svix_id].at < at:
                    found[svix_id] = Failed(at, str(record.get("reason")))
        return found

    def outage(self, after: datetime | None = None) -> Outage | None:
        """The outage that goes on, as far back as a day; None if the last minutes had no failure.

        *after*: the time of the last applied event, whose outages are over.
        """
        failures: list[Failed] = []
        for ages in itertools.pairwise(_AGES[:-1]):
            found = [
                Failed(at, str(record.get("reason")))
                for function in _USERS_OF_THE_DATABASE
                for at, record in self._search(function, "svix_ids", ages)
                if record.get("failure") in _OUTAGES and (after is None or at > after)
            ]
            failures += found
            if not found:
                break
        return _last_streak(sorted(failures, key=lambda each: each.at, reverse=True))

    def _search(
        self, function: Function, phrase: str, ages: Sequence[int] = _AGES
    ) -> Iterator[tuple[datetime, dict[str, Any]]]:
        """The records that hold a phrase, each with its time, as far as the time for a search suffices."""
        deadline = time.monotonic() + self.seconds
        now = time.time_ns() // 1_000_000
        with errors_explained():
            pages = client("logs").get_paginator("filter_log_events")
            for newest, oldest in itertools.pairwise(ages):
                for page in pages.paginate(
                    logGroupName=f"/aws/lambda/{self.stack_name}-{function}",
                    filterPattern=json.dumps(phrase),
                    startTime=now - oldest * 1000,
                    endTime=now - newest * 1000,
                ):
                    for event in page["events"]:
                        if record := _record(event["message"]):
                            yield datetime.fromtimestamp(event["timestamp"] / 1000, UTC), record
                    if time.monotonic() > deadline:
                        return


def _last_streak(failures: Sequence[Failed]) -> Outage | None:
    """The outage of the newest failures, without a long pause between them. *failures*: the newest first."""
    if not failures:
        return None
    since = failures[0].at
    for each in failures:
        if (since - each.at).total_seconds() > _STREAK_SECONDS:
            break
        since = each.at
    return Outage(since, failures[0].at, failures[0].reason)


def _record(message: str) -> dict[str, Any] | None:
    """The fields of a record of the functions' logger; None for other output."""
    try:
        record = json.loads(message)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "message" in record else None


def _ids(record: dict[str, Any]) -> list[str]:
    ids = record.get("svix_ids")
    return [str(each) for each in ids] if isinstance(ids, list) else []
