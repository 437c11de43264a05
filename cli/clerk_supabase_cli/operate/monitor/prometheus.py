"""The status as metrics in Prometheus's text format. https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from clerk_supabase_cli.operate.monitor.database_state import Database, Recent
from clerk_supabase_cli.operate.monitor.status import Status
from clerk_supabase_cli.operate.queues import Depth, Name
from clerk_supabase_cli.printing import printable

_PREFIX: Final = "clerk_supabase_"
_QUANTILES: Final = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}


@dataclass(frozen=True, slots=True)
class _Metric:
    """A gauge with its samples: a value for each set of labels."""

    name: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float | datetime | None, **labels: str) -> None:
        """Adds a sample; None: an unknown value, which is left out."""
        if value is not None:
            number = value.timestamp() if isinstance(value, datetime) else float(value)
            self.samples.append((labels, number))

    def lines(self) -> Iterator[str]:
        """The lines of the text format; none without samples."""
        if self.samples:
            yield f"# HELP {_PREFIX}{self.name} {self.help}"
            yield f"# TYPE {_PREFIX}{self.name} gauge"
        for labels, number in self.samples:
            inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
            yield f"{_PREFIX}{self.name}{{{inside}}} {number!r}" if inside else f"{_PREFIX}{self.name} {number!r}"


def exposition(status: Status) -> str:
    """The metrics of all parts that could be read. A part that could not is missing, and `healthy` is 0."""
    metrics = [*_of_all(status)]
    if status.queues is not None:
        metrics += _of_queues(status.queues)
    if status.database is not None:
        metrics += [*_of_database(status.database), *_of_recent(status.database.recent)]
    return "\n".join(line for metric in metrics for line in metric.lines())


def _of_all(status: Status) -> Iterator[_Metric]:
    healthy = _Metric("healthy", "1: nothing is stuck, and all named parts could be read.")
    healthy.add(not status.problems)
    yield healthy
    up = _Metric("database_up", "1: the database answered this command.")
    if "database" not in status.not_looked_at:
        up.add(status.database is not None)
    yield up
    since = _Metric("database_unavailable_since_timestamp_seconds", "Begin of the present outage of the database.")
    if status.outage is not None and (status.is_unreachable or status.waiting):
        since.add(status.outage.since)
    yield since


def _of_queues(queues: Mapping[Name, Depth]) -> Iterator[_Metric]:
    messages = _Metric("queue_messages", "Messages in a queue, by SQS's estimate.")
    age = _Metric("queue_oldest_message_age_seconds", "Age of the oldest message in a queue; missing if unknown.")
    for name, depth in queues.items():
        for state in ("waiting", "in_flight", "delayed"):
            messages.add(getattr(depth, state), queue=name, state=state)
        age.add(depth.oldest_seconds, queue=name)
    yield messages
    yield age


def _of_database(database: Database) -> Iterator[_Metric]:
    events = _Metric("events_ever_parked", "Events that were ever parked, by their present state.")
    for state, number in database.events.items():
        events.add(number, state=state)
    parked = _Metric("parked_events", "Events that wait for a person, by the class of the reason.")
    for each in database.reasons:
        parked.add(each.count, reason_class=each.reason_class, event_type=each.event_type or "")
    overdue = _Metric("overdue_events", "Events replayed hours ago, and neither applied nor parked again.")
    overdue.add(database.overdue)
    last = _Metric("last_delivery_timestamp_seconds", "Time of the last applied event.")
    last.add(database.last_delivery)
    compared = _Metric("compared_age_seconds", "Age of the last comparison of every row of a kind with Clerk.")
    for kind, age in database.compared.items():
        compared.add(age.age_seconds, kind=kind)
    not_purged = _Metric("not_purged_rows", "Deleted rows with personal data that could not be purged.")
    for kind, number in _summed((each.kind, each.count) for each in database.not_purged).items():
        not_purged.add(number, kind=kind)
    unfed = _Metric("unfed_rows", "Rows of an app's table that follows the mirror and could not be written.")
    for table, number in _summed((each.table, each.count) for each in database.unfed).items():
        unfed.add(number, table=table)
    differing = _Metric("differing_objects", "Objects of the database that are not as the migrations make them.")
    differing.add(database.differing_objects)
    yield from (events, parked, overdue, last, compared, not_purged, unfed, differing)


def _of_recent(recent: Mapping[str, Recent]) -> Iterator[_Metric]:
    applied = _Metric("applied_events", "Events applied within the last hour or day, by outcome.")
    lag = _Metric("event_lag_seconds", "Quantiles of the time until an event was applied, since it happened in Clerk.")
    for span, each in recent.items():
        for outcome, number in each.outcomes.items():
            applied.add(number, span=span, outcome=outcome)
        for quantile, name in _QUANTILES.items():
            lag.add(getattr(each.from_happened, name, None), span=span, quantile=quantile)
    yield applied
    yield lag


def _summed(numbers: Iterator[tuple[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for name, number in numbers:
        sums[name] += number
    return sums


def _escaped(value: str) -> str:
    return printable(value).replace("\\", r"\\").replace('"', r"\"")
