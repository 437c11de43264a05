"""Compares the reports of runs and resyncs with their effect on the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, READ_KINDS
from clerk_supabase.reconcile.records import Finding, RunDetails
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.simulator.episodes.stage import BRAKE, MARGIN_MS, Stage
from clerk_supabase_cli.simulator.snapshots import Place, Snapshot, not_as_clerk
from clerk_supabase_cli.standin.worlds import World

# Counts that claim a change.
_PLAIN_KINDS: Final = tuple(kind for kind in READ_KINDS if FACTS[kind].verbs and not FACTS[kind].carrier)
"""The kinds whose objects are repaired one by one, each by its own answer of Clerk."""
_CLAIMS: Final = ("repaired", "deleted", "created", "changed", "updated", "restored")


def run_untrue(
    stage: Stage, before: Snapshot, details: RunDetails, report: Report, *, is_direct: bool
) -> Iterator[str]:
    """Differences between the report of a run and its effect, if nothing else happened meanwhile."""
    after = stage.snapshot()
    what = f"run {report.run_id} ({report.mode}, {report.state}: {report.reason})"
    found = {(each.kind, each.entity_id): each for each in details.findings}
    # The rows as of the beginning of a continued run are unknown.
    if is_direct and not report.is_resumed:
        yield from _findings_untrue(stage, found, before, after, what)
    hidden = after.hidden_since(before)
    said = sum(of_kind.get("deleted", 0) for of_kind in report.counts.values())
    # The row of a deleted object may have been hidden by hand before.
    gone = hidden | {place for place in after.entities if after.is_deleted(place) and not before.is_deleted(place)}
    if is_direct and not report.is_resumed and said > len(gone):
        yield f"{what} says that it deleted {said}, and deleted or hid {sorted(gone)}"
    if not stage.has_lied and not stage.misled:
        ids = {object_id for objects in stage.world.objects().values() for object_id in objects}
        yield from (f"{what} hid {' '.join(place)}, which Clerk has" for place in sorted(hidden) if place[1] in ids)
    most = BRAKE.limit(len(before.rows), None)
    of_kinds = Counter(kind for kind, _ in hidden)
    if details.run.allow_deletes is None and any(number > most for number in of_kinds.values()):
        yield f"{what} hid {dict(of_kinds)} rows, and the brake allows {most} of each kind at most: {sorted(hidden)}"
    emptied = _emptied(before, after)
    if details.run.allow_deletes is None and len(emptied) > len(READ_KINDS) * most:
        yield f"{what} emptied {len(emptied)} rows of the same column, and the brake allows {most} at most"


def fresh_run_untrue(
    stage: Stage, before: Snapshot, details: RunDetails, report: Report, world: World, *, is_direct: bool
) -> Iterator[str]:
    """Differences between the report of a run and its effect, if Clerk showed one state, `world`, to the whole run."""
    if not report.is_resumed:
        effect = _Effect(before, stage.snapshot(), stage.rules.ids(), is_direct)
        for kind in _PLAIN_KINDS:
            yield from _counts_untrue(kind, effect, details, report)
    if is_direct:
        yield from complete_untrue(stage, details, report, world)


class _Effect(NamedTuple):
    """The tables around a run."""

    before: Snapshot
    after: Snapshot
    troubled: Collection[str]
    """Ids of rows under a rule or lock of the app: whether these were written is not certain."""
    is_direct: bool
    """True: the run applied its repairs itself."""


def _counts_untrue(kind: Kind, effect: _Effect, details: RunDetails, report: Report) -> Iterator[str]:
    """Counts of a kind that differ from the findings and the effect of a run."""
    before, after, troubled, is_direct = effect
    counts = report.counts.get(kind, {})
    found = [each for each in details.findings if each.kind == kind]
    sure = [each for each in found if each.entity_id not in troubled]
    changed = {place[1] for place in after.touched_since(before) if place[0] == kind}
    repairs = {each.entity_id for each in sure if each.action == "repair" and each.outcome in ("sent", "settled")}
    back = {each.entity_id for each in sure if each.difference == "deleted here" and each.action == "repair"}
    restored = {each for each in back if before.is_deleted((kind, each)) and not after.is_deleted((kind, each))}
    bounds = {
        "deleted": (_deletes(sure, "settled"), _deletes(found, "settled")),
        "deletes sent": (_deletes(sure, "sent"), _deletes(found, "sent")),
        "repaired": (0, len(changed) + len(troubled)),
        "restored": (len(restored), len(restored if is_direct else back) + len(troubled)),
    }
    what = f"run {report.run_id} ({report.mode}) counts"
    for name, (least, most) in bounds.items():
        if not least <= counts.get(name, 0) <= most:
            yield f"{what} {name} {counts.get(name, 0)} of {kind}, and did {least} to {most}"
    said = sum(counts.get(name, 0) for name in ("repaired", "altered", "overtaken", "restored"))
    if is_direct and said < len(changed & repairs):
        yield f"{what} {counts} of {kind}, and repaired {sorted(changed & repairs)}"


def _deletes(found: Collection[Finding], outcome: str) -> int:
    return sum(each.action == "delete" and each.sent_at is not None and each.outcome == outcome for each in found)


def look_untrue(stage: Stage, before: Snapshot, report: Report) -> Iterator[str]:
    """Changes made by a dry run."""
    for place in sorted(stage.snapshot().changed_since(before)):
        yield f"run {report.run_id} was to repair nothing, and changed {' '.join(place)}"


def _findings_untrue(
    stage: Stage, found: dict[Place, Finding], before: Snapshot, after: Snapshot, what: str
) -> Iterator[str]:
    troubled = stage.rules.ids()
    kept = {place: why for place, why in not_as_clerk(after, stage.history.now()) if after.shows(place)}
    for place, finding in found.items():
        if (
            finding.action == "repair"
            and finding.outcome in ("sent", "settled")
            and finding.difference in ("stale", "different")
            and place[1] in stage.rules.ids("skip", "alter", "rewrite") - stage.setbacks
            and place in kept
        ):
            yield f"{what} says that it repaired {' '.join(place)}, but {kept[place]}"
        if finding.outcome not in ("sent", "settled") or place[1] in troubled:
            continue
        if finding.action == "delete" and finding.sent_at is not None and after.shows(place):
            yield f"{what} says that it deleted {' '.join(place)}, which is still shown"
        if (
            finding.action == "repair"
            # A hidden row may get another moment of its delete.
            and after.rows.get(place) == before.rows.get(place)
            and not after.is_changed(before, place)
            and after.entities.get(place) == before.entities.get(place)
        ):
            yield f"{what} says that it repaired {' '.join(place)}, which it did not change: {finding.difference}"


def _emptied(before: Snapshot, after: Snapshot) -> set[str]:
    """Users whose e-mail address was removed by the run."""
    return {
        place[1]
        for place, row in after.rows.items()
        if place[0] == "user"
        and row["deleted_at"] is None
        and row["email"] is None
        and (before.rows.get(place) or {}).get("email") is not None
    }


def complete_untrue(stage: Stage, details: RunDetails, report: Report, world: World) -> Iterator[str]:
    """Rows that differ from Clerk, without an excuse, after a full run with the state `complete`.

    `world`: the state of Clerk during the run. The repairs of the run are done. A continued run has seen more states.
    """
    if (report.mode, report.state, report.dry_run, report.is_resumed) != ("full", "complete", False, False):
        return
    named = {each.entity_id for each in details.findings}
    misled = stage.misled_with_children()
    after = stage.snapshot()
    for place, why in not_as_clerk(after, world):
        row = after.rows.get(place, {})
        # The children of a named object are excused, too.
        if report.reason is not None and named & {place[1], row.get("clerk_org_id"), row.get("clerk_user_id")}:
            continue
        if place[1] in misled and (report.reason is not None or _has_young_delete(stage, after)):
            continue
        if (report.reason is not None and _is_stub(after, place)) or _is_answered(after, place, world):
            continue
        if place[1] in stage.rules.ids() or _is_young(stage, after, place, world):
            continue
        if report.reason is not None and _waits_with_a_parent(stage, after, place, world):
            continue
        if after.entities.get(place) is not None and after.entities[place].is_purged:
            continue
        yield f"run {report.run_id} is complete ({report.reason}), but {why}"


def _is_stub(snapshot: Snapshot, place: Place) -> bool:
    """Tells whether only other objects told of an object.

    Our own clock dates its row, and an episode is shorter than the margin: a run leaves such a row to a later run, and
    says so.
    """
    entity = snapshot.entities.get(place)
    return entity is not None and entity.is_stub


def _is_answered(snapshot: Snapshot, place: Place, world: World) -> bool:
    """Tells whether Clerk does not list an answered invitation: no run deletes such an invitation."""
    answered = place[0] == "invitation" and snapshot.rows.get(place, {}).get("status") not in (None, "pending")
    return answered and place[1] not in world.invitations


def _is_young(stage: Stage, snapshot: Snapshot, place: Place, world: World) -> bool:
    """Tells whether an object is so new that Clerk's answer may lag behind: no run acts on the object yet."""
    entity = snapshot.entities.get(place)
    is_there = any(place[1] in objects for objects in world.objects().values())
    if entity is None:
        return False
    # A run knows the time of its beginning to the second.
    began = world.now // 1_000 * 1_000
    if is_there and place[1] not in stage.setbacks:
        # A change since is left to the next run: Clerk's Date does not order changes and answers within a second.
        return entity.newest >= began
    return entity.newest >= began - MARGIN_MS


