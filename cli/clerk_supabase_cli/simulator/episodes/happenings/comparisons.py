"""Steps of reconcile: runs against Clerk's API, healthy or with a lag, gaps, empty fields or refusals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any, Final

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Mode, Request
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.simulator.episodes import said
from clerk_supabase_cli.simulator.episodes.clerk_views import (
    REFUSALS,
    REFUSED_PATHS,
    SHORTENED,
    lagging,
    refusal,
    short_lists,
)
from clerk_supabase_cli.simulator.episodes.happenings.life import crowd
from clerk_supabase_cli.simulator.episodes.stage import MARGIN_MS, Stage
from clerk_supabase_cli.simulator.snapshots import Place, Snapshot

_MOST_REQUESTS: Final = 100
"""More requests than any run needs to compare so few objects."""


def delete_told_late(stage: Stage, chance: Random) -> None:
    """Clerk deletes an object, and runs notice the delete before its webhook arrives."""
    world = stage.world
    delete = chance.choice((world.delete_user, world.delete_user, world.leave, world.delete_organization))
    world.now += 7
    stage.lets(delete)
    stage.delayed += stage.untold()
    # A delete needs two proofs.
    for _ in range(2):
        stage.pass_time(2 * MARGIN_MS / 1000)
        run(stage, chance)


def run(
    stage: Stage,
    chance: Random,
    *,
    refused: str = "",
    may_be_complete: bool = False,
    left_out: Collection[str] = (),
    is_fresh: bool = True,
    modes: Sequence[Mode] = ("full", "full", "quick"),
) -> None:
    """Runs a comparison with Clerk, and checks its report.

    `refused`: the wrong answer of Clerk, with which the run must not be complete, unless `may_be_complete`. `left_out`:
    ids of rows missing in all lists.
    """
    is_direct = chance.random() < 0.5
    request = Request(
        chance.choice(modes),
        dry_run=chance.random() < 0.1,
        allow_deletes=chance.choice((None, None, 1_000)),
    )
    seconds = chance.choice((float("inf"), float("inf"), 0.02)) if not stage.is_alone else float("inf")
    if stage.is_alone:
        # An object not found by an earlier run may now be old enough for its delete.
        stage.pass_time(chance.choice((0, 2 * MARGIN_MS / 1000)))
    stage.next_second()
    world = stage.history.now()
    before = stage.snapshot() if stage.is_alone else None
    stage.undone.clear()
    with stage.theatre.store() as store:
        try:
            report = stage.reconcile(store, is_direct=is_direct).run(request, stage.deadline(seconds))
        except ClerkSupabaseError as error:
            if refused:
                stage.counts["run refused"] += 1
            else:
                stage.give_up("a run", error)
            return
    stage.counts[f"run {report.state}"] += 1
    if report.calls > _MOST_REQUESTS:
        stage.wrong.append(f"run {report.run_id} ({report.mode}) asked Clerk {report.calls} times")
    # A continued run may have read the list before.
    was_refused = refused and (stage.theatre.api.faults.has_applied or not report.is_resumed)
    if was_refused and not may_be_complete and (report.state, report.reason) == ("complete", None):
        stage.wrong.append(f"run {report.run_id} ({report.mode}) is complete, although Clerk answered with {refused}")
    if left_out and (report.mode, report.state, report.reason) == ("full", "complete", None):
        stage.wrong += _unnoticed(stage, report, left_out)
    if before is not None and report.run_id is not None:
        if request.dry_run:
            stage.wrong += said.look_untrue(stage, before, report)
            return
        details = _details(stage, report)
        stage.wrong += said.run_untrue(stage, before, details, report, is_direct=is_direct)
        if is_fresh and not refused:
            stage.wrong += said.fresh_run_untrue(stage, before, details, report, world, is_direct=is_direct)


def _unnoticed(stage: Stage, report: Report, left_out: Collection[str]) -> list[str]:
    """The objects that Clerk's lists left out, and that are still shown: a webhook beside the run may tell a delete."""
    after = stage.snapshot()
    shown = sorted({place[1] for place in after.rows if place[1] in left_out and after.shows(place)})
    return [f"run {report.run_id} is complete, although the lists lack {shown}"] if shown else []


def _details(stage: Stage, report: Report) -> Any:
    assert report.run_id is not None  # noqa: S101 - a resync has none
    with stage.theatre.store(is_owner=True) as store:
        return Runs(store).show(report.run_id)


def lagging_run(stage: Stage, chance: Random) -> None:
    """Clerk's servers lag behind the webhooks."""
    view = lagging(stage.history, lambda: stage.world.now, MARGIN_MS - 1_000, chance)
    _seeing(stage, lambda: run(stage, chance, is_fresh=False), view)


