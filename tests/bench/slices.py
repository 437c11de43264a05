"""Quick runs with a million users and a million memberships: their requests, and the time to find a lost demotion."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.clerk.walk import PAGE_SIZE
from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.simulator.silence import silent_telemetry
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.members import Members
from clerk_supabase_cli.standin.population import BEGINNING, Population
from clerk_supabase_cli.standin.worlds import World
from tests.bench.databases import databases
from tests.bench.results import Result, Target, duration
from tests.kit.databases import Connection, Database

_KEY: Final = "sk_live_standin"
_STEP: Final = 1_000
_ORGANIZATIONS: Final = 1_000
_EVERY_MINUTES: Final = 15
_MINUTE: Final = 60_000


@dataclass
class _Mirror:
    """An instance of Clerk whose clock is the world's, and its mirror."""

    api: ClerkApi
    reconcile: Reconcile

    @property
    def world(self) -> World:
        return self.api.world

    def quick(self) -> Report:
        """Does a quick run, a quarter of an hour after the step before."""
        self.world.now += _EVERY_MINUTES * _MINUTE
        report = self.reconcile.run(Request("quick"), math.inf)
        if report.state != "complete":
            raise RuntimeError(f"the run is {report.state}: {report.reason}")
        return report


def measure(root: Path, size: int) -> Iterator[Result]:
    """`size`: how many users, and how many memberships, there are. A demotion is looked for among a tenth of them."""
    with databases(root) as made, silent_telemetry():
        database = made.take()
        with _mirror(database, size) as mirror:
            yield _requests(mirror, size)
        made.drop(database.name)
        smaller = made.take()
        with _mirror(smaller, size // 10) as mirror, smaller.connect() as admin:
            mirror.quick()
            yield _found(mirror, admin, size // 10)


def _requests(mirror: _Mirror, size: int) -> Result:
    now = mirror.world.now
    for number in Random(1).sample(range(size), size // 100):
        # The world's clock moves with every change: with this number it would move by a day.
        mirror.world.now = now
        mirror.world.update("user", mirror.world.users.id(number), {"last_name": "Changed"})
    started = time.perf_counter()
    report = mirror.quick()
    seconds = time.perf_counter() - started
    full = 2 * math.ceil(size / PAGE_SIZE)
    return Result(
        f"requests of a quick run, 1 % of {size:,} users changed, {size:,} memberships",
        f"all pages of both: {full:,}",
        f"{report.calls:,}, in {duration(seconds)}",
        report.calls / full,
        "x",
        Target(0.15),
        details=("with the slice of memberships that is due each quarter of an hour",),
    )


def _found(mirror: _Mirror, admin: Connection, size: int) -> Result:
    """Finds the demotion that waits longest: of a membership that has just been compared."""
    bound = ReconcileSettings().sweep_minutes
    visited_at = "select min(ends_at) from clerk_sync.sweeps where kind = 'membership' and visited_at = %s"
    [(compared_before,)] = admin.execute(visited_at, [mirror.world.now // 1_000 * 1_000])
    number = (compared_before - BEGINNING) // _STEP - 2
    demoted = Members.id(number)
    mirror.world.update("membership", demoted, {"role": "org:demoted"})
    role = "select role from clerk.organization_memberships where clerk_membership_id = %s"
    minutes = calls = 0
    while admin.execute(role, [demoted]).fetchall() != [("org:demoted",)]:
        if minutes > 2 * bound:
            raise RuntimeError(f"the demotion was not found within {minutes} minutes")
        calls += mirror.quick().calls
        minutes += _EVERY_MINUTES
    return Result(
        f"a demotion without a webhook is found, one of {size:,} memberships",
        f"ReconcileSweepMinutes: {bound:g}",
        f"after {minutes} minutes of Clerk's clock, {calls:,} requests",
        minutes / bound,
        "x",
        Target(1),
        details=("of a membership that had just been compared when it happened",),
    )


@contextmanager
def _mirror(database: Database, size: int) -> Iterator[_Mirror]:
    world = World(Random(1), "b", users=Population(size, step=_STEP))
    members = Members(size, organizations=_ORGANIZATIONS, start=BEGINNING, step=_STEP)
    world.memberships = members
    world.now = BEGINNING
    for number in range(_ORGANIZATIONS):
        world.create_organization({"id": members.organization(number), "name": f"Organization {number}"})
    world.now = BEGINNING + size * _STEP + 60 * _MINUTE
    with database.connect() as admin:
        _fill(admin, size, world.now)
    with (
        ClerkApi(Answers(world, _KEY), clock=lambda: world.now) as api,
        closing(Store(Fixed(database.worker_url))) as store,
        closing(ClerkHttp(Fixed(_KEY), api.url, sleep=lambda _: None, clock=_hurried)) as http,
    ):
        yield _Mirror(api, Reconcile(http, Runs(store), DirectRepairs(), ReconcileSettings(), monotonic=_hurried))


def _fill(admin: Connection, size: int, now: int) -> None:
    """Fills the tables as a full run does, but for the names of organizations, which the first quick run repairs."""
    admin.execute("set session_replication_role = replica")
    values = {"size": size, "now": now, "start": BEGINNING, "step": _STEP, "organizations": _ORGANIZATIONS}
    admin.execute(
        """
        insert into clerk.users (clerk_id, created_at)
        select 'user_' || lpad(n::text, 26, '0'), to_timestamp((%(start)s + n * %(step)s) / 1000.0)
        from generate_series(0, %(size)s - 1) as n
        """,
        values,
    )
    admin.execute(
        """
        insert into clerk.organizations (clerk_org_id)
        select 'org_' || lpad(n::text, 26, '0') from generate_series(0, %(organizations)s - 1) as n
        """,
        values,
    )
    admin.execute(
        """
        insert into clerk.organization_memberships (
            clerk_membership_id, clerk_org_id, clerk_user_id, role, role_name, permissions, created_at
        )
        select
            'orgmem_' || lpad(n::text, 26, '0'), 'org_' || lpad((n %% %(organizations)s)::text, 26, '0'),
            'user_' || lpad(n::text, 26, '0'), 'org:member', 'Member', '{org:sys_memberships:read}',
            to_timestamp((%(start)s + n * %(step)s) / 1000.0)
        from generate_series(0, %(size)s - 1) as n
        """,
        values,
    )
    admin.execute(
        """
        insert into clerk_sync.entities (kind, id, version)
        select k.kind, k.prefix || lpad(n::text, 26, '0'),
            row(%(start)s + n * %(step)s + k.later, %(now)s - 1, 0)::clerk_sync.version
        from (values ('membership', 'orgmem_', 0), ('user', 'user_', 7)) as k (kind, prefix, later)
        cross join generate_series(0, %(size)s - 1) as n
        """,
        values,
    )
    # The first event may have recorded the instance.
    record = "insert into clerk_sync.instance (instance_id) values (%s) on conflict do nothing"
    admin.execute(record, [samples.INSTANCE_ID])
    admin.execute(
        """
        insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, state, as_of, finished_at)
        values ('full', false, false, 'complete', %(now)s, now())
        """,
        values,
    )
    admin.execute(
        """
        insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at)
        select k.kind, 253402300799999, %(now)s, %(now)s from clerk_sync.kinds as k where k.kind <> 'private_metadata'
        """,
        values,
    )
    admin.execute("reset session_replication_role")
    admin.execute("vacuum analyze")


def _hurried() -> float:
    """A clock by which the rate limit never makes anybody wait."""
    return time.monotonic() * 1e6
