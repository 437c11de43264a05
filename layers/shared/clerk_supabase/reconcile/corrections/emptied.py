"""A brake for mass changes: repairs that empty a column wait until their number is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase.clerk.api import MOST_IDS
from clerk_supabase.clerk.lookups import Held, is_read_as_a_list, read_again
from clerk_supabase.clerk.pages import Item
from clerk_supabase.errors import ClerkKeyRejected, ClerkRejected, UnusableEvent
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, FACTS, KIND_NAMES, READ_KINDS
from clerk_supabase.reconcile.corrections.reading import repairs_with_listed
from clerk_supabase.reconcile.corrections.repairs import Repair, settled
from clerk_supabase.reconcile.drift import Brake
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.telemetry import logger

# Not the brake of the settings: an operator who forbids deletes wants everything else repaired.
_BRAKE: Final = Brake()
_BY_WHOLE_LIST: Final = 10_000
"""Objects that are looked up in one walk of a list, where Clerk has no request for single objects."""


@dataclass(frozen=True, slots=True)
class Emptied:
    """Results of the repairs held back."""

    stop: str | None = None
    """Reason why the brake stopped all of these repairs, if so."""
    doubts: Sequence[str] = ()
    """Reasons why some of these repairs were not made."""
    doubtful: Sequence[ReadKind] = ()
    """The kinds of these repairs."""


def repair_held(work: Work) -> Emptied:
    """Apply the repairs held back, unless a column would lose its value in too many rows."""
    emptied = work.runs.emptied_columns(work.run_id)
    if not emptied:
        return Emptied()
    if stops := list(_stops(work, emptied)):
        return Emptied("; ".join(stops))
    if work.begun.run.is_dry_run:
        return Emptied()
    doubts: list[str] = []
    doubtful: list[ReadKind] = []
    for kind in (*READ_KINDS, *ENCLOSED_KINDS):
        try:
            _repair_kind(work, kind)
        except ClerkKeyRejected:
            raise
        except ClerkRejected as error:
            doubts.append(f"not every {kind} that loses a value could be read again ({error})")
            doubtful.append(kind)
    return Emptied(doubts=doubts, doubtful=doubtful)


def _stops(work: Work, emptied: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    existing: dict[str, int] = dict(work.runs.count_rows().items())
    names: dict[str, str] = dict(KIND_NAMES.items())
    for kind, columns in sorted(emptied.items()):
        # Private metadata belongs to objects of any kind, and its rows are not counted.
        rows = existing.get(kind, sum(existing.values()))
        limit = _BRAKE.limit(rows, work.begun.run.allow_emptied)
        for column, number in sorted(columns.items()):
            if number > limit:
                yield (
                    f"{column} would lose its value in {number:,} of {rows:,} {names.get(kind, kind)}, and one run "
                    f"may empty {limit:,}: check whether that is right, then allow it with --allow-emptied {number}"
                )


def _repair_kind(work: Work, kind: ReadKind) -> None:
    after = ""
    at_once = _BY_WHOLE_LIST if is_read_as_a_list(kind) else MOST_IDS
    while held := work.runs.held_repairs(work.run_id, kind, after, at_once):
        work.check()
        after = held[-1][0]
        # A value missing from a list by mistake may be in Clerk's answer about the single object.
        items = {item.id: item for item in read_again(work.clerk, kind, held)}
        for start in range(0, len(held), MOST_IDS):
            some = held[start : start + MOST_IDS]
            _send(work, kind, _repairs(work, kind, some, {each: items[each] for each, *_ in some if each in items}))


def _send(work: Work, kind: ReadKind, repairs: Sequence[Repair]) -> None:
    sender = work.sender(len(repairs))
    became = settled(repairs, sender.send(work.runs.store, repairs, work.clock_ms()))
    work.runs.settle(work.run_id, kind, held_up=became.held_up)
    for of_kind in (kind, "private_metadata"):
        work.runs.settle(work.run_id, of_kind, sent=became.sent, refused=became.refused)


def _repairs(work: Work, kind: ReadKind, held: Sequence[Held], items: Mapping[str, Item]) -> Sequence[Repair]:
    """Repairs with the present state of objects in Clerk; an object with a carrier is repaired by its carrier."""
    if not FACTS[kind].carrier:
        return [Repair(work.run_id, kind, item.id, item.observed_at, item.json()) for item in items.values()]
    repairs = repairs_with_listed(
        work.clerk,
        work.run_id,
        kind,
        held,
        differing=items,
        received_at=work.clock_ms(),
        features=work.features,
    )
    return [repair for repair in repairs if repair.kind == kind or _is_readable(repair, work.clock_ms())]


def _is_readable(repair: Repair, received_at: int) -> bool:
    """Tells whether a carrier can be applied. As a message, an unreadable carrier would be parked."""
    try:
        repair.changes(received_at, keep_private_metadata=False)
    except UnusableEvent as error:
        logger.error("not compared", object_id=repair.id, reason=str(error))
        return False
    return True