def short_run(stage: Stage, chance: Random) -> None:
    """Clerk's lists leave objects out."""
    view, ids = short_lists(stage.history, chance, is_counted=chance.random() < 0.5)
    stage.next_second()
    snapshot = stage.snapshot()
    # A run cannot notice the gap for an object without a row, nor for an object younger than the run.
    shown = {
        place[1]
        for place in snapshot.rows
        if place[0] in SHORTENED and snapshot.shows(place) and not _is_younger(stage, snapshot, place)
    }
    _seeing(stage, lambda: run(stage, chance, left_out=ids & shown, is_fresh=False), view)
    if chance.random() < 0.5:
        stage.pass_time(2 * MARGIN_MS / 1000)
        _seeing(stage, lambda: run(stage, chance, is_fresh=False), view)


def _is_younger(stage: Stage, snapshot: Snapshot, place: Place) -> bool:
    entity = snapshot.entities.get(place)
    return entity is not None and entity.newest >= stage.world.now // 1_000 * 1_000


def emptying_run(stage: Stage, chance: Random) -> None:
    """Clerk answers every user without e-mail addresses."""
    world = stage.history.now()
    for user_id in list(world.users):
        world.users[user_id] = world.users[user_id] | {"email_addresses": [], "primary_email_address_id": None}
    _seeing(stage, lambda: run(stage, chance, is_fresh=False), lambda _: world)


def quick_run_refused(stage: Stage, chance: Random) -> None:
    """A quick run, possible after a full run, learns nothing from Clerk's list of changed users."""
    run(stage, chance, modes=("full",))
    run_with_answer(
        stage, chance, chance.choice(("no elements", "no Date", "the same page")), "/users", modes=("quick",)
    )


def refused_run(stage: Stage, chance: Random) -> None:
    """Clerk answers a kind of request without information."""
    run_with_answer(stage, chance, chance.choice(list(REFUSALS)), chance.choice(REFUSED_PATHS))


def run_with_answer(
    stage: Stage, chance: Random, name: str, path: str, modes: Sequence[Mode] = ("full", "full", "quick")
) -> None:
    """Runs a comparison while Clerk gives an answer of REFUSALS at this path."""
    faults = stage.theatre.api.faults
    # Draws of its own, so that all other steps of an episode stay as they were.
    apart = Random(repr(chance.getstate()))  # noqa: S311 - repeatable on purpose
    if name == "no required fields" and apart.random() < 0.5:
        # Of users alone it is known which fields Clerk always sends.
        path = "/users"
    # With endless faults, a walk without an end would never let the search continue.
    paths = [path]
    if name == "no Date":
        # For all requests; or for the list, and the answer from which a run takes the time of its beginning.
        paths = chance.choice(([""], [path, "/instance"]))
    for each in paths:
        faults.add(refusal(name, apart), path=each, times=_MOST_REQUESTS + 20)
    # A quick run may end before the end of a list.
    may_be_complete = name == "the same page"
    refused = f"{name} at {path}" if may_be_complete or _matters(stage, name, path) else ""
    try:
        run(stage, chance, is_fresh=False, refused=refused, may_be_complete=may_be_complete, modes=modes)
    finally:
        faults.clear()


def _matters(stage: Stage, name: str, path: str) -> bool:
    """Tells whether a run misses objects because of the answer; an empty list leaves nothing out."""
    kind = {FACTS[kind].list_path or "/users": kind for kind in SHORTENED}.get(path)
    if kind is None:
        return False
    snapshot = stage.snapshot()
    began = stage.world.now // 1_000 * 1_000
    # As in short_run: a run cannot notice the gap for an object younger than the run.
    has_any = any(
        each["created_at"] < began and not _is_younger(stage, snapshot, (kind, key))
        # As Clerk's API shows them: what the API has lost for good, no run can miss.
        for key, each in stage.history.now().objects()[kind].items()
    )
    if name in {"no e-mail addresses", "no required fields", "no Date"}:
        # The reason names single unreadable objects, and not every kind has such fields.
        return has_any and kind == "user"
    return has_any or name in {"402", "403", "404", "HTML"}


def _seeing(stage: Stage, act: Callable[[], object], view: Any) -> None:
    views = stage.theatre.views
    before, views.view_for = views.view_for, view
    try:
        act()
    finally:
        views.view_for = before


def lie(stage: Stage, chance: Random) -> None:
    """Some objects of Clerk and their children, also future ones, are missing in every answer from now on."""
    everything = sorted(key for objects in stage.world.objects().values() for key in objects)
    if stage.world.organizations and chance.random() < 0.5:
        everything = sorted(stage.world.organizations)
    stage.history.hidden |= set(chance.sample(everything, min(len(everything), chance.choice((1, 1, 3)))))
    stage.has_lied = True


def lose_crowd(stage: Stage, chance: Random) -> None:
    """An organization with many members is missing in every answer from now on; two runs prove its delete."""
    crowd(stage, chance)
    stage.history.hidden.add(list(stage.world.organizations)[-1])
    stage.has_lied = True
    for _ in range(2):
        stage.pass_time(2 * MARGIN_MS / 1000)
        run(stage, chance)


def end_of_lie(stage: Stage, _: Random) -> None:
    stage.history.hidden.clear()
