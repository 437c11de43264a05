"""The part of the crowd that compares, restores and repairs: runs, undo, resync, edits by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg

from clerk_supabase.clerk.walk import Window
from clerk_supabase.errors import RunTakenOver
from clerk_supabase.model.changes import Changes, Delete, Reconciled
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import KINDS, READ_KINDS
from clerk_supabase.postgres.batch import as_json, element_of
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from tests.kit.histories import CREATED_AT
from tests.kit.webhooks import membership, organization, user

if TYPE_CHECKING:
    from tests.bench.crowd import Crowd

_Act = Callable[[Random], object]

_HIDDEN: Final[tuple[LiteralString, ...]] = (
    "update clerk.users set deleted_at = null, first_name = 'Eve' where clerk_id = %s",
    "update clerk.organizations set deleted_at = null where clerk_org_id = %s",
    "update clerk.users_public set username = 'eve' where clerk_id = %s",
    """
    update clerk.organization_invitations set status = 'pending', expires_at = 'epoch' where clerk_invitation_id =
    (select min(i.clerk_invitation_id) from clerk.organization_invitations as i where i.clerk_org_id = %s)
    """,
)


def compare(crowd: Crowd, store: Store) -> _Act:
    """Run after run, each of them with deletes."""

    def act(chance: Random) -> None:
        runs = Runs(store)
        as_of = CREATED_AT + crowd.at
        begun = runs.begin(Request("full"), "ins_crowd", as_of, 60, 0)
        if begun.is_busy:
            return
        run_id, lease = begun.run.run_id, begun.lease
        # It may be undone at any moment, and then knows that it is over.
        with suppress(RunTakenOver):
            try:
                _compare_once(crowd, _Run(store, run_id, lease, as_of), chance)
            except RunTakenOver:
                runs.end(run_id, lease, "running", None, calls=1)

    return act


@dataclass(frozen=True, slots=True)
class _Run:
    store: Store
    run_id: int
    lease: str
    as_of: int


def _compare_once(crowd: Crowd, run: _Run, chance: Random) -> None:
    runs, run_id, lease = Runs(run.store), run.run_id, run.lease
    runs.plan(run_id, lease, [(1, "user", 0, None), (2, "organization", 0, None), (3, "membership", 0, None)], {})
    shown = [user(each, at=crowd.at) for each in {crowd.name(chance, "user") for _ in range(3)}]
    page = [as_json(element_of(changes.main)) for changes, _ in shown]
    runs.fill(run_id, page)
    runs.compare(_request(run_id, lease, 1, "user", since=0), page)
    org_id = crowd.name(chance, "org")
    others = [organization(org_id, at=crowd.at), membership(f"orgmem_{org_id}", at=crowd.at, org_id=org_id)]
    for number, (changes, _) in enumerate(others, 2):
        runs.compare(_request(run_id, lease, number, changes.main.kind), [as_json(element_of(changes.main))])
        runs.find_unseen(run_id, changes.main.kind)
    runs.prepare_deletes(run_id, READ_KINDS)
    for kind in READ_KINDS:
        _delete(run, kind, chance)
    for kind in KINDS:
        while not runs.check_rows(run_id, lease, kind, 100)[0]:
            pass
    for kind in READ_KINDS:
        runs.visit_slice(run_id, lease, kind, Window(), is_whole=True)
    runs.expire_invitations(run_id, lease)
    runs.settle_sweeps(run_id, lease)
    runs.end(run_id, lease, "complete", None, calls=1)


def _request(run_id: int, lease: str, number: int, kind: str, since: int | None = None) -> dict[str, object]:
    asked = {"run": run_id, "lease": lease, "number": number, "kind": kind, "tally": {}}
    return asked if since is None else asked | {"since": since}


def _delete(run: _Run, kind: ReadKind, chance: Random) -> None:
    runs, run_id, as_of = Runs(run.store), run.run_id, run.as_of
    ids = [each[0] for each in runs.candidates(run_id, kind, "", 100)]
    chance.shuffle(ids)
    gone, present, rest = ids[:4], ids[4:8], ids[8:]
    runs.settle(run_id, kind, present=present, gone=dict.fromkeys(gone + rest, as_of))
    deletes = [(Changes(Delete(kind, each, as_of)), Reconciled(f"reconcile-{run_id}-{each}")) for each in gone]
    for answer in run.store.apply(deletes):
        if isinstance(answer, Exception):
            raise answer
    runs.settle(run_id, kind, sent=gone)


def undo(owner: psycopg.Connection) -> _Act:
    """Undoes the run at work, or one of the last."""

    def act(chance: Random) -> None:
        # Not the runs of Crowd.undo(), which alone sets the objects deleted by them.
        query = "select run_id from clerk_sync.reconcile_runs where as_of > 1 order by run_id desc limit 1 offset %s"
        for (run_id,) in owner.execute(query, [chance.randrange(3)]).fetchall():
            owner.execute("select clerk_sync.undo_run(%s::jsonb)", [json.dumps({"run": run_id})])

    return act


def resync(crowd: Crowd, owner: psycopg.Connection) -> _Act:
    """Sets rows of several kinds right, as an operator does."""

    def act(chance: Random) -> None:
        user_id, org_id = crowd.name(chance, "user"), crowd.name(chance, "org")
        objects = {"user": [user_id], "organization": [org_id], "membership": [f"orgmem_{user_id}{org_id}"]}
        owner.execute("select clerk_sync.check_objects(%s::jsonb)", [json.dumps({"objects": objects})])

    return act


def edit(crowd: Crowd, owner: psycopg.Connection) -> _Act:
    """Shows deleted rows by hand, and changes profiles."""

    def act(chance: Random) -> None:
        for number, statement in enumerate(_HIDDEN):
            owner.execute(statement, [crowd.name(chance, "org" if number % 2 else "user")])

    return act


def secure(owner: psycopg.Connection) -> _Act:
    """Protects a table of the app whose rows go with users."""
    owner.execute(
        "create table if not exists public.tasks "
        "(id bigint generated always as identity, user_id text references clerk.users on delete cascade)"
    )

    def act(chance: Random) -> None:
        owner.execute(
            "insert into public.tasks (user_id) "
            "select clerk_id from clerk.users order by random() limit 2 for key share skip locked"
        )
        if chance.random() < 0.2:
            owner.execute("select clerk_sync.secure('public.tasks', 'user')")

    return act
