"""One page of Clerk's after the other: compared with the tables, and repaired."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clerk_supabase.changes import Changes, ReadKind, changes_of_object
from clerk_supabase.clerk import Clerk
from clerk_supabase.clerk_pages import Item
from clerk_supabase.drift import Brake, Tally
from clerk_supabase.errors import ChangeRefused, RunTakenOver, UnusableEvent
from clerk_supabase.repairs import ClockMs, DirectRepairs, Repair, Repairs
from clerk_supabase.runs import Begun, PlannedWindow, Runs
from clerk_supabase.store import element_of
from clerk_supabase.telemetry import logger

# Of a page of 500. Repairing them one message after the other would take longer than applying the whole page at once.
MOST_MESSAGES: Final = 100

Element = dict[str, object]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    kind: ReadKind
    compared: int
    """Objects of this kind until now."""
    expected: int | None
    """How many there are to compare, where Clerk said so."""


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """How a run goes about it."""

    brake: Brake = field(default_factory=Brake)
    keep_private_metadata: bool = False
    instance_id: str = ""
    """The only instance of Clerk to compare with; empty: the one that is mirrored."""
    threads: int = 8
    """Windows that are read at once, each with a connection to the database."""
    users_per_window: int = 4_900
    """A little less than ten pages: the last one of a window is not full, so none is asked for after it."""
    silence_minutes: int = 30
    lease_seconds: float = 120.0
    """After that without a sign of life another process may go on with a run."""
    overlap_ms: int = 300_000
    """A quick run looks so far back before the last one: changes become visible out of order."""


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
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when something went wrong elsewhere, or the run is somebody else's by now."""
    _compared: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def run_id(self) -> int:
        return self.begun.run.run_id

    def check(self) -> None:
        """Raises RunTakenOver when there is no point in going on."""
        if self.stopped.is_set():
            raise RunTakenOver

    def note(self, kind: ReadKind, compared: int) -> None:
        """Tells how far it is."""
        with self._lock:
            self._compared[kind] = self._compared.get(kind, 0) + compared
            self.tell(Progress(kind, self._compared[kind], self.expected.get(kind)))


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
        checkpoint = dict(self.tally)
        if self._work.begun.run.versions_only:
            differences = self._by_version(items, checkpoint, since, until)
            filled = 0
        else:
            elements = [self._elements(item) for item in items]
            filled = self._fill(elements) if self._is_bulk and self._can_fill else 0
            differences = self._by_content(items, elements, checkpoint, since, until)
        self._repair(items, differences, filled)
        self._add("odd", len(odd))
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

    def _request(self, checkpoint: Tally, since: int | None, until: int | None) -> dict[str, object]:
        return {
            "run": self._work.run_id,
            "lease": self._work.begun.lease,
            "number": self.window.number,
            "kind": self.window.kind,
            "tally": checkpoint,
            "since": since,
            "until": until,
        }

    def _by_version(
        self, items: Sequence[Item], checkpoint: Tally, since: int | None, until: int | None
    ) -> Mapping[str, str]:
        listed = {
            # No id has a line break in it.
            "ids": "\n".join([item.id for item in items]),
            "versions": "\n".join(["" if item.updated_at is None else str(item.updated_at) for item in items]),
            "observed_at": items[0].observed_at if items else 0,
        }
        return self._asked(self._request(checkpoint, since, until) | listed)

    def _by_content(
        self,
        items: Sequence[Item],
        elements: Sequence[list[Element]],
        checkpoint: Tally,
        since: int | None,
        until: int | None,
    ) -> Mapping[str, str]:
        request = self._request(checkpoint, since, until)
        try:
            return self._asked(request | {"page": [each for of_item in elements for each in of_item]})
        except ChangeRefused:
            differences = self._one_by_one(self._request(checkpoint, None, None), elements)
        return {**self._by_version(items, checkpoint, since, until), **differences}

    def _one_by_one(self, request: Element, elements: Sequence[list[Element]]) -> dict[str, str]:
        """What Postgres refuses is found by halving, and compared by its version only; its neighbours as they are."""
        try:
            return dict(self._asked(request | {"page": [each for of_item in elements for each in of_item]}))
        except ChangeRefused as refusal:
            if len(elements) == 1:
                logger.error("not compared", object_id=elements[0][0]["id"], reason=str(refusal))
                self._add("unusable", 1)
                return {}
        middle = len(elements) // 2
        return {**self._one_by_one(request, elements[:middle]), **self._one_by_one(request, elements[middle:])}

    def _asked(self, request: Element) -> Mapping[str, str]:
        """What differs, by id."""
        differences, _ = self._runs.compare(request)
        return {object_id: difference for _, object_id, difference, _ in differences}

    def _elements(self, item: Item) -> list[Element]:
        """The object and, where it is kept, its private metadata; only its id, if it cannot be read."""
        changes = self._changes(item)
        if changes is None:
            return [{"kind": self.window.kind, "id": item.id}]
        private = [each for each in changes.companions if each.kind == "private_metadata"]
        return [element_of(change) for change in (changes.main, *private)]

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
            logger.error("not compared", object_id=item.id, reason=str(error))
            self._add("unusable", 1)
            return None

    # Repairing

    def _fill(self, elements: list[list[Element]]) -> int:
        """Writes whoever was never heard of, of whom only the id is left in `elements`. Returns how many."""
        page = [each for of_item in elements for each in of_item if "content" in each]
        try:
            known = self._runs.fill(self._work.run_id, page)
        except ChangeRefused:
            return 0
        filled = 0
        for place, of_item in enumerate(elements):
            if all("content" in each and (each["kind"], each["id"]) not in known for each in of_item):
                elements[place] = [{"kind": each["kind"], "id": each["id"]} for each in of_item]
                filled += 1
        self._add("missing", filled)
        self._add("repaired", filled)
        return filled

    def _repair(self, items: Sequence[Item], differences: Mapping[str, str], filled: int) -> None:
        self._count(differences)
        to_repair = [item for item in items if differences.get(item.id, "deleted here") != "deleted here"]
        missing = [item for item in to_repair if differences[item.id] == "missing"]
        self._is_bulk = filled + len(missing) >= MOST_MESSAGES
        if self._work.begun.run.is_dry_run or not to_repair:
            return
        if len(to_repair) >= MOST_MESSAGES:
            direct = DirectRepairs(keep_private_metadata=self._work.settings.keep_private_metadata)
            self._send(direct, to_repair)
        else:
            self._send(self._work.repairs, to_repair)
            if not self._work.repairs.are_done_at_once:
                self.missing_created += [item.created_at for item in missing if item.created_at is not None]

    def _send(self, road: Repairs, items: Sequence[Item]) -> None:
        run_id, kind = self._work.run_id, self.window.kind
        repairs = [Repair(run_id, kind, item.id, item.observed_at, item.json()) for item in items]
        refused = [repair.id for repair in road.send(self._runs.store, repairs, self._work.clock_ms())]
        if refused:
            self._runs.settle(run_id, kind, refused=refused)
        self._add("repaired", len(repairs) - len(refused))
        self._add("refused", len(refused))

    # Counting

    def _count(self, differences: Mapping[str, str]) -> None:
        for difference in differences.values():
            self._add(difference, 1)

    def _add(self, name: str, number: int) -> None:
        if number:
            self.tally[name] = self.tally.get(name, 0) + number
