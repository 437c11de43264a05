"""Everything that can happen in an episode, by name: in Clerk, on the way, to the tables, by operator and app."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from clerk_supabase import kinds as model
from clerk_supabase.envelope import ParkedEvent
from clerk_supabase.errors import ClerkSupabaseError, GoneFromClerk
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.queue import Queue
from clerk_supabase.reconcile import Request
from clerk_supabase.run_report import Report
from clerk_supabase.runs import Runs
from clerk_supabase.settings import Keep
from clerk_supabase_cli import parked, samples
from clerk_supabase_cli.simulator import said
from clerk_supabase_cli.simulator.app_rules import OBSTACLES, REFUSALS, TABLES
from clerk_supabase_cli.simulator.clerk_views import REFUSALS as REFUSED_ANSWERS
from clerk_supabase_cli.simulator.clerk_views import REFUSED_PATHS, lagging, short_lists
from clerk_supabase_cli.simulator.snapshots import Place, Snapshot
from clerk_supabase_cli.simulator.stage import MARGIN_MS, Stage

Act = Callable[[Stage, Random], object]

_LISTED: Final = ("user", "organization", "membership")
# What was asked for by name happens so much more often.
_WANTED: Final = 5
_MOST_REQUESTS: Final = 100
"""More than any run needs to compare so few objects."""
_FIRST_ROWS: Final = """
select distinct on (kind, entity_id) kind, entity_id, new_values from clerk_sync.audit_log
where operation = 'insert' and new_values is not null order by kind, entity_id, audit_id
"""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens. What it draws depends on its seed and on how things are then."""

    what: str
    seed: int
    is_beside: bool = False
    """The step happens at the same time as the one before."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step."""

    act: Act
    weight: int
    group: str
    """Name under which steps are switched on or off together."""
    may_be_beside: bool = False


def random_script(chance: Random, only: Collection[str] = ()) -> tuple[Step, ...]:
    """Steps drawn at random, of some groups if any are named; what Clerk and its webhooks do is always among them."""
    kinds = {name: kind for name, kind in KINDS.items() if not only or kind.group in {*only, "life"}}
    weights = [kind.weight * (_WANTED if kind.group in only else 1) for kind in kinds.values()]
    names = chance.choices(list(kinds), weights, k=chance.choice((6, 10, 16)))
    are_beside = "beside" in only or (not only and chance.random() < 0.4)
    script = [Step("Clerk lives", chance.getrandbits(32)), Step("webhooks", chance.getrandbits(32))]
    for name in names:
        is_beside = are_beside and chance.random() < 0.5 and kinds[name].may_be_beside
        is_beside = is_beside and KINDS[script[-1].what].may_be_beside
        script.append(Step(name, chance.getrandbits(32), is_beside))
    return tuple(script)


# Clerk, and what it sends


def _live(stage: Stage, chance: Random) -> None:
    def happen() -> None:
        world = stage.world
        world.live(chance.choice((1, 3, 6)))
        # What a world of users seldom does.
        for seldom in (world.invite, world.add_domain, world.remove_domain, world.leave, world.delete_user):
            if chance.random() < 0.25:
                seldom()

    stage.lets(happen)


def _crowd(stage: Stage, _: Random) -> None:
    """An organization that so many users join that nobody would hide them all at once."""

    def happen() -> None:
        world = stage.world
        org_id = world.create_organization({})["id"]
        for _ in range(12):
            world.sign_up()
            world.add_membership(org_id, list(world.users)[-1], role="org:member")

    stage.lets(happen)
    stage.send(stage.untold())
    stage.work_off()
    stage.pass_time(2 * MARGIN_MS / 1000)


