"""One page of Clerk's after the other: compared with the tables, and repaired."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

from msgspec import Struct

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.pages import Item
from clerk_supabase.errors import ChangeRefused, RowUnavailable, RunTakenOver, UnusableEvent
from clerk_supabase.model.changes import Changes, changes_of_object
from clerk_supabase.model.kinds import ReadKind
from clerk_supabase.postgres.batch import element_without_content, elements_to_compare
from clerk_supabase.reconcile.drift import Brake, Tally
from clerk_supabase.reconcile.records import Begun, PlannedWindow
from clerk_supabase.reconcile.repairs import ClockMs, DirectRepairs, Repair, Repairs, settled
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.settings import Flag, Positive, Settings, milliseconds, text, variable
from clerk_supabase.telemetry import logger

# Of a page of 500. Repairing them one message after the other would take longer than applying the whole page at once.
_MOST_MESSAGES: Final = 100
_ACTIONS: Final = ("none", "repair", "hold")
_REPAIRED: Final = frozenset({"created", "updated", "unchanged"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    kind: ReadKind
    compared: int
    """Objects of this kind until now."""
    expected: int | None
    """How many there are to compare, where Clerk said so."""


@dataclass(frozen=True, slots=True)
class ReconcileSettings(Settings):
    """Rules of a run, of which the parameters of the stack set some."""

    brake: Brake = field(default_factory=Brake)
    keep_private_metadata: Flag = False
    instance_id: Annotated[str, variable("CLERK_INSTANCE_ID", text)] = ""
    """The only instance of Clerk to compare with; empty: the one that is mirrored."""
    threads: int = 8
    """Windows that are read at once, each with a connection to the database."""
    users_per_window: int = 4_900
    """A little less than ten pages: the last one of a window is not full, so none is asked for after it."""
    silence_minutes: Positive = 30
    lease_seconds: float = 120.0
    """After that without a sign of life another process may go on with a run."""
    overlap_ms: int = 300_000
    """A quick run looks so far back before the last one: changes become visible out of order."""
    delete_margin_ms: Annotated[int, variable("DELETE_MARGIN_SECONDS", milliseconds)] = 300_000
    """Clerk's API may lag: what is younger is not deleted, and Clerk has to say twice, so far apart, what is gone."""
    sweep_minutes: Positive = 120
    """Quick runs compare a list that does not tell what changed as a whole within so many minutes, slice by slice."""


@dataclass
class Work:
    """What everybody who works on a run needs."""

    begun: Begun
    clerk: Clerk
    runs: Runs
    repairs: Repairs
    settings: ReconcileSettings
    clock_ms: ClockMs
    tell: Callable[[Progress], None]
    expected: dict[str, int] = field(default_factory=dict)
    is_bulk: bool = False
    """Most users are expected to be missing."""
    seconds_left: Callable[[], float] = lambda: math.inf
    """Until the deadline."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when something went wrong elsewhere, or the run is somebody else's by now."""
    _compared: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def run_id(self) -> int:
        return self.begun.run.run_id

    def road(self, number: int) -> Repairs:
        """The way of so many repairs at once: more than a few are applied directly."""
        if number < _MOST_MESSAGES:
            return self.repairs
        return DirectRepairs(keep_private_metadata=self.settings.keep_private_metadata)

    def check(self) -> None:
        """Raises RunTakenOver when there is no point in going on."""
        if self.stopped.is_set():
            raise RunTakenOver

    def note(self, kind: ReadKind, compared: int) -> None:
        """Tells how far it is."""
        with self._lock:
            self._compared[kind] = self._compared.get(kind, 0) + compared
            self.tell(Progress(kind, self._compared[kind], self.expected.get(kind)))


class _Found(NamedTuple):
    """Difference of an object, and the action that follows."""

    difference: str
    action: str
    """One of _ACTIONS."""


class _Read(Struct, frozen=True, gc=False):
    """An object of a page as the database takes it."""

    id: str
    elements: tuple[str, ...]
    """JSON: the object and, where it is kept, its private metadata."""
    is_whole: bool = True
    """False: it cannot be read, or something of it cannot be stored."""


