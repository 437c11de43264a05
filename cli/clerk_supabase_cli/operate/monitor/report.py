"""The output of `clerk-supabase status` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.text import Text

from clerk_supabase_cli.event_types import is_compared, plural, why_not_compared
from clerk_supabase_cli.operate.monitor.database_state import Compared, Database, Reason, Recent
from clerk_supabase_cli.operate.monitor.status import Status
from clerk_supabase_cli.operate.parked import State
from clerk_supabase_cli.operate.queues import IN_WORDS, Depth, Name
from clerk_supabase_cli.printing import how_long, in_utc, printable
from clerk_supabase_cli.terminal import BAD, GOOD, Listing

NOTHING: Final = "nothing is stuck"
_STATES: Final[Mapping[State, str]] = {
    "parked": "parked",
    "replayed": "replayed without a result yet",
    "settled": "applied after all",
    "discarded": "discarded",
}


def report(status: Status, *, with_verdict: bool = True) -> Iterator[Listing | Text]:
    """Yields lists and lines. The verdict comes last, next to the prompt; without *with_verdict*, it is left out."""
    if status.queues is not None:
        yield _queue_list(status.queues)
    if status.database is not None:
        yield from _of_database(status.database)
    for what, reason in status.not_looked_at.items():
        yield Text(printable(f"{what}: not looked at; {reason}"))
    if with_verdict:
        yield from verdict(status)


def verdict(status: Status) -> Iterator[Text]:
    """Yields a line for each problem, or one that says that there is none."""
    for problem in status.problems:
        yield Text(printable(f"stuck: {problem}"), BAD)
    if not status.problems:
        yield Text(NOTHING, GOOD)


def _of_database(database: Database) -> Iterator[Listing | Text]:
    if database.reasons:
        yield _reason_list(database.reasons)
    yield Text(f"events ever parked: {ever_parked(database.events)}")
    last = f"{in_utc(database.last_delivery)} UTC" if database.last_delivery else "none yet"
    yield Text(f"last delivery applied: {last}")
    if any(recent.outcomes for recent in database.recent.values()):
        yield _lag_list(database.recent)
    for span, recent in database.recent.items():
        outcomes = ", ".join(f"{number:,} {outcome}" for outcome, number in recent.outcomes.items())
        yield Text(printable(f"applied in the last {span}: {outcomes or 'nothing'}"))
    yield _compared_list(database.compared)
    if database.left_out.newest is not None:
        said = f"objects applied in the last day without values that cannot be stored: {database.left_out.objects}"
        yield Text(printable(f"{said}; see: clerk-supabase explain {database.left_out.newest}"))
    if database.differing_objects:
        said = f"objects of the database not as the migrations of this version make them: {database.differing_objects}"
        yield Text(f"{said}; see: clerk-supabase migrate --dry-run")


def ever_parked(events: Mapping[State, int]) -> str:
    """The numbers of all events ever parked, by their present state in words."""
    return ", ".join(f"{number:,} {_STATES[state]}" for state, number in events.items() if number) or "none"


def _queue_list(queues: Mapping[Name, Depth]) -> Listing:
    listed = Listing("queue", "waiting", "in flight", "delayed", "oldest", numbers={"waiting", "in flight", "delayed"})
    for name, depth in queues.items():
        oldest = "unknown" if depth.oldest_seconds is None else how_long(depth.oldest_seconds) if depth.total else ""
        listed.add_row(IN_WORDS[name], f"{depth.waiting:,}", f"{depth.in_flight:,}", f"{depth.delayed:,}", oldest)
    return listed


def _reason_list(reasons: Sequence[Reason]) -> Listing:
    listed = Listing("parked", "type", "count", "oldest (UTC)", numbers={"count"})
    for each in reasons:
        listed.add_row(each.reason_class, each.event_type or "", f"{each.count:,}", in_utc(each.oldest))
    return listed


def _lag_list(recent: Mapping[str, Recent]) -> Listing:
    listed = Listing("lag", "p50", "p95", "p99", numbers={"p50", "p95", "p99"})
    for span, each in recent.items():
        for since, lag in (("accepted", each.from_accepted), ("it happened", each.from_happened)):
            numbers = ["", "", ""] if lag is None else [how_long(number) for number in (lag.p50, lag.p95, lag.p99)]
            listed.add_row(f"last {span}, since {since}", *numbers)
    return listed


def _compared_list(compared: Mapping[str, Compared]) -> Listing:
    listed = Listing("compared with Clerk", "ago", "every row since (UTC)", "changes until (UTC)")
    for kind, each in compared.items():
        why_not = (
            "switched off in Clerk" if each.is_switched_off else "" if is_compared(kind) else why_not_compared(kind)
        )
        if why_not:
            listed.add_row(plural(kind), "", why_not, "")
            continue
        ago = "" if each.age_seconds is None else how_long(each.age_seconds)
        every, changed = in_utc(each.compared_until) or "never", in_utc(each.changed_until) or "never"
        listed.add_row(plural(kind), ago, every, changed)
    return listed