def _waits_with_a_parent(stage: Stage, snapshot: Snapshot, place: Place, world: World) -> bool:
    """Tells whether an object goes only with its parent, which is gone from Clerk, but too young for a delete."""
    facts = FACTS[place[0]]
    if place[0] in READ_KINDS and facts.is_list_whole:
        return False
    row = snapshot.rows.get(place, {})
    parents = [(kind, row[column]) for column, kind in facts.parents.items() if row.get(column) is not None]
    return any(_is_stub(snapshot, parent) or _is_young(stage, snapshot, parent, world) for parent in parents)


def _has_young_delete(stage: Stage, snapshot: Snapshot) -> bool:
    """Tells whether a webhook with a wrong delete is so recent that Clerk's lists might still lag behind."""
    deletes = [entity.deleted_at for place, entity in snapshot.entities.items() if place[1] in stage.misled]
    return any(moment is not None and moment > stage.world.now - MARGIN_MS for moment in deletes)


def resync_untrue(stage: Stage, object_id: str, before: Snapshot, report: Report) -> Iterator[str]:
    """Differences between the report of a resync and its effect; and the object's row, if different from Clerk."""
    after = stage.snapshot()
    changed = after.changed_since(before)
    claimed = sum(of_kind.get(name, 0) for of_kind in report.counts.values() for name in _CLAIMS)
    # The delete of an object whose row somebody removed only sets a tombstone.
    if claimed and not changed and not after.is_tombstone_changed(before, object_id):
        yield f"resync {object_id} says {report.counts}, and changed nothing"
    if changed and not claimed:
        yield f"resync {object_id} says {report.counts} ({report.state}), and changed {sorted(changed)}"
    if report.state != "complete" or report.reason is not None or object_id in stage.rules.ids():
        return
    for place, why in not_as_clerk(after, stage.history.now()):
        if place[1] == object_id:
            yield f"resync {object_id} is complete, but {why}"