class Comparison:
    """Compares the pages of one window."""

    def __init__(self, work: Work, runs: Runs, window: PlannedWindow) -> None:
        """`runs`: of the thread that calls."""
        self._work = work
        self._runs = runs
        self.window = window
        # Only users: what has parents may need stubs of them.
        self._can_fill = window.kind == "user" and not work.begun.run.is_dry_run
        self._is_bulk = work.is_bulk
        # A list without windows is read again from its beginning.
        self.tally: Tally = dict(window.tally) if window.start is not None else {}
        self.missing_created: list[int] = []
        """When those were created that are missing and not repaired yet."""

    def page(
        self, items: Sequence[Item], odd: Sequence[str], *, since: int | None = None, until: int | None = None
    ) -> None:
        """Compares a page and sends its repairs. `since` and `until`: all created then are on it."""
        self._work.check()
        if odd:
            logger.error("Clerk listed what has no usable id", reasons=odd[:3], elements=len(odd))
        # What becomes of the page is counted when the next one is there: then its repairs are sent.
        request = self._request(since, until)
        if self._work.begun.run.versions_only:
            differences = self._by_version(items, request)
            # Their versions do not say whether they would lose a value.
            stale = [item for item in items if item.id in differences and differences[item.id].difference == "stale"]
            if stale:
                unbounded = {**request, "since": None, "until": None}
                differences |= self._by_content(stale, [self._read(item) for item in stale], set(), unbounded)
            filled: set[str] = set()
        else:
            page = [self._read(item) for item in items]
            filled = self._fill(page) if self._is_bulk and self._can_fill else set()
            differences = self._by_content(items, page, filled, request)
        self._repair(items, differences, len(filled))
        self._add("odd", len(odd))
        self._add("undated", sum(item.observed_at == 0 for item in items))
        self._add("compared", len(items))
        as_of = self._work.begun.run.as_of
        created = [item.created_at for item in items if item.created_at is not None]
        is_all_older = bool(created) and max(created) < as_of
        self._add("listed", len(created) if is_all_older else sum(moment < as_of for moment in created))
        self._work.note(self.window.kind, len(items))

    def finish(self) -> None:
        """The window is compared as a whole."""
        self._runs.finish_window(self._work.run_id, self._work.begun.lease, self.window.number, self.tally)

    # Comparing

    def _request(self, since: int | None, until: int | None) -> dict[str, object]:
        return {
            "run": self._work.run_id,
            "lease": self._work.begun.lease,
            "number": self.window.number,
            "kind": self.window.kind,
            "tally": dict(self.tally),
            "since": since,
            "until": until,
        }

    def _by_version(self, items: Sequence[Item], request: Mapping[str, object]) -> dict[str, _Found]:
        listed = {
            "ids": _lines(item.id for item in items),
            "versions": _lines("" if item.updated_at is None else str(item.updated_at) for item in items),
            "observed_at": items[0].observed_at if items else 0,
        }
        return self._asked({**request, **listed})

    def _by_content(
        self, items: Sequence[Item], page: Sequence[_Read], filled: set[str], request: Mapping[str, object]
    ) -> dict[str, _Found]:
        """Users that _fill() has just written only count as present."""
        present = {"ids": _lines(filled)} if filled else {}
        rest = [read for read in page if read.id not in filled]
        try:
            return self._asked({**request, **present}, rest)
        except ChangeRefused:
            differences = self._one_by_one({**request, "since": None, "until": None}, rest)
        return {**self._by_version(items, request), **differences}

    def _one_by_one(self, request: Mapping[str, object], page: Sequence[_Read]) -> dict[str, _Found]:
        """What Postgres refuses is found by halving, and compared by its version only; its neighbours as they are."""
        try:
            return self._asked(request, page)
        except ChangeRefused as refusal:
            if len(page) == 1:
                self._note_unusable(page[0].id, refusal)
                return {}
        middle = len(page) // 2
        return {**self._one_by_one(request, page[:middle]), **self._one_by_one(request, page[middle:])}

    def _asked(self, request: Mapping[str, object], page: Sequence[_Read] = ()) -> dict[str, _Found]:
        """What differs, by id."""
        differences = self._runs.compare(request, [element for read in page for element in read.elements])
        found: dict[str, _Found] = {}
        for kind, object_id, difference, action in differences:
            # Private metadata is repaired, or held back, together with its object.
            other = found.get(object_id)
            if other is not None:
                difference = difference if kind == self.window.kind else other.difference  # noqa: PLW2901 - as above
                action = max(action, other.action, key=_ACTIONS.index)  # noqa: PLW2901 - as above
            found[object_id] = _Found(difference, action)
        return found

    def _read(self, item: Item) -> _Read:
        """The object with its content, or its id alone when it cannot be read."""
        # Written at once: dicts by the thousand would be looked through by Python's collector again and again.
        changes = self._changes(item)
        if changes is None:
            return _Read(item.id, (element_without_content(self.window.kind, item.id),), is_whole=False)
        return _Read(item.id, tuple(elements_to_compare(changes)), is_whole=not changes.dropped)

    def _changes(self, item: Item) -> Changes | None:
        try:
            return changes_of_object(
                self.window.kind,
                item.json(),
                item.observed_at,
                self._work.clock_ms(),
                keep_private_metadata=self._work.settings.keep_private_metadata,
            )
        except UnusableEvent as error:
            self._note_unusable(item.id, error)
            return None

    def _note_unusable(self, object_id: str, reason: Exception) -> None:
        logger.error("not compared", object_id=object_id, reason=str(reason))
        self._add("unusable", 1)

    # Repairing

    def _fill(self, page: Sequence[_Read]) -> set[str]:
        """Writes whoever was never heard of, and returns their ids. A repair brings those that are not whole."""
        whole = [read for read in page if read.is_whole]
        if not whole:
            return set()
        try:
            known = self._runs.fill(self._work.run_id, [element for read in whole for element in read.elements])
        except (ChangeRefused, RowUnavailable):
            # Then they are compared and repaired, where one row does not hold up the others.
            return set()
        filled = {read.id for read in whole} - {object_id for _, object_id in known}
        self._add("missing", len(filled))
        self._add("repaired", len(filled))
        return filled

    def _repair(self, items: Sequence[Item], differences: Mapping[str, _Found], filled: int) -> None:
        self._count(differences)
        to_repair = [item for item in items if item.id in differences and differences[item.id].action == "repair"]
        missing = [item for item in to_repair if differences[item.id].difference == "missing"]
        self._is_bulk = filled + len(missing) >= _MOST_MESSAGES
        if self._work.begun.run.is_dry_run:
            return
        # Those that are held back, too: _conclude() says of them what becomes of all that are.
        restored = (found.action != "none" for found in differences.values() if found.difference == "deleted here")
        self._add("restored", sum(restored))
        if not to_repair:
            return
        road = self._work.road(len(to_repair))
        self._send(road, to_repair)
        if not road.are_done_at_once:
            self.missing_created += [item.created_at for item in missing if item.created_at is not None]

    def _send(self, road: Repairs, items: Sequence[Item]) -> None:
        run_id, kind = self._work.run_id, self.window.kind
        repairs = [Repair(run_id, kind, item.id, item.observed_at, item.json()) for item in items]
        became = road.send(self._runs.store, repairs, self._work.clock_ms())
        ids = settled(repairs, became)
        if ids.refused or ids.held_up:
            self._runs.settle(run_id, kind, refused=ids.refused, held_up=ids.held_up)
        self._add("refused", len(ids.refused))
        self._add("repaired", sum(outcome in _REPAIRED for outcome in became))
        self._add("repairs sent", sum(outcome == "sent" for outcome in became))
        # Something newer was applied since the page was compared.
        self._add("overtaken", sum(outcome in {"stale", "refused"} for outcome in became))

    # Counting

    def _count(self, differences: Mapping[str, _Found]) -> None:
        for found in differences.values():
            self._add(found.difference, 1)
            self._add("older", int(found.action == "none" and found.difference != "deleted here"))

    def _add(self, name: str, number: int) -> None:
        if number:
            self.tally[name] = self.tally.get(name, 0) + number


def _lines(values: Iterable[str]) -> str:
    """A value on each line: neither an id nor a version has a line break in it."""
    return "\n".join(values)
