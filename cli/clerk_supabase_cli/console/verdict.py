"""The answer to the first question: is Postgres true to Clerk?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from clerk_supabase.reconcile.corrections.deletes import UNLISTED
from clerk_supabase.reconcile.records import RunSummary
from clerk_supabase_cli.console.seen import Seen
from clerk_supabase_cli.doctor.checks.ages import OLDEST_USERS_SECONDS
from clerk_supabase_cli.event_types import is_compared, plural
from clerk_supabase_cli.operate.monitor.database_state import Compared, Database
from clerk_supabase_cli.operate.monitor.outages import DELIVERS_AGAIN, since_when, since_when_for_functions, they_wait
from clerk_supabase_cli.operate.reconcile_report import WHEN_STOPPED, differences, total
from clerk_supabase_cli.printing import counted, how_long, in_utc

Mood = Literal["good", "look", "bad", "unknown"]

MOODS: Final = {"good": "All is well", "look": "Please look", "bad": "Unavailable", "unknown": "Not known yet"}
"""The word beside each colour."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence, and the facts behind it."""

    mood: Mood
    words: str
    facts: tuple[str, ...] = ()


def verdict(seen: Seen, now: datetime | None = None) -> Verdict:
    """The most important fact decides. An answer of long before *now* is no answer."""
    now = now or datetime.now(UTC)
    if seen.outage:
        return Verdict("bad", f"The {since_when(seen.outage)}", tuple(_about_outage(seen)))
    database = seen.database
    if seen.database_error:
        return Verdict("bad", "The tables cannot be read", (seen.database_error,))
    if database is None or seen.read_at is None:
        return Verdict("unknown", "Reading the database")
    if seen.is_stale or now - seen.read_at > _OLDEST:
        return Verdict("unknown", "Reading the database again", (f"the last answer is of {in_utc(seen.read_at)} UTC",))
    if (of_functions := seen.status.outage) and seen.status.waiting:
        facts = (of_functions.reason, *_about_waiting(seen), DELIVERS_AGAIN)
        return Verdict("bad", f"The {since_when_for_functions(of_functions)}", facts)
    if stopped := stopped_run(seen):
        return Verdict("look", "A comparison waits for your decision", (*_about_brake(stopped), *_about_truth(seen)))
    if problems := seen.status.problems:
        words = "One thing is stuck" if len(problems) == 1 else f"{len(problems)} things are stuck"
        return Verdict("look", words, (*problems[:3], *_about_truth(seen)))
    return _of_comparisons(seen, database)


def _of_comparisons(seen: Seen, database: Database) -> Verdict:
    """The verdict of the last comparisons, while nothing else is wrong."""
    if never := [kind for kind, each in _in_use(database) if each.compared_until is None]:
        words = "Postgres was never compared with Clerk as a whole"
        return Verdict("look", words, (f"never compared: {', '.join(map(plural, never))}", _COMPARE))
    if (age := _age(database)) is not None and age > OLDEST_USERS_SECONDS:
        return Verdict("look", "Postgres was not compared with Clerk lately", (*_about_truth(seen), _COMPARE))
    if (newest := _newest_ended(seen)) and newest.state in ("incomplete", "failed"):
        return Verdict("look", "The last comparison left differences", tuple(_about_truth(seen)))
    if newest and (number := left(newest)):
        return Verdict("look", f"Postgres differs from Clerk in {counted(number, 'object')}", tuple(_about_truth(seen)))
    if newest and UNLISTED in (newest.reason or ""):
        return Verdict("look", "Postgres may differ from Clerk in new objects", tuple(_about_truth(seen)))
    return Verdict("good", "Postgres is true to Clerk", tuple(_about_truth(seen)))


# The pause between two counts of `status` is a minute, and on a large database a count takes some seconds.
_OLDEST: Final = timedelta(minutes=3)
_COMPARE: Final = "to compare everything: clerk-supabase reconcile"


def stopped_run(seen: Seen) -> RunSummary | None:
    """The run that the brake has stopped, unless a later run has ended otherwise."""
    newest = _newest_ended(seen)
    return newest if newest and newest.state == "stopped" else None


def last_complete(seen: Seen) -> RunSummary | None:
    """The newest comparison that compared every kind, and was allowed to repair."""
    return next((run for run in seen.runs if run.state == "complete" and not run.is_dry_run), None)


def repaired(run: RunSummary) -> str:
    """The number of differences that a run has repaired, or given to the queue; `all` if it left none.

    Rows hidden with their user or organization are repaired, and counted with neither.
    """
    number = sum(total(run, name) for name in ("repaired", "repairs sent", "deleted", "deletes sent"))
    return "all" if number and not run.reason and not left(run) else f"{number:,}"


def left(run: RunSummary) -> int:
    """The number of objects that a comparison knows to differ still: a delete waits for a second answer of Clerk, or
    the tables did not take the object."""
    of_deleted_here = total(run, "deleted here") - total(run, "restored")
    return of_deleted_here + sum(total(run, name) for name in ("awaiting", "older", "refused", "unusable"))


def _newest_ended(seen: Seen) -> RunSummary | None:
    """The newest comparison that has ended, and was allowed to repair."""
    return next((run for run in seen.runs if run.state != "running" and not run.is_dry_run), None)


def _about_outage(seen: Seen) -> Iterator[str]:
    if seen.outage:
        yield seen.outage.reason
    yield from _about_waiting(seen)


def _about_waiting(seen: Seen) -> Iterator[str]:
    if seen.queues and "sync" in seen.queues:
        yield f"{they_wait(seen.queues['sync'].total)} on the sync queue: none is lost, and all are applied afterwards"


def _about_brake(run: RunSummary) -> Iterator[str]:
    yield f"run {run.run_id}: {run.reason or run.state}"
    yield WHEN_STOPPED


def _about_truth(seen: Seen) -> Iterator[str]:
    if seen.database and (age := _age(seen.database)) is not None:
        yield f"every row was compared with Clerk within the last {how_long(max(1.0, age))}"
    if run := last_complete(seen):
        found = differences(run)
        said = f"found {counted(found, 'difference')} and repaired {repaired(run)}" if found else "found no difference"
        yield f"the last complete comparison, run {run.run_id}, {_ago(run)}, {said}"
    newest = _newest_ended(seen)
    if newest and newest.state in ("incomplete", "failed"):
        yield f"run {newest.run_id} is {newest.state}: {newest.reason or 'without a reason'}"
    elif newest and newest.state == "complete" and newest.reason:
        yield f"run {newest.run_id}: {newest.reason}"


def _ago(run: RunSummary) -> str:
    ended = run.finished_at or run.started_at
    return f"{how_long(max(1.0, (datetime.now(UTC) - ended).total_seconds()))} ago"


def _in_use(database: Database) -> list[tuple[str, Compared]]:
    """The kinds that a comparison covers."""
    return [(kind, each) for kind, each in database.compared.items() if is_compared(kind) and not each.is_switched_off]


def _age(database: Database) -> float | None:
    """The age of the oldest comparison of any kind; None if a kind was never compared as a whole."""
    ages = [each.age_seconds for _, each in _in_use(database)]
    return None if not ages or None in ages else max(each for each in ages if each is not None)
