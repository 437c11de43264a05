"""Pages of Clerk's lists: each is compared with the tables, and its differences are repaired."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

from msgspec import Struct

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.lookups import Held
from clerk_supabase.clerk.pages import Item
from clerk_supabase.errors import ChangeRefused, RowUnavailable, RunTakenOver, UnusableEvent
from clerk_supabase.model.changes import Changes, Upsert, change_of_user, changes_of_object
from clerk_supabase.model.clerk_object import NO_VERSION
from clerk_supabase.model.facts import Kind, ReadKind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.model.user_struct import as_json_of_usual, read_users
from clerk_supabase.model.users import User
from clerk_supabase.postgres.batch import arrays_to_compare, as_json, element_without_content, elements_to_compare
from clerk_supabase.reconcile.corrections.reading import repairs_with_listed
from clerk_supabase.reconcile.corrections.repairs import ClockMs, DirectRepairs, Repair, Repairs, Sent, settled
from clerk_supabase.reconcile.drift import WRONG_CARRIER, Brake, Tally
from clerk_supabase.reconcile.features import Features
from clerk_supabase.reconcile.records import Begun, PlannedWindow
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.settings import Flag, Positive, Settings, milliseconds, text, variable
from clerk_supabase.telemetry import logger

# Of a page of 500: to send more repairs in single messages would take longer than to apply the whole page at once.
_MOST_MESSAGES: Final = 100
# Objects that are read again between two sends: a run without time left keeps the repairs that were sent.
_READ_AT_ONCE: Final = 50
_ACTIONS: Final = ("none", "repair", "hold")
_REPAIRED: Final = frozenset({"created", "updated", "unchanged"})
_OVERTAKEN: Final = frozenset({"stale", "deleted_before"})


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run."""

    kind: ReadKind
    compared: int
    """Number of objects of this kind compared until now."""
    expected: int | None
    """Number of objects to compare, where Clerk gave it."""


@dataclass(frozen=True, slots=True)
class ReconcileSettings(Settings):
    """Rules of a run; parameters of the stack set some of the rules."""

    brake: Brake = field(default_factory=Brake)
    keep_private_metadata: Flag = False
    instance_id: Annotated[str, variable("CLERK_INSTANCE_ID", text)] = ""
    """The only instance of Clerk to compare with; empty: the mirrored instance."""
    threads: int = 8
    """Windows that are read at once, each with a connection to the database."""
    users_per_window: int = 4_900
    """A little less than ten pages: the last page of a window is not full, so the run asks for no page after it."""
    silence_minutes: Positive = 30
    """The longest time that the webhook of a change may take."""
    lease_seconds: float = 120.0
    """Another process may continue a run whose lease was not renewed for so long."""
    overlap_ms: int = 300_000
    """A quick run goes back so far beyond the watermark, because changes become visible out of order."""
    delete_margin_ms: Annotated[int, variable("DELETE_MARGIN_SECONDS", milliseconds)] = 300_000
    """Clerk's API may lag: no younger row is deleted, and two answers that an object is gone must be so far apart."""
    sweep_minutes: Positive = 120
    """Within so many minutes, quick runs compare, slice by slice, every list that Clerk cannot sort by last change."""


@dataclass
class Work:
    """The objects that all parts of a run share."""

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
    """Seconds until the deadline."""
    features: Features = field(default_factory=Features)
    """The lists that Clerk has given or refused."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set after an error in any thread, and when another process works on the run."""
    _compared: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def run_id(self) -> int:
        return self.begun.run.run_id

    def sender(self, number: int) -> Repairs:
        """The sender for this number of repairs of one page: many repairs are applied directly."""
        if number < _MOST_MESSAGES:
            return self.repairs
        return DirectRepairs(keep_private_metadata=self.settings.keep_private_metadata)

    def check(self) -> None:
        """Raises RunTakenOver if the run was stopped."""
        if self.stopped.is_set():
            raise RunTakenOver

    def note(self, kind: ReadKind, compared: int) -> None:
        """Adds to the compared objects of a kind, and reports the progress."""
        with self._lock:
            self._compared[kind] = self._compared.get(kind, 0) + compared
            self.tell(Progress(kind, self._compared[kind], self.expected.get(kind)))


