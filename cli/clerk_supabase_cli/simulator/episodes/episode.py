"""Random episodes with all kinds of faults: the tables must end as in Clerk, and each run must report the truth.

An episode is a world and a script: changes in Clerk and faults on the way, runs against an API with lags, gaps and
refusals, rows changed by hand, an app with obstacles, undo and replay by an operator, a failover. Steps happen one at a
time, each with an immediate check of its result; or some steps happen side by side. In the end the app lifts its
obstacles, all waiting events arrive, runs compare a healthy API with the tables, and the tables must equal Clerk.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.operate import parked
from clerk_supabase_cli.simulator import oracle
from clerk_supabase_cli.simulator.databases import (
    Database,
    count_deadlocks,
    deadlocks_found_early,
    deletes_in_small_parts,
)
from clerk_supabase_cli.simulator.episodes.stage import MARGIN_MS, Stage, Theatre
from clerk_supabase_cli.simulator.episodes.steps import KINDS, Step, random_script
from clerk_supabase_cli.simulator.silence import silent_telemetry
from clerk_supabase_cli.simulator.snapshots import Snapshot, not_as_clerk
from clerk_supabase_cli.standin.worlds import World

Script = Sequence[Step]

# A delete with two proofs needs two runs; objects restored by a run are compared by the next.
_MOST_RUNS_TO_REST: Final = 6
_MOST_ROUNDS_OF_QUEUES: Final = 100
_MOST_BESIDE: Final = 4
_MOST_SHRUNK_TRIES: Final = 200


@dataclass(slots=True)
class EpisodesReport:
    """The numbers of a search of episodes, and its differences."""

    episodes: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    deadlocks: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)
    failed_episode: int | None = None
    smallest: Script = ()
    """The fewest steps of the episode with a difference."""

    def add(self, other: EpisodesReport) -> None:
        """Adds the findings of another search, but not its time: both may have run at once."""
        self.episodes += other.episodes
        self.happened += other.happened
        self.deadlocks += other.deadlocks
        self.differences += other.differences
        failed = other.failed_episode
        if failed is not None and (self.failed_episode is None or failed < self.failed_episode):
            self.failed_episode, self.smallest = failed, other.smallest


def explore_episodes(
    database: Database,
    *,
    episodes: int,
    seed: int | str,
    first: int = 0,
    only: Collection[str] = (),
    sought: str = "",
    progress: Callable[[EpisodesReport], object] = lambda _: None,
    is_ended: Callable[[], bool] = lambda: False,
    shrinks: bool = True,
) -> EpisodesReport:
    """Tries the episodes from number `first` on. Stops after the first difference, or once `is_ended` returns True.

    `only`: the allowed groups of steps, as in `steps.KINDS`; `beside` lets steps happen side by side. `sought`: only
    differences with this text count. Deletes all rows of the database.
    """
    report = EpisodesReport()
    started = time.monotonic()
    deadlocks_before = count_deadlocks(database)
    with silent_telemetry(), deadlocks_found_early(database), deletes_in_small_parts(database):
        with closing(Theatre(database)) as theatre:
            for number in range(first, first + episodes):
                if is_ended():
                    break
                script = script_of(seed, number, only)
                stage = play(theatre, seed, number, script)
                report.happened += stage.counts
                report.differences += [each for each in stage.wrong if sought in each]
                report.episodes += 1
                report.seconds = time.monotonic() - started
                progress(report)
                if report.differences:
                    report.failed_episode = number
                    if shrinks:
                        report.smallest = _smallest(theatre, seed, number, script, sought)
                    break
        report.deadlocks = count_deadlocks(database) - deadlocks_before
    return report


def script_of(seed: int | str, number: int, only: Collection[str] = ()) -> Script:
    """Draws the script of the episode with this number."""
    return random_script(_chance(seed, number, "script"), only)


def play(theatre: Theatre, seed: int | str, number: int, script: Script) -> Stage:
    """Plays an episode with this script; the stage has the counts and the differences."""
    stage = Stage(theatre, World(_chance(seed, number, "world"), f"{number:07}"))
    stage.is_alone = not any(step.is_beside for step in script)
    try:
        for steps in _together(script):
            _do(stage, steps)
            if stage.wrong:
                return stage
            if stage.is_alone:
                stage.wrong += _wrong_now(stage)
            if stage.wrong:
                return stage
        come_to_rest(stage)
    finally:
        stage.rules.unlock()
        theatre.api.faults.clear()
    return stage


def _chance(seed: int | str, number: int, what: str) -> Random:
    return Random(f"{seed} {number} {what}")  # noqa: S311 - to be repeated, not to be secret


def _together(script: Script) -> Iterator[list[Step]]:
    """Groups of steps to happen at the same time."""
    together: list[Step] = []
    for step in script:
        if not step.is_beside or len(together) == _MOST_BESIDE:
            if together:
                yield together
            together = []
        together.append(step)
    if together:
        yield together


def _do(stage: Stage, steps: Sequence[Step]) -> None:
    for step in steps:
        stage.counts[step.what] += 1
    if len(steps) == 1:
        KINDS[steps[0].what].act(stage, Random(steps[0].seed))  # noqa: S311 - as above
        return
    stage.counts["steps side by side"] += len(steps)
    with ThreadPoolExecutor(len(steps)) as threads:
        tasks = [threads.submit(KINDS[step.what].act, stage, Random(step.seed)) for step in steps]  # noqa: S311 - as above
    for task in tasks:
        task.result()


def _wrong_now(stage: Stage) -> Iterator[str]:
    """Violations of the conditions for any moment."""
    if not stage.are_profiles_edited:
        yield from oracle.profiles_wrong(stage.admin)
    yield from oracle.deletes_lifted(stage.admin)
    yield from oracle.undone_deletes(stage.admin, stage.undone)
    yield from _audit_wrong(stage, stage.snapshot())
    yield from oracle.remembered(stage.admin)
    yield from _parked_for_nothing(stage)
    yield from stage.theatre.fed.wrong_now()


def _audit_wrong(stage: Stage, snapshot: Snapshot) -> Iterator[str]:
    return oracle.audit_wrong(stage.admin, snapshot.rows, truncated=stage.truncated, rekeyed=stage.rekeyed)


def _parked_for_nothing(stage: Stage) -> Iterator[str]:
    if not stage.rules.has_ever_refused:
        for svix_id, reason in stage.admin.execute("select svix_id, reason from clerk_sync.parked_events"):
            yield f"{svix_id}: parked: {reason}"


# To rest


def come_to_rest(stage: Stage) -> None:
    """Lifts all obstacles, delivers all waiting events, and compares a healthy API with the tables."""
    stage.rules.lift(stage.admin)
    stage.let_a_week_pass()
    stage.theatre.fed.lift()
    stage.history.hidden.clear()
    stage.send([*stage.untold(), *stage.late, *stage.delayed])
    _empty_queues(stage)
    _replay_parked(stage)
    report = _last_runs(stage)
    if report is None:
        return
    # A row removed by hand may be restored now, and with it the target of foreign keys.
    _replay_parked(stage)
    if stage.is_alone:
        stage.wrong += _wrong_at_rest_of_queues(stage)
    stage.wrong += _wrong_at_rest(stage, report)


def _replay_parked(stage: Stage) -> None:
    parked.replay(stage.admin, stage.sync_queue, parked.Selection(states=("parked",)))
    _empty_queues(stage)


def _empty_queues(stage: Stage) -> None:
    for _ in range(_MOST_ROUNDS_OF_QUEUES):
        stage.work_off()
        if not stage.waiting:
            return
        stage.pass_time(900)
    stage.wrong.append(f"{stage.waiting} messages are neither applied nor parked")


def _wrong_at_rest_of_queues(stage: Stage) -> Iterator[str]:
    for svix_id, reason in stage.admin.execute(
        "select svix_id, reason from clerk_sync.parked_events as p where body is not null and discarded_at is null "
        "and not exists (select from clerk_sync.deliveries as d where d.svix_id = p.svix_id)"
        "and p.svix_id not like 'reconcile-%'"
    ):
        yield f"{svix_id}: parked, though nothing stands in its way: {reason}"


def _last_runs(stage: Stage) -> Report | None:
    """Does full runs until a run is complete after every delete had two proofs; None without such a run.

    A continued run, which began long ago, proves no delete of a younger object.
    """
    begun = 0
    seconds = MARGIN_MS / 1000 + 60
    for _ in range(_MOST_RUNS_TO_REST):
        stage.pass_time(seconds)
        stage.age_rows(seconds)
        stage.undone.clear()
        with stage.theatre.store() as store:
            try:
                report = stage.reconcile(store, is_direct=True).run(
                    Request("full", allow_deletes=1_000), stage.deadline()
                )
            except ClerkSupabaseError as error:
                stage.wrong.append(f"the last run failed: {error}")
                return None
        _empty_queues(stage)
        begun += not report.is_resumed
        if begun > 1 and report.state == "complete" and not report.is_resumed:
            return report
    stage.wrong.append(f"the last run is {report.state}: {report.reason}")
    return None


def _wrong_at_rest(stage: Stage, report: Report) -> Iterator[str]:
    with stage.theatre.store(is_owner=True) as store:
        details = Runs(store).show(report.run_id or 0)
    named = {(each.kind, each.entity_id) for each in details.findings} if details else set()
    snapshot, world = stage.snapshot(), stage.history.now()
    misled = stage.misled_with_children() if report.reason else set()
    for place, why in not_as_clerk(snapshot, world):
        if place[1] not in misled and not (place[1] in stage.setbacks and place in named and report.reason):
            yield f"at rest, {why}"
    yield from (f"at rest, {why}" for why in oracle.tombstones_wrong(snapshot, world, stage.misled))
    yield from (f"at rest, {why}" for why in oracle.profiles_wrong(stage.admin))
    yield from (f"at rest, {why}" for why in oracle.deletes_lifted(stage.admin))
    yield from (f"at rest, {why}" for why in _audit_wrong(stage, snapshot))
    yield from stage.theatre.fed.wrong_at_rest()
    if not stage.setbacks and not stage.misled:
        # A caller without a row is let in, unless a delete is known: the owner may have removed the row.
        known = {
            place[1]
            for place, entity in snapshot.entities.items()
            if place[0] == "user" and (place in snapshot.rows or entity.deleted_at is not None)
        }
        yield from oracle.seen_wrong(stage.admin, world, sorted({*world.users, *known}))


# Small


def _smallest(theatre: Theatre, seed: int | str, number: int, script: Script, sought: str) -> Script:
    """The fewest steps with a difference; one at a time, if the difference remains."""
    tries = 0

    def still_wrong(steps: Script) -> bool:
        nonlocal tries
        tries += 1
        return tries <= _MOST_SHRUNK_TRIES and any(sought in each for each in play(theatre, seed, number, steps).wrong)

    alone = [replace(step, is_beside=False) for step in script]
    smallest = alone if still_wrong(alone) else list(script)
    size = max(1, len(smallest) // 2)
    while size:
        for start in range(0, len(smallest), size):
            fewer = smallest[:start] + smallest[start + size :]
            if fewer and still_wrong(fewer):
                smallest = fewer
                break
        else:
            size //= 2
    return tuple(smallest)


def describe_script(script: Script) -> Iterator[str]:
    """A line for each step."""
    for number, step in enumerate(script, 1):
        yield f"{number}. {'at the same time: ' if step.is_beside else ''}{step.what}"
