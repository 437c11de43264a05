"""A stand-in for Clerk, a database, and runs that compare them: over real HTTP, with a real Postgres."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any

import pytest
from psycopg import sql

from clerk_supabase.aws.queue import Queue, messages_of
from clerk_supabase.credentials import Credential, Fixed
from clerk_supabase.model.facts import Kind
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Function, Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs, QueueRepairs, Repairs
from clerk_supabase.reconcile.pages import Progress, ReconcileSettings
from clerk_supabase.reconcile.records import Finding
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.sync import Sync
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.population import BEGINNING, Population
from clerk_supabase_cli.standin.worlds import World
from tests.kit.aws import Account
from tests.kit.clerk import Reader, reader
from tests.kit.databases import Connection, Database, Databases

MINUTE = 60_000


def user(number: int) -> str:
    """The id of a user of a `Population`, by the number of the user."""
    return f"user_{number:026}"


@dataclass
class Rig:
    """An instance of Clerk and its mirror. Clerk's clock is the world's, and moves only when a test says so."""

    api: ClerkApi
    database: Database
    admin: Connection
    store: Store
    ours: Reader
    settings: ReconcileSettings = field(default_factory=lambda: ReconcileSettings(threads=3, delete_margin_ms=0))
    told: list[Progress] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.api.world

    @property
    def runs(self) -> Runs:
        """With the rights of the worker."""
        return Runs(self.store)

    def reconcile(self, repairs: Repairs | None = None) -> Reconcile:
        direct = DirectRepairs(keep_private_metadata=self.settings.keep_private_metadata)
        return Reconcile(self.ours.http, self.runs, repairs or direct, self.settings, monotonic=self.ours.clock)

    def run(
        self, mode: Any = "full", *, repairs: Repairs | None = None, seconds: float = math.inf, **request: Any
    ) -> Report:
        """A minute later."""
        self.world.now += MINUTE
        deadline = self.ours.clock.now + seconds
        return self.reconcile(repairs).run(Request(mode, **request), deadline, self.told.append)

    def findings(self, report: Report) -> dict[str, Finding]:
        """The findings of a run, by id."""
        assert report.run_id is not None
        with closing(Store(Fixed(f"{self.database.url}?sslmode=disable"))) as operator:
            details = Runs(operator).show(report.run_id)
        assert details is not None
        return {each.entity_id: each for each in details.findings}

    def undo(self, report: Report) -> Sequence[tuple[str, str]]:
        assert report.run_id is not None
        with closing(Store(Fixed(f"{self.database.url}?sslmode=disable"))) as operator:
            return Runs(operator).undo(report.run_id).restored

    def shown(self, table: str = "users", key: str = "clerk_id") -> set[str]:
        """The ids that everybody may see."""
        query = sql.SQL("select {} from clerk.{} where deleted_at is null")
        return {each for (each,) in self.admin.execute(query.format(sql.Identifier(key), sql.Identifier(table)))}

    def column(self, user_id: str, name: str) -> Any:
        query = sql.SQL("select {} from clerk.users where clerk_id = %s").format(sql.Identifier(name))
        [(only,)] = self.admin.execute(query, [user_id])
        return only

    def forget(self, *user_ids: str) -> None:
        """As if no event about these had ever arrived."""
        self.admin.execute("delete from clerk.users where clerk_id = any(%s)", [list(user_ids)])
        self.admin.execute("delete from clerk_sync.entities where id = any(%s)", [list(user_ids)])
        self.admin.execute("delete from clerk_sync.audit_log where entity_id = any(%s)", [list(user_ids)])

    def die_at(self, function: str, *, skip: int = 0, mode: Any = "full") -> None:
        """Runs until its process is killed at a call of a function of the database; afterwards, the lease is over."""
        mortal = _MortalStore(Fixed(self.database.worker_url), function, skip)
        direct = DirectRepairs(keep_private_metadata=self.settings.keep_private_metadata)
        self.world.now += MINUTE
        with closing(mortal), pytest.raises(Killed):
            Reconcile(self.ours.http, Runs(mortal), direct, self.settings, monotonic=self.ours.clock).run(
                Request(mode), math.inf
            )
        self.lose_lease()

    def lose_lease(self) -> None:
        """Lets the lease of a run end, as if its process had stopped."""
        self.admin.execute("update clerk_sync.reconcile_runs set lease_until = now() where state = 'running'")

    def agrees(self) -> bool:
        """Tells whether the tables show exactly the users of Clerk."""
        return (
            self.shown() == set(self.world.users)
            and self.shown("organizations", "clerk_org_id") == set(self.world.organizations)
            and self.shown("organization_memberships", "clerk_membership_id") == set(self.world.memberships)
        )


@contextmanager
def rig_with(database: Database, users: int = 0, *, same_moment: int = 1, **settings: Any) -> Iterator[Rig]:
    """An instance with a number of users who signed up a second apart, and an empty database."""
    world = World(Random(1), "a", users=Population(users, same_moment=same_moment))
    world.now = BEGINNING + users * 1_000 + 60 * MINUTE
    store = Store(Fixed(database.worker_url))
    with (
        ClerkApi(Answers(world), clock=lambda: world.now) as api,
        database.connect() as admin,
        closing(store),
    ):
        ours = reader(api.url)
        yield Rig(
            api, database, admin, store, ours, ReconcileSettings(**{"threads": 3, "delete_margin_ms": 0} | settings)
        )
        ours.http.close()


RigMaker = Callable[[], AbstractContextManager[Rig]]


@contextmanager
def mirror(
    databases: Databases, users: int, populate: Callable[[World], object] = lambda _: None, **settings: Any
) -> Iterator[RigMaker]:
    """Makes rigs in the state after a first run, which is made once and copied. `populate`: more objects for Clerk."""
    original = databases.take()
    with rig_with(original, users, **settings) as first:
        populate(first.world)
        assert first.run().state == "complete"
        assert first.agrees()
        ended = first.world.now

    @contextmanager
    def mirrored() -> Iterator[Rig]:
        database = databases.copy(original)
        with rig_with(database, users, **settings) as rig:
            populate(rig.world)
            rig.world.now = ended
            yield rig
        databases.drop(database.name)

    yield mirrored
    databases.give_back(original)


class Killed(BaseException):
    """The process is no more."""


class _MortalStore(Store):
    def __init__(self, url: Credential, function: str, skip: int) -> None:
        super().__init__(url)
        self._url = url
        self._function = function
        self._left = [skip]

    def twin(self) -> Store:
        twin = _MortalStore(self._url, self._function, 0)
        twin._left = self._left
        return twin

    def call(
        self,
        function: Function,
        argument: Mapping[str, object],
        page: Sequence[str] = (),
        arrays: Mapping[Kind, Sequence[str]] = MappingProxyType({}),
    ) -> Any:
        if function == self._function or self._left[0] < 0:
            self._left[0] -= 1
            if self._left[0] < 0:
                raise Killed
        return super().call(function, argument, page, arrays)


@dataclass
class Queued:
    """Repairs that wait in SQS, and the sync function, which applies them on demand."""

    account: Account
    store: Store

    @property
    def repairs(self) -> Repairs:
        return QueueRepairs(Queue(self.account.sqs, self.account.sync_queue_url))

    def drain(self) -> int:
        """Gives all waiting messages to sync; returns their number."""
        messages = messages_of(self.account.lambda_event(self.account.sync_queue_url))
        parking = Parking(self.store, Queue(self.account.sqs, self.account.parked_queue_url))
        assert Sync(self.store, parking).process(messages) == []
        return len(messages)


def happening_after(get: Callable[..., Any], path: str, happening: Callable[[], object]) -> Callable[..., Any]:
    """Clerk's answers to this path reach us after something has happened, once."""
    waiting = [happening]

    def get_late(asked: str, *arguments: Any, **options: Any) -> Any:
        answer = get(asked, *arguments, **options)
        if asked == path and waiting:
            waiting.pop()()
        return answer

    return get_late
