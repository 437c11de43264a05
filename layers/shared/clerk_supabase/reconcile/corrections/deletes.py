"""Deletes of objects gone from Clerk: after two answers about each object, and within the brake's limit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clerk_supabase.clerk.api import MOST_IDS, Clerk
from clerk_supabase.clerk.lookups import absent_from_list, child_gone_at, is_proven_by_list, look_at, read_again
from clerk_supabase.errors import ClerkKeyRejected, ClerkRejected
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES, READ_KINDS
from clerk_supabase.reconcile.corrections.repairs import Repair, settled
from clerk_supabase.reconcile.pages import Work
from clerk_supabase.reconcile.records import Candidate

UNLISTED: Final = "Clerk does not list objects that were there within the last"
"""The begin of the sentence about objects too young for a delete: perhaps gone, perhaps not listed yet."""
_LOOK: Final = "check whether that is right, then allow so many deletes"


@dataclass
class _Gone:
    """Objects that Clerk says to be gone."""

    absent: dict[ReadKind, dict[str, int]] = field(default_factory=dict)
    """By kind and id, the moment of the newest answer that the object is gone."""
    proven: dict[ReadKind, dict[str, int]] = field(default_factory=dict)
    """The objects among these with an earlier such answer, older by the margin at least."""

    def has(self, object_id: str | None) -> bool:
        return any(object_id in absent for absent in self.absent.values())

    def forget(self, kind: ReadKind) -> None:
        self.absent.pop(kind, None)
        self.proven.pop(kind, None)

    @property
    def awaiting(self) -> int:
        """Number of objects about which a later run has to ask Clerk again."""
        return sum(len(absent) for absent in self.absent.values()) - sum(len(each) for each in self.proven.values())


@dataclass(frozen=True, slots=True)
class Deletes:
    """Results of the deletes of a run."""

    stop: str | None = None
    """The reason why the brake stopped all deletes, if so."""
    doubts: Sequence[str] = ()
    """Contradictions between Clerk's answers by id and its list, and answers without a Date."""
    doubtful: Sequence[ReadKind] = ()
    """The kinds of these doubts."""
    awaiting: Sequence[str] = ()
    """Sentences for people: the number of objects that a later run has to look at again, and the reason."""


@dataclass
class _Answers:
    """Clerk's answers about candidates, by their ids."""

    present: list[str] = field(default_factory=list)
    """Objects that Clerk has, or whose absence is not proven."""
    absent: dict[str, int] = field(default_factory=dict)
    """Objects that Clerk said to be gone, and the moment of the answer."""
    undated: int = 0
    """Number of objects that Clerk said to be gone in an answer without a Date."""


def delete_gone(work: Work, kinds: Collection[ReadKind]) -> Deletes:
    """Delete the objects that two answers of Clerk call gone, unless the deletes exceed the brake's limit.

    `kinds`: the kinds with trusted lists, so a row missing from a list is a candidate. The function also asks Clerk
    again about objects gone in an earlier run.
    """
    due, young = work.runs.prepare_deletes(work.run_id, [*kinds])
    asked = {*kinds, *(kind for kind, _ in due)}
    concerned = [kind for kind in READ_KINDS if kind in asked and work.runs.candidates(work.run_id, kind, "", 1)]
    if not concerned:
        return Deletes(awaiting=[*_awaiting(work, young, 0)])
    existing = work.runs.count_rows()
    limits = {kind: work.settings.brake.limit(rows, work.begun.run.allow_deletes) for kind, rows in existing.items()}
    gone = _Gone()
    by_kind: dict[ReadKind, Sequence[str]] = {}
    for kind in concerned:
        try:
            by_kind[kind] = _confirm(work, kind, gone, limits[kind], due)
        except ClerkKeyRejected:
            raise
        except ClerkRejected as error:
            gone.forget(kind)
            by_kind[kind] = [f"{error}: no {kind} is deleted"]
    doubts = [doubt for of_kind in by_kind.values() for doubt in of_kind]
    stops = [*_too_many(gone, existing, limits)] or [*_too_heavy(work, gone, existing, limits)]
    if stops:
        return Deletes("; ".join(stops), doubts, awaiting=[*_awaiting(work, young, 0)])
    if not work.begun.run.is_dry_run:
        for kind, moments in gone.proven.items():
            _delete(work, kind, moments)
    doubtful = [kind for kind, of_kind in by_kind.items() if of_kind]
    return Deletes(doubts=doubts, doubtful=doubtful, awaiting=[*_awaiting(work, young, gone.awaiting)])


def _confirm(work: Work, kind: ReadKind, gone: _Gone, limit: int, due: Collection[tuple[str, str]]) -> Sequence[str]:
    """Ask Clerk for every candidate, until more than the limit are gone; return doubts about Clerk's answers.

    Without a margin, ask a second time at once.
    """
    answers = _asked(work, kind, gone, limit)
    present = answers.present
    if work.settings.delete_margin_ms == 0 and answers.absent and not work.begun.run.is_dry_run:
        answers = _asked(work, kind, gone, limit)
        present += answers.present
    doubts: list[str] = []
    # An object that only an earlier run found missing does not contradict the list of this run.
    if unlisted := sum((kind, object_id) not in due for object_id in present):
        doubts.append(f"Clerk has {KIND_NAMES[kind]} that it did not list: {unlisted:,}")
    if answers.undated:
        doubts.append(f"Clerk did not say when {KIND_NAMES[kind]} were gone: {answers.undated:,}")
    return doubts


