"""Steps of the operator: undo, resync, housekeeping."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from clerk_supabase.errors import ClerkSupabaseError, GoneFromClerk
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.settings import Keep
from clerk_supabase_cli.simulator import oracle
from clerk_supabase_cli.simulator.episodes import said
from clerk_supabase_cli.simulator.episodes.happenings.webhooks import rows_in_trouble
from clerk_supabase_cli.simulator.episodes.stage import Stage


def undo(stage: Stage, chance: Random) -> None:
    """The operator undoes the deletes of a recent run."""
    with stage.theatre.store(is_owner=True) as store:
        runs = [run for run in Runs(store).list(4) if run.state != "running"]
        if not runs:
            return
        with_deletes = [
            run for run in runs if any({"deleted", "deletes sent"} & {*each} for each in run.counts.values())
        ]
        run_id = chance.choice(with_deletes or runs).run_id
        before = stage.snapshot() if stage.is_alone else None
        try:
            brought_back = Runs(store).undo(run_id).restored
        except ClerkSupabaseError as error:
            stage.give_up(f"undo of run {run_id}", error)
            return
    stage.undone.add(run_id)
    stage.counts["restored by undo"] += len(brought_back)
    if before is not None:
        after = stage.snapshot()
        for place in brought_back:
            entity = after.entities.get(place)
            if entity is None or entity.deleted_at is not None:
                stage.wrong.append(f"undo of run {run_id} says that it restored {' '.join(place)}: {entity}")


def resync(stage: Stage, chance: Random) -> None:
    """The operator resyncs a user or an organization."""
    ids = sorted({*stage.world.users, *stage.world.organizations, *_known_ids(stage)})
    if not ids:
        return
    object_id = chance.choice(ids)
    stage.next_second()
    before = stage.snapshot() if stage.is_alone else None
    with stage.theatre.store(is_owner=True) as store:
        try:
            report = stage.reconcile(store, is_direct=True).resync(object_id, stage.deadline())
        except GoneFromClerk:
            return
        except ClerkSupabaseError as error:
            stage.give_up(f"resync {object_id}", error)
            return
    if before is not None:
        stage.wrong += said.resync_untrue(stage, object_id, before, report)


def _known_ids(stage: Stage) -> Collection[str]:
    rows = stage.snapshot().rows if stage.is_alone else ()
    return [object_id for kind, object_id in rows if kind in {"user", "organization"}]


def housekeeping(stage: Stage, chance: Random) -> None:
    """Housekeeping purges every deleted row at once, unless a row hidden by another fault would be lost."""
    is_safe = not stage.has_lied and not any(
        place[1] in objects
        for place, row in stage.snapshot().rows.items()
        for objects in stage.world.objects().values()
        if row["deleted_at"] is not None
    )
    days = 0 if is_safe else 30
    keep = Keep(hold_back_days=days, purge_by=chance.choice(("scrub", "delete")))
    stage.counts["purge"] += is_safe
    with stage.theatre.store() as store:
        Housekeeping(store, keep).run()
    if is_safe and stage.is_alone:
        after = stage.snapshot()
        related = rows_in_trouble(stage)
        for place, row in after.rows.items():
            entity = after.entities.get(place)
            is_purged = entity is not None and entity.is_purged
            if row["deleted_at"] is not None and not is_purged and place[1] not in related:
                stage.wrong.append(f"{' '.join(place)} was to be purged, and was not")
        stage.wrong += [
            f"the audit log tells of {kind} {object_id}, whose organization was purged"
            for kind, object_id in oracle.remembered_of_organizations(stage.admin)
            if object_id not in related
        ]
