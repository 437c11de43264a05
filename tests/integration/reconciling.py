"""A stand-in for Clerk, a database, and runs that compare them: over real HTTP, with a real Postgres."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clerk_supabase.parking import Parking
from clerk_supabase.queue import Queue, messages_of
from clerk_supabase.reconcile import Reconcile, Report, Request
from clerk_supabase.reconcile_pages import Progress, ReconcileSettings
from clerk_supabase.repairs import DirectRepairs, QueueRepairs, Repairs
from clerk_supabase.runs import Finding, Runs
from clerk_supabase.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase_cli.clerk_api.answers import Answers
from clerk_supabase_cli.clerk_api.population import BEGINNING, Population
from clerk_supabase_cli.clerk_api.server import ClerkApi
from clerk_supabase_cli.simulator.worlds import World
from tests.aws import Account
from tests.integration.clerk import Reader, reader
from tests.integration.databases import Connection, Database, Url, rows, value

MINUTE = 60_000


@dataclass
class Rig:
    """An instance of Clerk and its mirror. Clerk's clock is the world's, and moves only when a test says so."""

    api: ClerkApi
    database: Database
    admin: Connection
    store: Store
    ours: Reader
    settings: ReconcileSettings = field(default_factory=lambda: ReconcileSettings(threads=3))
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
        """What a run found, by id."""
        assert report.run_id is not None
        with closing(Store(Url(f"{self.database.url}?sslmode=disable"))) as operator:
            details = Runs(operator).show(report.run_id)
        assert details is not None
        return {each.entity_id: each for each in details.findings}

    def undo(self, report: Report) -> Sequence[tuple[str, str]]:
        assert report.run_id is not None
        with closing(Store(Url(f"{self.database.url}?sslmode=disable"))) as operator:
            return Runs(operator).undo(report.run_id)

    def shown(self, table: str = "users", key: str = "clerk_id") -> set[str]:
        """The ids that everybody may see."""
        query: Any = f"select {key} from public.{table} where deleted_at is null"
        return {each for (each,) in rows(self.admin, query)}

    def column(self, user_id: str, name: str) -> Any:
        query: Any = f"select {name} from public.users where clerk_id = %s"
        return value(self.admin, query, user_id)

    def forget(self, *user_ids: str) -> None:
        """As if no event about these had ever arrived."""
        self.admin.execute("delete from public.users where clerk_id = any(%s)", [list(user_ids)])
        self.admin.execute("delete from clerk_sync.entities where id = any(%s)", [list(user_ids)])
        self.admin.execute("delete from clerk_sync.audit_log where entity_id = any(%s)", [list(user_ids)])

    def agrees(self) -> bool:
        """Whether the tables show who is in Clerk, and nobody else."""
        return (
            self.shown() == set(self.world.users)
            and self.shown("organizations", "clerk_org_id") == set(self.world.organizations)
            and self.shown("organization_memberships", "clerk_membership_id") == set(self.world.memberships)
        )


@contextmanager
def rig_with(database: Database, users: int = 0, *, same_moment: int = 1, **settings: Any) -> Iterator[Rig]:
    """An instance with that many users who signed up a second apart, and an empty database."""
    world = World(Random(1), "a", users=Population(users, same_moment=same_moment))
    world.now = BEGINNING + users * 1_000 + 60 * MINUTE
    store = Store(Url(database.worker_url))
    with (
        ClerkApi(Answers(world), clock=lambda: world.now) as api,
        database.connect() as admin,
        closing(store),
    ):
        ours = reader(api.url)
        yield Rig(api, database, admin, store, ours, ReconcileSettings(**{"threads": 3} | settings))
        ours.http.close()


@dataclass
class Queued:
    """Repairs that wait in SQS, and the sync function that applies them when a test says so."""

    account: Account
    store: Store

    @property
    def repairs(self) -> Repairs:
        return QueueRepairs(Queue(self.account.sqs, self.account.sync_queue_url))

    def drain(self) -> int:
        """Hands all that waits to sync; returns how many messages that were."""
        messages = messages_of(self.account.lambda_event(self.account.sync_queue_url))
        parking = Parking(self.store, Queue(self.account.sqs, self.account.parked_queue_url))
        assert Sync(self.store, parking).process(messages) == []
        return len(messages)