def _set_back(stage: Stage, chance: Random) -> None:
    """Another server of Clerk's, whose clock is some milliseconds behind, writes the next change."""
    kinds: tuple[model.Kind, ...] = ("user", "organization", "membership", "domain")
    kind = chance.choice(kinds)
    objects: Any = stage.world.objects()[kind]
    if not objects:
        return
    object_id = chance.choice(list(objects))
    before = objects[object_id]["updated_at"]
    column = TABLES[kind][2]

    def happen() -> None:
        stage.world.update(kind, object_id, {column: f"Set back {chance.random()}"})
        objects[object_id] = objects[object_id] | {"updated_at": max(objects[object_id]["created_at"], before - 10)}
        stage.world.events[-1]["data"] = objects[object_id]

    stage.lets(happen)
    stage.setbacks.add(object_id)


def _run_out(stage: Stage, chance: Random) -> None:
    """Somebody is invited for a short while. Of the end of that Clerk sends no event, and its API may not tell it."""

    def happen() -> None:
        world = stage.world
        if not world.organizations:
            world.create_organization({})
        world.invite()
        invitation_id = list(world.invitations)[-1]
        # Runs know Clerk's moment to the second.
        until = (world.now // 1_000 + chance.choice((1, 60))) * 1_000
        world.invitations[invitation_id] = world.invitations[invitation_id] | {"expires_at": until}
        world.events[-1]["data"] = world.invitations[invitation_id]

    stage.lets(happen)
    stage.theatre.views.tells_expiry = chance.random() < 0.5


def _mislead(stage: Stage, chance: Random) -> None:
    """A webhook tells the delete of an object that Clerk goes on to have."""
    world = stage.world
    kind: Literal["user", "organization"] = chance.choice(("user", "organization"))
    objects = world.objects()[kind]
    if not objects:
        return
    object_id = chance.choice(list(objects))
    world.now += 7
    world.events.append(samples.event(f"{kind}.deleted", samples.deleted(kind, object_id), timestamp=world.now))
    stage.misled.add(object_id)


def _webhooks(stage: Stage, chance: Random, *, lost: float = 0.0) -> None:
    """Webhooks that were not sent yet arrive in any order, some twice, some late, and so many never."""
    late = chance.choice((0.0, 0.0, 0.5))
    due, stage.late = [*stage.untold(), *stage.late], []
    if stage.delayed and chance.random() < 0.4:
        due, stage.delayed = [*due, *stage.delayed], []
    envelopes = [each for each in due for _ in range(chance.choice((1, 1, 2))) if chance.random() >= lost]
    if chance.random() < 0.5:
        chance.shuffle(envelopes)
    stage.late = [each for each in envelopes if chance.random() < late]
    stage.send(each for each in envelopes if each not in stage.late)
    _drain(stage, chance.random() < 0.15)


def _redeliveries(stage: Stage, chance: Random) -> None:
    """Time passes, and whatever is in the queues comes again."""
    stage.pass_time(chance.choice((180, 180, 900)))
    _drain(stage, chance.random() < 0.15)


def _drain(stage: Stage, forgets: bool) -> None:
    staying = stage.work_off(forgets=forgets)
    if not stage.is_alone:
        return
    related = _related(stage)
    for envelope, why in staying:
        if not any(each.encode() in envelope.body for each in related):
            stage.wrong.append(f"{envelope.svix_id} is held up by another: {why}")


def _related(stage: Stage) -> set[str]:
    """The rows in trouble, and those that a change of theirs touches, too."""
    troubled = stage.rules.ids()
    found = set(troubled)
    for place, row in stage.snapshot().rows.items():
        if place[1] in troubled:
            found |= {row[key] for key in ("clerk_org_id", "clerk_user_id") if key in row}
        elif troubled & {row.get("clerk_org_id"), row.get("clerk_user_id")}:
            found.add(place[1])
    return found


def _moved_by_hand(stage: Stage, chance: Random) -> None:
    """An operator moves a message into the queue of parked ones, and types its attributes."""
    due, stage.late = [*stage.untold(), *stage.late], []
    if due:
        moved = due.pop(chance.randrange(len(due)))
        envelope = replace(moved, attempts=chance.choice((3, 10**8, 2**31, 10**14)))
        Queue(stage.sqs.client, "parked").park(ParkedEvent(envelope, "exhausted", "moved by hand"))
        stage.rules.has_ever_refused = True
    stage.send(due)
    _drain(stage, forgets=False)


def _delete_told_late(stage: Stage, chance: Random) -> None:
    """Clerk deletes something, of which a run hears before any webhook does."""
    world = stage.world
    delete = chance.choice((world.delete_user, world.delete_user, world.leave, world.delete_organization))
    world.now += 7
    stage.lets(delete)
    stage.delayed += stage.untold()
    stage.pass_time(2 * MARGIN_MS / 1000)
    _run(stage, chance)


def _no_webhooks(stage: Stage, _: Random) -> None:
    """The endpoint is switched off: what happened is never told."""
    stage.untold()
    stage.late = []


# Reconcile


def _run(
    stage: Stage,
    chance: Random,
    *,
    refused: str = "",
    may_be_complete: bool = False,
    left_out: Collection[str] = (),
    is_fresh: bool = True,
) -> None:
    """A comparison with Clerk.

    `refused`: what Clerk answers instead, with which no run is complete unless it `may_be_complete`; `left_out`: rows
    that no list names.
    """
    is_direct = chance.random() < 0.5
    request = Request(
        chance.choice(("full", "full", "quick")),
        dry_run=chance.random() < 0.1,
        allow_deletes=chance.choice((None, None, 1_000)),
    )
    seconds = chance.choice((float("inf"), float("inf"), 0.02)) if not stage.is_alone else float("inf")
    if stage.is_alone:
        # What an earlier run missed may be old enough by now to be deleted.
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
    if refused and not may_be_complete and (report.state, report.reason) == ("complete", None):
        stage.wrong.append(f"run {report.run_id} ({report.mode}) is complete, although Clerk answered with {refused}")
    if left_out and (report.mode, report.state, report.reason) == ("full", "complete", None):
        stage.wrong.append(f"run {report.run_id} is complete, although the lists lack {sorted(left_out)}")
    if before is not None and report.run_id is not None:
        if request.dry_run:
            stage.wrong += said.look_untrue(stage, before, report)
            return
        stage.wrong += said.run_untrue(stage, before, _details(stage, report), report, is_direct=is_direct)
        if is_fresh and is_direct and not refused:
            details = _details(stage, report)
            stage.wrong += said.complete_untrue(stage, details, report, world)


def _details(stage: Stage, report: Report) -> Any:
    assert report.run_id is not None  # noqa: S101 - a resync has none
    with stage.theatre.store(is_owner=True) as store:
        return Runs(store).show(report.run_id)


def _lagging_run(stage: Stage, chance: Random) -> None:
    """Clerk's servers lag behind the webhooks."""
    view = lagging(stage.history, lambda: stage.world.now, MARGIN_MS - 1_000, chance)
    _seeing(stage, lambda: _run(stage, chance, is_fresh=False), view)


def _short_run(stage: Stage, chance: Random) -> None:
    """Clerk's lists leave objects out."""
    view, ids = short_lists(stage.history, chance, is_counted=chance.random() < 0.5)
    stage.next_second()
    snapshot = stage.snapshot()
    # Of an object that has no row, nobody can know that it is left out; nor of one that is younger than the run.
    shown = {
        place[1]
        for place in snapshot.rows
        if place[0] in _LISTED and snapshot.shows(place) and not _is_younger(stage, snapshot, place)
    }
    _seeing(stage, lambda: _run(stage, chance, left_out=ids & shown, is_fresh=False), view)


def _is_younger(stage: Stage, snapshot: Snapshot, place: Place) -> bool:
    entity = snapshot.entities.get(place)
    return entity is not None and entity.newest >= stage.world.now // 1_000 * 1_000


def _emptying_run(stage: Stage, chance: Random) -> None:
    """Clerk says of every user that there is no e-mail address."""
    world = stage.history.now()
    for user_id in list(world.users):
        world.users[user_id] = world.users[user_id] | {"email_addresses": [], "primary_email_address_id": None}
    _seeing(stage, lambda: _run(stage, chance, is_fresh=False), lambda _: world)


def _refused_run(stage: Stage, chance: Random) -> None:
    """Clerk answers one kind of request with something that says nothing."""
    name = chance.choice(list(REFUSED_ANSWERS))
    path = chance.choice(REFUSED_PATHS)
    faults = stage.theatre.api.faults
    # A walk that never ends would not let the search go on.
    faults.add(REFUSED_ANSWERS[name](), path=path, times=2 * _MOST_REQUESTS)
    if name == "no Date":
        faults.add(REFUSED_ANSWERS[name](), path="/instance", times=2 * _MOST_REQUESTS)
    # A quick run need not walk to the end of every list.
    may_be_complete = name == "the same page"
    refused = f"{name} at {path}" if may_be_complete or _matters(stage, name, path) else ""
    try:
        _run(stage, chance, is_fresh=False, refused=refused, may_be_complete=may_be_complete)
    finally:
        faults.clear()


def _matters(stage: Stage, name: str, path: str) -> bool:
    """Tell whether a run that meets the answer misses something. Of an empty list nothing can be left out."""
    kinds: dict[str, model.Kind] = {
        "/users": "user",
        "/organizations": "organization",
        "/organization_memberships": "membership",
    }
    kind = kinds.get(path)
    if kind is None:
        return False
    has_any = bool(stage.world.objects()[kind])
    if name in {"no e-mail addresses", "no required fields", "no Date"}:
        # Single objects that nobody can read are named in the reason, and not every kind has such fields.
        return has_any and kind == "user"
    return has_any or name in {"402", "403", "404", "HTML"}


def _seeing(stage: Stage, act: Callable[[], object], view: Any) -> None:
    views = stage.theatre.views
    before, views.view_for = views.view_for, view
    try:
        act()
    finally:
        views.view_for = before


def _lie(stage: Stage, chance: Random) -> None:
    """From now on no answer mentions some objects that Clerk has, nor what belongs to them."""
    everything = sorted(key for objects in stage.world.objects().values() for key in objects)
    if stage.world.organizations and chance.random() < 0.5:
        everything = sorted(stage.world.organizations)
    chosen = set(chance.sample(everything, min(len(everything), chance.choice((1, 1, 3)))))
    world = stage.world
    for key, each in world.memberships.items():
        if chosen & {each["organization"]["id"], each["public_user_data"]["user_id"]}:
            chosen.add(key)
    for objects in (world.invitations, world.domains):
        chosen |= {key for key, each in objects.items() if each["organization_id"] in chosen}
    stage.history.hidden |= chosen
    stage.has_lied = True


def _end_of_lie(stage: Stage, _: Random) -> None:
    stage.history.hidden.clear()


def _undo(stage: Stage, chance: Random) -> None:
    """The operator takes back what one of the last runs deleted."""
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


def _resync(stage: Stage, chance: Random) -> None:
    """The operator asks for one user or organization anew."""
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


# Housekeeping and parked events


def _housekeeping(stage: Stage, chance: Random) -> None:
    """Housekeeping purges every deleted row at once, unless that would lose what another fault has hidden."""
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
        related = _related(stage)
        for place, row in after.rows.items():
            entity = after.entities.get(place)
            is_purged = entity is not None and entity.is_purged
            if row["deleted_at"] is not None and not is_purged and place[1] not in related:
                stage.wrong.append(f"{' '.join(place)} was to be purged, and was not")


def _replay(stage: Stage, _: Random) -> None:
    """The operator sends parked events again."""
    parked.replay(stage.admin, stage.sync_queue, parked.Selection(states=("parked",)))
    stage.work_off()


# By hand. What the app refuses does not happen.


def _row(stage: Stage, chance: Random, *, is_hidden: bool | None = None) -> tuple[Place, Mapping[str, Any]] | None:
    snapshot = stage.snapshot()
    rows = [
        (place, row)
        for place, row in sorted(snapshot.rows.items())
        if (is_hidden is None or (row["deleted_at"] is not None) == is_hidden)
        and not (place in snapshot.entities and snapshot.entities[place].is_purged)
    ]
    return chance.choice(rows) if rows else None


def _by_hand(stage: Stage, place: Place, statement: LiteralString, *parameters: object) -> None:
    """Runs a statement about a row, in which {table}, {key} and {text} are the names of its table."""
    names = dict(zip(("table", "key", "text"), map(sql.Identifier, TABLES[place[0]]), strict=True))
    with suppress(psycopg.Error):
        stage.admin.execute(sql.SQL(statement).format(**names), [*parameters, place[1]])


def _edit(stage: Stage, chance: Random) -> None:
    """Somebody writes into a mirrored column."""
    if found := _row(stage, chance, is_hidden=False):
        _by_hand(stage, found[0], "update public.{table} set {text} = 'by hand' where {key} = %s")


def _hide(stage: Stage, chance: Random) -> None:
    """Somebody hides a row."""
    if found := _row(stage, chance, is_hidden=False):
        _by_hand(stage, found[0], "update public.{table} set deleted_at = now() where {key} = %s")


def _show(stage: Stage, chance: Random) -> None:
    """Somebody shows a row that was hidden."""
    if found := _row(stage, chance, is_hidden=True):
        _by_hand(stage, found[0], "update public.{table} set deleted_at = null where {key} = %s")


def _remove(stage: Stage, chance: Random) -> None:
    """Somebody deletes a row."""
    if found := _row(stage, chance):
        _by_hand(stage, found[0], "delete from public.{table} where {key} = %s")


def _restore(stage: Stage, chance: Random) -> None:
    """Somebody puts a row back as it was first, out of a backup."""
    inserts = stage.admin.execute(_FIRST_ROWS).fetchall()
    if inserts:
        kind, object_id, row = chance.choice(inserts)
        _by_hand(stage, (kind, object_id), "delete from public.{table} where {key} = %s")
        restore = "insert into public.{table} select (jsonb_populate_record(null::public.{table}, %s)).* where %s <> ''"
        _by_hand(stage, (kind, object_id), restore, Jsonb(row | {"deleted_at": None}))


def _edit_profile(stage: Stage, chance: Random) -> None:
    """The owner of the database writes into the public profiles."""
    user_ids = sorted(stage.snapshot().profiles)
    if user_ids:
        update = "update public.users_public set username = 'by hand' where clerk_id = %s"
        stage.admin.execute(update, [chance.choice(user_ids)])
        stage.are_profiles_edited = True


# The app


def _app_refuses(stage: Stage, chance: Random) -> None:
    """The app refuses whatever is written to a row, or its delete."""
    rule = chance.choice((*REFUSALS, *(f"delete {code}" for code in REFUSALS)))
    _rule(stage, chance, rule)


def _app_keeps(stage: Stage, chance: Random) -> None:
    """The app refuses whatever housekeeping does to one of the rows that were just deleted."""

    def happen() -> None:
        for _ in range(3):
            stage.world.sign_up()
        for delete in (stage.world.delete_user, stage.world.delete_user, stage.world.leave, stage.world.remove_domain):
            delete()

    stage.lets(happen)
    stage.send(stage.untold())
    stage.work_off()
    if found := _row(stage, chance, is_hidden=True):
        for rule in (chance.choice(REFUSALS), f"delete {chance.choice(REFUSALS)}"):
            stage.rules.begin(stage.admin, found[0][1], rule)


def _app_is_in_the_way(stage: Stage, chance: Random) -> None:
    """A trigger of the app fails for a row as if the database were unavailable."""
    _rule(stage, chance, chance.choice(OBSTACLES))


def _app_rewrites(stage: Stage, chance: Random) -> None:
    """A trigger of the app writes something else into a mirrored column."""
    _rule(stage, chance, "rewrite")


def _app_is_slow(stage: Stage, chance: Random) -> None:
    """A trigger of the app takes its time."""
    for _ in range(3):
        _rule(stage, chance, "slow")


def _rule(stage: Stage, chance: Random, rule: str) -> None:
    if found := _row(stage, chance):
        stage.rules.begin(stage.admin, found[0][1], rule)


def _app_locks(stage: Stage, chance: Random) -> None:
    """A transaction of the app locks a row, until it relents."""
    if found := _row(stage, chance):
        stage.rules.lock(*found[0])


def _app_relents(stage: Stage, _: Random) -> None:
    """The app has neither rules nor locks any more."""
    stage.rules.lift(stage.admin)


# Failover


def _replicate(stage: Stage, _: Random) -> None:
    """The replica has every commit until now."""
    stage.replica.save()


def _fail_over(stage: Stage, _: Random) -> None:
    """The database fails, and the replica takes its place."""
    if stage.replica.has_rows:
        stage.rules.unlock()
        stage.replica.take_over()
        stage.undone.clear()
        stage.counts["failover that lost commits"] += 1


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "Clerk lives": Kind(_live, 8, "life"),
        "a crowd joins": Kind(_crowd, 1, "crowd"),
        "updated_at goes backwards": Kind(_set_back, 2, "clock"),
        "an invitation is to run out": Kind(_run_out, 1, "expiry"),
        "delete told by mistake": Kind(_mislead, 1, "mislead"),
        "webhooks": Kind(_webhooks, 8, "life", may_be_beside=True),
        "redeliveries": Kind(_redeliveries, 2, "life", may_be_beside=True),
        "webhooks, some lost": Kind(partial(_webhooks, lost=0.3), 3, "lost", may_be_beside=True),
        "message moved by hand": Kind(_moved_by_hand, 1, "moved"),
        "webhooks lost": Kind(_no_webhooks, 1, "lost"),
        "run": Kind(_run, 4, "run", may_be_beside=True),
        "run, API lags": Kind(_lagging_run, 3, "lag"),
        "run, lists leave out": Kind(_short_run, 2, "short"),
        "run, API empties a field": Kind(_emptying_run, 1, "emptied"),
        "run, API refuses": Kind(_refused_run, 2, "refused"),
        "API loses objects": Kind(_lie, 2, "lie"),
        "API finds them": Kind(_end_of_lie, 1, "lie"),
        "delete told late": Kind(_delete_told_late, 2, "undo"),
        "undo": Kind(_undo, 3, "undo", may_be_beside=True),
        "resync": Kind(_resync, 2, "resync", may_be_beside=True),
        "housekeeping": Kind(_housekeeping, 2, "housekeeping", may_be_beside=True),
        "replay": Kind(_replay, 1, "replay"),
        "row edited": Kind(_edit, 1, "edit"),
        "row hidden": Kind(_hide, 1, "hide"),
        "row shown": Kind(_show, 2, "show"),
        "row removed": Kind(_remove, 1, "remove"),
        "row restored": Kind(_restore, 1, "restore"),
        "profile edited": Kind(_edit_profile, 1, "profile"),
        "app refuses": Kind(_app_refuses, 2, "refuse"),
        "app keeps deleted rows": Kind(_app_keeps, 1, "keep"),
        "app is in the way": Kind(_app_is_in_the_way, 2, "obstacle"),
        "app rewrites": Kind(_app_rewrites, 1, "rewrite"),
        "app is slow": Kind(_app_is_slow, 1, "slow"),
        "app locks a row": Kind(_app_locks, 2, "lock"),
        "app relents": Kind(_app_relents, 1, "relents"),
        "replica is saved": Kind(_replicate, 1, "failover"),
        "failover": Kind(_fail_over, 1, "failover"),
    }
)
GROUPS: Final = frozenset({kind.group for kind in KINDS.values()} | {"beside"})
"""What a search can be restricted to. `beside`: steps may happen side by side."""
