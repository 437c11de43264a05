"""Records of reconcile: its runs, their parts, their findings and the results of its questions to the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from clerk_supabase.clerk.lookups import Held
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.reconcile.drift import Tally
from clerk_supabase.reconcile.request import Mode

State = Literal["running", "complete", "incomplete", "stopped", "failed"]
Outcome = Literal[
    "nothing",
    "not sent",
    "waiting for proof",
    "held back",
    "held up",
    "refused",
    "sent",
    "parked",
    "discarded",
    "settled",
    "altered",
    "undone",
    "hidden with its organization",
    "hidden with its user",
]
"""Outcome of a repair or a delete. Settled: the tables have the repaired state or a newer state, whatever wrote it.
Altered: the row was written, and a trigger of the app stored another value.
Waiting for proof: Clerk has said once that the object is gone; a later run asks again, and deletes the row.
Held back: by the brake for columns whose value many rows would lose. Held up: by a lock on the row; later runs retry.
Hidden: no delete of the object was sent, because the delete of its organization or user hides the row, too."""
Counts = Mapping[str, Mapping[str, int]]
"""By kind and name: listed, compared, missing, stale, different, extra, repaired, deleted, ..."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run, read from its row."""

    run_id: int
    mode: Mode
    is_dry_run: bool
    versions_only: bool
    allow_deletes: int | None
    state: State
    reason: str | None
    as_of: int
    """Moment of its beginning, Clerk's clock, milliseconds; 0: Clerk did not say."""
    started_at: datetime
    finished_at: datetime | None
    invocations: int
    calls: int
    """Requests to Clerk, the repeated ones included."""
    expected: Mapping[str, int]
    """Objects that Clerk counted before the first page was read."""
    counts: Counts
    newest_change: int | None
    newest_delivery: datetime | None
    is_silent: bool | None
    findings: int | None = None
    allow_emptied: int | None = None
    undone_at: datetime | None = None
    """Moment at which an operator restored the rows that the run alone had deleted; None: never."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference between Clerk and the tables."""

    kind: str
    entity_id: str
    difference: Literal["missing", "stale", "different", "extra", "deleted here", "altered"]
    action: Literal["repair", "delete", "none"]
    fields: Sequence[str] | None
    cause: str
    observed_at: int | None
    found_at: datetime
    sent_at: datetime | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run and its findings."""

    run: RunSummary
    windows: Sequence[PlannedWindow]
    findings: Sequence[Finding]
    """The first findings, by kind and id."""
    findings_count: int


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """A part of a run. `start` None: a list in another order than creation. Milliseconds, Clerk's clock."""

    number: int
    kind: ReadKind
    start: int | None
    end: int | None
    is_done: bool
    tally: Tally


Candidate = tuple[str, str | None, str | None, int | None]
"""Id; id of the user, for a membership; id of the organization, for any child of an organization; moment of Clerk's
first answer that the object is gone."""


@dataclass(frozen=True, slots=True)
class HeldUp:
    """Rows that a run could not change because of locks."""

    rows: int
    """Number of rows that contradict other tables of this database, and were retried in vain."""
    refused: int
    """Number of such rows of this run whose correction the app refuses."""
    waiting: int
    """Number of objects whose repair or delete a lock has stopped."""
    objects: Mapping[ReadKind, Sequence[Held]]
    """The first objects whose repair a lock has stopped, by kind."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Numbers of rows that deletes would hide, including memberships, invitations and domains."""

    by_object: Mapping[str, Mapping[str, int]]
    """By the kind of the deleted objects and the kind of the rows."""
    hidden: Mapping[str, int]
    """By the kind of the rows; each row counts once, whichever deletes hide it."""


@dataclass(frozen=True, slots=True)
class Undone:
    """The result of an undo."""

    restored: Sequence[tuple[str, str]]
    """Kinds and ids of the restored objects."""
    waiting: int
    """Number of deletes of the run that were sent, and not applied before the first undo: none is ever applied."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a list that is due to be compared. Milliseconds, Clerk's clock."""

    start: int | None
    """The first moment of creation; None: the run has visited every part."""
    visited_at: int
    """Moment at which an earlier run last visited this part; 0: no run did."""
    newest_visit: int | None
    """Moment at which an earlier run last visited any part; None: no run did."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run for this process or, `is_busy`, the run of another process."""

    run: RunSummary
    lease: str
    is_resumed: bool
    is_busy: bool
    watermark: int | None
    """A moment of Clerk's clock: all earlier changes were compared."""
    began: int | None
    """Moment at which the first complete run began."""
    newest_delivery: int | None
    """Moment at which the newest webhook of this week was received, milliseconds."""


@dataclass(frozen=True, slots=True)
class Known:
    """The state of an object of Clerk in this database."""

    source_updated_at: int | None
    """Version of the newest event about the object, by Clerk's clock; None: there was no event."""
    observed_at: int | None
    deleted_at: int | None
    """Moment of the object's delete, by Clerk's clock."""
    delete_run: int | None
    """The comparison that alone proved the delete; 0: an earlier resync proved it; None: an event reported it."""
    is_purged: bool
    """True: no later event or repair writes a row."""
    differs: bool
    """The row differs from Clerk's object, or is missing."""
    fields: Sequence[str] | None
    """Columns that differ; None without a row."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The runs that a reset ends or distrusts."""

    running: Sequence[int]
    """Ids of the runs in progress, which end."""
    trusted: int
    """Number of finished runs on which a later run would have built."""
    instance_id: str | None
    """The recorded Clerk instance, now forgotten; None: nobody asked for that, or no instance was recorded."""


def summary_of(row: Mapping[str, Any]) -> RunSummary:
    """Read the row of a run."""
    return RunSummary(
        run_id=row["run_id"],
        mode=row["mode"],
        is_dry_run=row["is_dry_run"],
        versions_only=row["versions_only"],
        allow_deletes=row["allow_deletes"],
        state=row["state"],
        reason=row["reason"],
        as_of=row["as_of"],
        started_at=datetime.fromisoformat(row["started_at"]),
        finished_at=_moment(row["finished_at"]),
        invocations=row["invocations"],
        calls=row["calls"],
        expected=row["expected"],
        counts=row["counts"],
        newest_change=row["newest_change"],
        newest_delivery=_moment(row["newest_delivery"]),
        is_silent=row["is_silent"],
        findings=row.get("findings"),
        allow_emptied=row["allow_emptied"],
        undone_at=_moment(row["undone_at"]),
    )


def finding_of(row: Mapping[str, Any]) -> Finding:
    """Read the row of a difference."""
    return Finding(
        kind=row["kind"],
        entity_id=row["entity_id"],
        difference=row["difference"],
        action=row["action"],
        fields=row["fields"],
        cause=row["cause"],
        observed_at=row["observed_at"],
        found_at=datetime.fromisoformat(row["found_at"]),
        sent_at=_moment(row["sent_at"]),
        outcome=row["outcome"],
    )


def window_of(row: Mapping[str, Any]) -> PlannedWindow:
    """Read the row of a part of a run."""
    return PlannedWindow(row["number"], row["kind"], row["start"], row["end"], row["is_done"], row["tally"])


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