def _asked(work: Work, kind: ReadKind, gone: _Gone, limit: int) -> _Answers:
    """Ask Clerk once for every candidate, until more than the limit are gone."""
    answers = _Answers()
    proven: dict[str, int] = {}
    gone.absent[kind], gone.proven[kind] = answers.absent, proven
    after = ""
    while len(answers.absent) <= limit and (candidates := work.runs.candidates(work.run_id, kind, after, MOST_IDS)):
        work.check()
        after = candidates[-1][0]
        found = _looked_up(work.clerk, kind, candidates, gone, room=limit - len(answers.absent))
        work.runs.settle(work.run_id, kind, present=found.present, gone=found.absent)
        answers.present += found.present
        answers.absent |= found.absent
        answers.undated += found.undated
        for object_id, _, _, first in candidates:
            moment = found.absent.get(object_id)
            if moment is not None and first is not None and moment - first >= work.settings.delete_margin_ms:
                proven[object_id] = moment
    return answers


def _looked_up(clerk: Clerk, kind: ReadKind, candidates: Sequence[Candidate], gone: _Gone, room: int) -> _Answers:
    answers = _Answers()
    if FACTS[kind].parents:
        for object_id, user_id, org_id, _ in candidates:
            # The children of a user or an organization that is gone are hidden together with the parent.
            if not gone.has(user_id) and not gone.has(org_id) and len(answers.absent) <= room:
                moment = child_gone_at(clerk, kind, object_id, user_id, org_id)
                if moment is None:
                    answers.present.append(object_id)
                else:
                    answers.absent[object_id] = moment
        return answers
    if is_proven_by_list(kind):
        ids = [object_id for object_id, *_ in candidates]
        answers.absent |= absent_from_list(clerk, kind, ids)
        answers.present += [object_id for object_id in ids if object_id not in answers.absent]
        return answers
    answers.present += [item.id for item in read_again(clerk, kind, [each[:3] for each in candidates])]
    for object_id in sorted({object_id for object_id, *_ in candidates} - set(answers.present)):
        if len(answers.absent) > room:
            break
        # A list may have left an object out; a 404 is about this single object.
        found = look_at(clerk, kind, object_id)
        if found.value is not None:
            answers.present.append(object_id)
        elif found.observed_at > 0:
            answers.absent[object_id] = found.observed_at
        else:
            answers.undated += 1
    return answers


# The brake


def _too_many(gone: _Gone, existing: Mapping[ReadKind, int], limits: Mapping[ReadKind, int]) -> Iterator[str]:
    """A sentence for each kind with more gone objects than the limit."""
    for kind, absent in gone.absent.items():
        if len(absent) > limits[kind]:
            yield f"more than {limits[kind]:,} of {existing[kind]:,} {KIND_NAMES[kind]} are gone from Clerk: {_LOOK}"


def _too_heavy(
    work: Work, gone: _Gone, existing: Mapping[ReadKind, int], limits: Mapping[ReadKind, int]
) -> Iterator[str]:
    """Sentences about deletes that would hide too many rows: with the objects of a kind, or of rows of a kind."""
    if not any(gone.absent.values()):
        return
    weight = work.runs.weigh_deletes(work.run_id)
    stopped = False
    for kind, absent in gone.absent.items():
        rows = weight.by_object.get(kind, {})
        if sum(rows.values()) > limits[kind]:
            stopped = True
            parts = ", ".join(_number(number, each) for each, number in rows.items())
            yield (
                f"{_number(len(absent), kind)} gone from Clerk would hide {sum(rows.values()):,} rows ({parts}), "
                f"and {limits[kind]:,} may go at once: {_LOOK}"
            )
    if stopped:
        return
    for kind, limit in limits.items():
        if weight.hidden.get(kind, 0) > limit:
            yield (
                f"the objects gone from Clerk would hide {weight.hidden[kind]:,} of {existing[kind]:,} "
                f"{KIND_NAMES[kind]}, and {limit:,} may go at once: {_LOOK}"
            )


def _number(number: int, kind: str) -> str:
    return f"{number:,} {kind}" if number == 1 else f"{number:,} {KIND_NAMES.get(kind, kind)}"


# Deleting


def _awaiting(work: Work, young: int, absent: int) -> Iterator[str]:
    """Sentences about objects that a later run has to check: young objects, and objects absent for the first time."""
    margin = work.settings.delete_margin_ms / 1000
    if young:
        yield (f"{UNLISTED} {margin:g} s: {young:,}; a later run asks about them")
    if absent and not work.begun.run.is_dry_run:
        yield (
            f"Clerk says for the first time that objects are gone: {absent:,}; a run that is at least {margin:g} s "
            "later asks again, and deletes them"
        )


def _delete(work: Work, kind: ReadKind, moments: Mapping[str, int]) -> None:
    for batch in _batches(moments):
        repairs = [Repair(work.run_id, kind, object_id, moment, None) for object_id, moment in batch]
        became = settled(repairs, work.repairs.send(work.runs.store, repairs, work.clock_ms()))
        # After a delete held up by a lock, the object stays absent, and the next run asks Clerk about it again.
        work.runs.settle(work.run_id, kind, sent=became.sent, refused=became.refused, held_up=became.held_up)


def _batches(moments: Mapping[str, int]) -> Iterator[Sequence[tuple[str, int]]]:
    items = list(moments.items())
    for start in range(0, len(items), MOST_IDS):
        yield items[start : start + MOST_IDS]
