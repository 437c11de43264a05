"""Deletes: only of what Clerk confirms, one by one, to be gone, and only if the brake allows it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clerk_supabase.changes import ReadKind
from clerk_supabase.clerk import MOST_IDS, Clerk
from clerk_supabase.errors import ClerkKeyRefused, ClerkRefused, GoneFromClerk
from clerk_supabase.reconcile_lookups import domain_gone_at, invitation_gone_at
from clerk_supabase.reconcile_pages import KIND_NAMES, Work
from clerk_supabase.repairs import Repair

_ORDER: Final[tuple[ReadKind, ...]] = ("user", "organization", "membership", "invitation", "domain")

Candidate = tuple[str, str | None, str | None]
"""Id and, of a membership, those of its user and its organization; of an invitation or a domain that of the latter."""


@dataclass
class _Gone:
    """What Clerk has confirmed to be gone, and when."""

    by_kind: dict[ReadKind, dict[str, int]] = field(default_factory=dict)

    def has(self, object_id: str | None) -> bool:
        return any(object_id in gone for gone in self.by_kind.values())


@dataclass(frozen=True, slots=True)
class Deletes:
    """Results of the deletes of a run."""

    stop: str | None = None
    """Why the brake stopped all of them, if so."""
    doubts: Sequence[str] = ()
    """Contradictions between Clerk's answers by id and its list, and answers that do not say enough."""


@dataclass
class _Answers:
    """Clerk's answers about candidates, by their ids."""

    present: list[str] = field(default_factory=list)
    """Objects that Clerk has, or does not say to be gone."""
    absent: dict[str, int] = field(default_factory=dict)
    """Objects that Clerk said to be gone, and the moment of the answer."""
    undated: int = 0
    """Number of objects that Clerk said to be gone in an answer without a Date."""


def delete_gone(work: Work, kinds: Collection[ReadKind]) -> Deletes:
    """Delete the candidates of these kinds that Clerk confirms to be gone, unless there are too many."""
    concerned = [kind for kind in _ORDER if kind in kinds and work.runs.candidates(work.run_id, kind, "", 1)]
    if not concerned:
        return Deletes()
    existing = work.runs.count_rows()
    gone = _Gone()
    stops: list[str] = []
    doubts: list[str] = []
    for kind in concerned:
        limit = work.settings.brake.limit(existing[kind], work.begun.run.allow_deletes)
        try:
            doubts += _confirm(work, kind, gone, limit)
        except ClerkKeyRefused:
            raise
        except ClerkRefused as error:
            del gone.by_kind[kind]
            doubts.append(f"{error}: no {kind} is deleted")
        if len(gone.by_kind.get(kind, ())) > limit:
            stops.append(
                f"more than {limit:,} of {existing[kind]:,} {KIND_NAMES[kind]} are gone from Clerk: "
                "look whether that can be, then allow so many deletes"
            )
    if stops:
        return Deletes("; ".join(stops), doubts)
    if not work.begun.run.is_dry_run:
        for kind, moments in gone.by_kind.items():
            _delete(work, kind, moments)
    return Deletes(doubts=doubts)


def _confirm(work: Work, kind: ReadKind, gone: _Gone, limit: int) -> Sequence[str]:
    """Ask Clerk for every candidate, until more than the limit are gone; return why Clerk cannot be relied on."""
    confirmed = gone.by_kind.setdefault(kind, {})
    present = undated = 0
    after = ""
    while candidates := work.runs.candidates(work.run_id, kind, after, MOST_IDS):
        work.check()
        after = candidates[-1][0]
        answers = _looked_up(work.clerk, kind, candidates, gone, room=limit - len(confirmed))
        confirmed |= answers.absent
        present += len(answers.present)
        undated += answers.undated
        work.runs.settle(work.run_id, kind, present=answers.present, gone=answers.absent)
        if len(confirmed) > limit:
            break
    doubts: list[str] = []
    if present:
        doubts.append(f"Clerk has {KIND_NAMES[kind]} that it did not list: {present:,}")
    if undated:
        doubts.append(f"Clerk did not say when {KIND_NAMES[kind]} were gone: {undated:,}")
    return doubts


def _looked_up(clerk: Clerk, kind: ReadKind, candidates: Sequence[Candidate], gone: _Gone, room: int) -> _Answers:
    ids = [object_id for object_id, _, _ in candidates]
    answers = _Answers()
    if kind not in ("user", "organization"):
        for object_id, user_id, org_id in candidates:
            # Those of a user or an organization that goes are hidden with it.
            if not gone.has(user_id) and not gone.has(org_id) and len(answers.absent) <= room:
                moment = _child_gone_at(clerk, kind, object_id, user_id, org_id)
                if moment is None:
                    answers.present.append(object_id)
                else:
                    answers.absent[object_id] = moment
        return answers
    by_id = clerk.users_by_id if kind == "user" else clerk.organizations_by_id
    look = clerk.user if kind == "user" else clerk.organization
    answers.present += [item.id for item in by_id(ids).items]
    for object_id in sorted(set(ids) - set(answers.present)):
        if len(answers.absent) > room:
            break
        # A list may have left somebody out; a 404 is about this one.
        found = look(object_id)
        if found.value is not None:
            answers.present.append(object_id)
        elif found.observed_at > 0:
            answers.absent[object_id] = found.observed_at
        else:
            answers.undated += 1
    return answers


def _child_gone_at(clerk: Clerk, kind: ReadKind, object_id: str, user_id: str | None, org_id: str | None) -> int | None:
    if kind == "invitation":
        return invitation_gone_at(clerk, object_id, org_id)
    if kind == "domain":
        return domain_gone_at(clerk, object_id, org_id)
    return _membership_gone_at(clerk, object_id, user_id)


def _membership_gone_at(clerk: Clerk, membership_id: str, user_id: str | None) -> int | None:
    """When Clerk listed all memberships of the user, and not this one; None: it has it, or does not say."""
    if user_id is None:
        return None
    ids: set[str] = set()
    told: list[int] = []
    observed_at = 0
    try:
        for page in clerk.memberships_of_user(user_id):
            if page.odd or not (page.joins and page.is_new) or page.total_count is None:
                return None
            ids |= {item.id for item in page.items}
            told.append(page.total_count)
            observed_at = observed_at or page.observed_at
    except GoneFromClerk as user_gone:
        return user_gone.observed_at or None
    is_complete = bool(told) and len(ids) >= max(told)
    return observed_at or None if is_complete and membership_id not in ids else None


def _delete(work: Work, kind: ReadKind, moments: Mapping[str, int]) -> None:
    for batch in _batches(moments):
        repairs = [Repair(work.run_id, kind, object_id, moment, None) for object_id, moment in batch]
        refused = [repair.id for repair in work.repairs.send(work.runs.store, repairs, work.clock_ms())]
        sent = [repair.id for repair in repairs if repair.id not in refused]
        work.runs.settle(work.run_id, kind, sent=sent, refused=refused)


def _batches(moments: Mapping[str, int]) -> Iterator[Sequence[tuple[str, int]]]:
    items = list(moments.items())
    for start in range(0, len(items), MOST_IDS):
        yield items[start : start + MOST_IDS]