class _Found(NamedTuple):
    """Difference of an object, and the action that follows."""

    difference: str
    action: str
    """One of _ACTIONS."""


class _Read(Struct, frozen=True, gc=False):
    """An object of a page, in the form for the functions of the database."""

    id: str
    elements: Sequence[str] = ()
    """JSON: the object and, where it is kept, its private metadata."""
    arrays: Mapping[Kind, str] = MappingProxyType({})
    """JSON in the shorter form, by kind, in place of elements."""
    is_whole: bool = True
    """False: the object cannot be read, or a part of it cannot be stored."""


class Comparison:
    """Compares the pages of one window."""

    def __init__(self, work: Work, runs: Runs, window: PlannedWindow) -> None:
        """`runs`: the runs of the calling thread."""
        self._work = work
        self._runs = runs
        self.window = window
        # Only users: an object with parents may need their stubs.
        self._can_fill = window.kind == "user" and not work.begun.run.is_dry_run
        self._is_bulk = work.is_bulk
        self._reads_users_together = window.kind == "user" and not work.settings.keep_private_metadata
        self._columns: dict[Kind, list[str]] = {}
        """The order of the values in arrays."""
        # A list without windows is read again from its beginning.
        self.tally: Tally = dict(window.tally) if window.start is not None else {}
        self._unreadable: set[str] = set()
        self.missing_created: list[int] = []
        """The moments of creation of the objects that are missing until their repairs are applied, or stay missing."""

    def page(
        self, items: Sequence[Item], odd: Sequence[str], *, since: int | None = None, until: int | None = None
    ) -> None:
        """Compares a page and sends its repairs.

        The page has all users created from `since` on and before `until`: other rows of the time are extra. Of another
        kind, a page with `since` is no part of a whole list.
        """
        self._work.check()
        self._work.features.given.add(self.window.kind)
        if odd:
            logger.error("Clerk listed objects without a usable id", reasons=odd[:3], elements=len(odd))
        # The counts of a page are stored with the next page: by then, the repairs of the page are sent.
        request = self._request(since, until)
        if self._work.begun.run.versions_only:
            differences = self._by_version(items, request)
            # Only the content of an object without a version shows whether the object needs a version.
            for item in items:
                if item.updated_at is None:
                    self._changes(item)
            # Versions do not show whether a repair would empty a column.
            stale = [item for item in items if item.id in differences and differences[item.id].difference == "stale"]
            if stale:
                unbounded = {**request, "since": None, "until": None}
                differences |= self._by_content(stale, [self._read(item) for item in stale], set(), unbounded)
            filled: set[str] = set()
        else:
            fills = self._is_bulk and self._can_fill
            page = [self._read(item, as_arrays=not fills) for item in items]
            filled = self._fill(page) if fills else set()
            differences = self._by_content(items, page, filled, request)
        self._repair(items, differences, len(filled))
        self._add("odd", len(odd))
        self._add("undated", sum(item.observed_at == 0 for item in items))
        if since is not None or self.window.kind == "user":
            self._add("without created_at", sum(item.created_at is None for item in items))
        self._add("compared", len(items))
        as_of = self._work.begun.run.as_of
        created = [item.created_at for item in items if item.created_at is not None]
        is_all_older = bool(created) and max(created) < as_of
        self._add("listed", len(created) if is_all_older else sum(moment < as_of for moment in created))
        self._work.note(self.window.kind, len(items))

    def finish(self) -> None:
        """Marks the window as done: every page is compared."""
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
        """Compare objects by content. Users that _fill() has just inserted are only noted as present."""
        present = {"ids": _lines(filled)} if filled else {}
        rest = [read for read in page if read.id not in filled]
        try:
            return self._asked({**request, **present}, rest)
        except ChangeRefused:
            differences = self._one_by_one({**request, "since": None, "until": None}, rest)
        return {**self._by_version(items, request), **differences}

    def _one_by_one(self, request: Mapping[str, object], page: Sequence[_Read]) -> dict[str, _Found]:
        """Compare a page by content without the objects that Postgres refuses, which are found by halving the page.

        The caller compares the refused objects by version.
        """
        try:
            return self._asked(request, page)
        except ChangeRefused as refusal:
            if len(page) == 1:
                self._note_unusable(page[0].id, refusal)
                return {}
        middle = len(page) // 2
        return {**self._one_by_one(request, page[:middle]), **self._one_by_one(request, page[middle:])}

    def _asked(self, request: Mapping[str, object], page: Sequence[_Read] = ()) -> dict[str, _Found]:
        """The differences of a page, by id."""
        # Hundreds of copies of an object in a page would be compared each with each.
        once = {read.id: read for read in page}.values()
        elements = [element for read in once for element in read.elements]
        arrays: dict[Kind, list[str]] = {}
        for read in once:
            for kind, array in read.arrays.items():
                arrays.setdefault(kind, []).append(array)
        differences = self._runs.compare({**request, "columns": self._columns}, elements, arrays)
        found: dict[str, _Found] = {}
        for kind, object_id, difference, action in differences:
            # Private metadata is repaired, or held back, together with its object.
            other = found.get(object_id)
            if other is not None:
                difference = difference if kind == self.window.kind else other.difference  # noqa: PLW2901 - as above
                action = max(action, other.action, key=_ACTIONS.index)  # noqa: PLW2901 - as above
            found[object_id] = _Found(difference, action)
        return found

    def _read(self, item: Item, *, as_arrays: bool = True) -> _Read:
        """The object with its content, or its id alone when it cannot be read. fill() takes no arrays."""
        # JSON at once: Python's garbage collector would search thousands of dicts again and again.
        user = item.read(read_users) if self._reads_users_together else None
        changes = self._changes(item, user)
        if changes is None:
            return _Read(item.id, (element_without_content(self.window.kind, item.id),), is_whole=False)
        write = as_json if user is None else as_json_of_usual
        arrays = arrays_to_compare(changes, self._columns, write) if as_arrays else None
        if arrays is not None:
            return _Read(item.id, arrays=arrays, is_whole=not changes.dropped)
        return _Read(item.id, elements_to_compare(changes, write), is_whole=not changes.dropped)

    def _changes(self, item: Item, user: User | None = None) -> Changes | None:
        """The changes for an object; `user`: the same object, if it was read together with its page."""
        try:
            if user is not None:
                return Changes(change_of_user(user, item.observed_at, self._work.clock_ms()))
            return changes_of_object(
                self.window.kind,
                item.json(),
                item.observed_at,
                self._work.clock_ms(),
                keep_private_metadata=self._work.settings.keep_private_metadata,
            )
        except UnusableEvent as error:
            if item.id not in self._unreadable:
                self._note_unusable(item.id, error)
                self._add("without updated_at", int(not item.updated_at))
            self._unreadable.add(item.id)
            return None

    def _note_unusable(self, object_id: str, reason: Exception) -> None:
        logger.error("not compared", object_id=object_id, reason=str(reason))
        self._add("unusable", 1)

    # Repairing

    def _fill(self, page: Sequence[_Read]) -> set[str]:
        """Inserts users without any earlier event, and returns their ids. Users that are not whole need a repair."""
        whole = [read for read in page if read.is_whole]
        if not whole:
            return set()
        try:
            known = self._runs.fill(self._work.run_id, [element for read in whole for element in read.elements])
        except (ChangeRefused, RowUnavailable):
            # These users are compared and repaired instead: there, a single row does not stop the others.
            return set()
        filled = {read.id for read in whole} - {object_id for _, object_id in known}
        self._add("missing", len(filled))
        self._add("repaired", len(filled))
        return filled

    def _repair(self, items: Sequence[Item], differences: Mapping[str, _Found], filled: int) -> None:
        self._count(differences)
        differing = {item_id for item_id, found in differences.items() if found.action == "repair"}
        wanted = differing
        if FACTS[self.window.kind].carrier:
            held = {item_id for item_id, found in differences.items() if found.action == "hold"}
            others = [item.id for item in items if item.id not in held]
            wanted = differing | self._runs.items_without_subscription(self._work.run_id, others)
            self._add(WRONG_CARRIER, len(wanted - differing))
        to_repair = [item for item in items if item.id in wanted and item.id not in self._unreadable]
        missing = [
            item for item in to_repair if item.id in differences and differences[item.id].difference == "missing"
        ]
        self._is_bulk = filled + len(missing) >= _MOST_MESSAGES
        if self._work.begun.run.is_dry_run:
            return
        # Repairs held back count, too: _conclude() reports whether they were made.
        restored = (found.action != "none" for found in differences.values() if found.difference == "deleted here")
        self._add("restored", sum(restored))
        if not to_repair:
            return
        sender = self._work.sender(len(to_repair))
        failed = self._send(sender, to_repair, differing)
        self.missing_created += [
            item.created_at
            for item in missing
            if item.created_at is not None and (not sender.are_done_at_once or item.id in failed)
        ]

    def _send(self, sender: Repairs, items: Sequence[Item], differing: Collection[str]) -> set[str]:
        """Send repairs, and return the ids of the objects that the tables did not take."""
        run_id, kind = self._work.run_id, self.window.kind
        if not FACTS[kind].carrier:
            own = [Repair(run_id, kind, each.id, each.observed_at, each.json()) for each in items]
            return self._send_repairs(sender, own)
        held = [self._held(item) for item in items]
        for object_id, *parents in held:
            if not any(parents):
                self._note_unusable(object_id, UnusableEvent("Clerk's list names no payer"))
        listed = {item.id: item for item in items if item.id in differing}
        failed: set[str] = set()
        for start in range(0, len(held), _READ_AT_ONCE):
            some = held[start : start + _READ_AT_ONCE]
            repairs = repairs_with_listed(
                self._work.clerk,
                run_id,
                kind,
                some,
                differing=listed,
                received_at=self._work.clock_ms(),
                features=self._work.features,
            )
            failed |= self._send_repairs(sender, [each for each in repairs if self._is_readable(each)])
        return failed

    def _is_readable(self, repair: Repair) -> bool:
        """Tells whether a carrier can be applied. As a message, an unreadable carrier would be parked."""
        try:
            repair.changes(self._work.clock_ms(), keep_private_metadata=False)
        except UnusableEvent as error:
            self._note_unusable(repair.id, error)
            self._add("carriers without updated_at", int(str(error) == NO_VERSION))
            return False
        return True

    def _held(self, item: Item) -> Held:
        """The id of an object, and of its user or organization."""
        changes = self._changes(item)
        content = changes.main.content if changes and isinstance(changes.main, Upsert) else {}
        parents = {of_kind: content.get(column) for column, of_kind in FACTS[self.window.kind].parents.items()}
        return item.id, parents.get("user"), parents.get("organization")

    def _send_repairs(self, sender: Repairs, repairs: Sequence[Repair]) -> set[str]:
        run_id, kind = self._work.run_id, self.window.kind
        became = sender.send(self._runs.store, repairs, self._work.clock_ms())
        ids = settled(repairs, became)
        if ids.refused or ids.held_up:
            self._runs.settle(run_id, kind, refused=ids.refused, held_up=ids.held_up)
        self._add("refused", len(ids.refused))
        for repair, outcome in zip(repairs, became, strict=True):
            self._count_repair(len(repair.brings), outcome)
        return {*ids.refused, *ids.held_up}

    def _count_repair(self, brought: int, outcome: Sent) -> None:
        """Counts the result of a repair. `brought`: number of objects inside its object, each with its own version."""
        if outcome == "sent":
            self._add("repairs sent", brought or 1)
        elif outcome in _REPAIRED or (brought and not isinstance(outcome, Exception)):
            self._add("repaired", brought or 1)
        elif outcome == "altered":
            self._add("altered", 1)
        elif outcome in _OVERTAKEN:
            # A newer version was applied after the comparison of the page.
            self._add("overtaken", 1)

    # Counting

    def _count(self, differences: Mapping[str, _Found]) -> None:
        for found in differences.values():
            if found.difference != "altered":  # the findings count these
                self._add(found.difference, 1)
            self._add("older", int(found.action == "none" and found.difference in {"missing", "different"}))

    def _add(self, name: str, number: int) -> None:
        if number:
            self.tally[name] = self.tally.get(name, 0) + number


def _lines(values: Iterable[str]) -> str:
    """The values, each on a line of its own: neither an id nor a version has a line break."""
    return "\n".join(values)
