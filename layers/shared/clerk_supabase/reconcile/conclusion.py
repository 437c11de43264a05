"""The end of a run: deletes with proof, the state of the run, and the reason for the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, READ_KINDS
from clerk_supabase.reconcile.corrections.deletes import Deletes, delete_gone
from clerk_supabase.reconcile.corrections.emptied import repair_held
from clerk_supabase.reconcile.corrections.held_up import StillWrong, retry_held_up
from clerk_supabase.reconcile.drift import Tally
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.reconcile.records import State
from clerk_supabase.telemetry import count


@dataclass(frozen=True, slots=True)
class Ended:
    """The state of a run that was not cut off, and the reason for the state."""

    state: State
    reason: str | None
    doubtful: Sequence[ReadKind]
    """Kinds whose rows may still differ: repairs or deletes were not made, or a list is in doubt."""


def conclude(
    work: Work,
    doubts: Mapping[ReadKind, str | None],
    more_doubts: Sequence[str] = (),
    more_notes: Sequence[str] = (),
    *,
    switched_off: Sequence[str],
) -> Ended:
    """Deletes objects gone from Clerk, except of kinds with doubts, and returns the end of the run.

    Answers that would empty too many columns prove no delete, either.
    """
    emptied = repair_held(work)
    sure = [kind for kind in READ_KINDS if kind in doubts and doubts[kind] is None]
    unsure = [f"{doubts[kind]}: no {kind} is deleted" for kind in READ_KINDS if doubts.get(kind) is not None]
    unsure += [f"{doubts[kind]}" for kind in ENCLOSED_KINDS if doubts.get(kind) is not None]
    deletes = delete_gone(work, sure) if emptied.stop is None else Deletes()
    tallies = [window.tally for window in work.runs.windows(work.run_id)]
    left, are_too_many = _left_out(work, tallies, retry_held_up(work))
    notes = [
        *left,
        *switched_off,
        *more_notes,
        *_deleted_here(work, tallies, are_repaired=emptied.stop is None and not emptied.doubts),
        _older(work, tallies),
        _altered(work),
        *deletes.awaiting,
    ]
    stop = emptied.stop or deletes.stop
    doubtful = [*more_doubts, *unsure, *emptied.doubts, *deletes.doubts]
    reason = "; ".join(filter(None, [stop, *doubtful, *notes])) or None
    if stop is not None:
        count("BrakePulled")
        return Ended("stopped", reason, READ_KINDS)
    left_differing = {*(kind for kind in READ_KINDS if doubts.get(kind)), *emptied.doubtful, *deletes.doubtful}
    if are_too_many:
        left_differing |= {*READ_KINDS}
    state: State = "incomplete" if doubtful or are_too_many else "complete"
    return Ended(state, reason, [kind for kind in READ_KINDS if kind in left_differing])


def _left_out(work: Work, tallies: Sequence[Tally], wrong: StillWrong) -> tuple[Sequence[str], bool]:
    """Sentences about objects that could not be applied, and whether their number exceeds the brake's limit.

    A few such objects leave a run complete: otherwise every run would be incomplete.
    """
    left_out = wrong.refused + sum(tally.get(name, 0) for tally in tallies for name in ("unusable", "refused"))
    compared = sum(tally.get("compared", 0) for tally in tallies)
    reasons = [f"{left_out:,} objects could not be compared or applied, see the log"] if left_out else []
    if wrong.held_up:
        reasons.append(
            "rows held up by locks of other transactions, or kept by triggers of the app: "
            f"{wrong.held_up:,}; the next run tries them again"
        )
    return reasons, left_out + wrong.held_up > work.settings.brake.limit(compared, None)


def _deleted_here(work: Work, tallies: Sequence[Tally], *, are_repaired: bool) -> Iterator[str]:
    """Sentences about objects that Clerk has and that were deleted here, and about restored objects.

    `are_repaired`: all repairs held back were made.
    """
    found = sum(tally.get("deleted here", 0) for tally in tallies)
    restored = sum(tally.get("restored", 0) for tally in tallies) if are_repaired else 0
    show = f"clerk-supabase reconcile show {work.run_id} --difference 'deleted here'"
    if found > restored:
        yield f"Clerk has objects that were deleted here: {show}"
    if restored:
        yield f"objects that only a comparison had deleted are restored, because Clerk has them: {show}"


def _altered(work: Work) -> str | None:
    """The sentence about rows in which triggers of the app store other values, each table and column once."""
    columns = [f"{table}.{column} ({rows:,})" for table, column, rows in work.runs.altered_columns(work.run_id)]
    if not columns:
        return None
    return (
        f"triggers of the app keep rows different from Clerk: {', '.join(columns)}; "
        f"clerk-supabase reconcile show {work.run_id} names the rows"
    )


def _older(work: Work, tallies: Sequence[Tally]) -> str | None:
    if not any(tally.get("older") for tally in tallies):
        return None
    return (
        "Clerk lists older versions of objects than were applied here, and no run repairs such objects: "
        f"clerk-supabase reconcile show {work.run_id} names them, clerk-supabase resync ID --force (of a membership: "
        "the id of its user) applies them"
    )
