"""The cost of row-level security on tables of a million rows, measured in Postgres and at the client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

from psycopg import sql

from tests.bench.databases import databases
from tests.bench.results import Result
from tests.bench.turns import Turns, cost, gain, in_turns
from tests.kit.databases import Connection, Database, value

_TURNS: Final = 200
# The other way takes a tenth of a second and more.
_SLOW_TURNS: Final = 5
_CLAIMS: Final = {"sub": "user_7", "role": "authenticated", "org_id": "org_7", "org_role": "org:admin"}


@dataclass(frozen=True)
class _Policy:
    """A query, and the condition to which its policy comes for user 7, an admin of organization 7."""

    name: str
    query: LiteralString
    literal: LiteralString


_MEMBERS: Final = _Policy(
    "members of one's organizations",
    "select * from clerk.organization_memberships",
    "clerk_org_id = 'org_7' and deleted_at is null",
)
_POLICIES: Final = (
    _Policy("one's own row", "select * from clerk.users", "clerk_id = 'user_7' and deleted_at is null"),
    _Policy("one's own tasks", "select * from public.tasks", "user_id = 'user_7'"),
    _Policy("documents of the organization", "select * from public.documents", "organization_id = 'org_7'"),
    _Policy(
        "one's organizations",
        "select * from clerk.organizations",
        "clerk_org_id = 'org_7' and deleted_at is null",
    ),
    _MEMBERS,
    _Policy(
        "invitations as an admin",
        "select * from clerk.organization_invitations",
        "clerk_org_id = 'org_7' and deleted_at is null",
    ),
    _Policy(
        "domains as an admin",
        "select * from clerk.organization_domains",
        "clerk_org_id = 'org_7' and deleted_at is null",
    ),
    _Policy("a page of profiles", "select * from (select * from clerk.users_public limit 100) as page", "true"),
)


def measure(root: Path, *, rows: int, organizations: int) -> Iterator[Result]:
    """Compares each policy with its condition without row-level security; and membership, with the usual form."""
    with databases(root) as made:
        database = made.take()
        with database.connect() as owner:
            for example in ("tasks", "documents"):
                owner.execute((root / "sql" / "examples" / f"{example}.sql").read_bytes())
            _fill(owner, rows, organizations)
            with _caller(database) as caller:
                for policy in _POLICIES:
                    yield _beside_a_literal(owner, caller, policy)
                yield _beside_in_select(owner, caller)


@contextmanager
def _caller(database: Database) -> Iterator[Connection]:
    """A session with the role and the claims of a request."""
    with database.connect() as connection:
        connection.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(_CLAIMS)])
        connection.execute("set role authenticated")
        yield connection


def _beside_a_literal(owner: Connection, caller: Connection, policy: _Policy) -> Result:
    literal = policy.query + " where " + policy.literal
    seen = len(caller.execute(policy.query).fetchall())
    assert seen == len(owner.execute(literal).fetchall()) > 0
    take = in_turns(
        lambda _: owner.execute(literal).fetchall(), lambda _: caller.execute(policy.query).fetchall(), range(_TURNS)
    )
    return cost(f"{policy.name}: {seen:,} rows", "a literal, no RLS", take, at_most=2)


def _beside_in_select(owner: Connection, caller: Connection) -> Result:
    count: LiteralString = "select count(*) from clerk.organization_memberships"
    seen = value(caller, count)
    alter: LiteralString = (
        "alter policy organization_memberships_read_as_member on clerk.organization_memberships using "
    )
    [(as_it_is,)] = owner.execute(
        "select qual from pg_policies where policyname = 'organization_memberships_read_as_member'"
    ).fetchall()
    usual = (
        "(deleted_at is null and clerk_org_id in (select m.clerk_org_id from clerk_sync.memberships_of_caller as m))"
    )

    def count_with(condition: str) -> float:
        owner.execute(sql.SQL("{}({})").format(sql.SQL(alter), sql.SQL(condition)))
        caller.execute(count).fetchall()
        began = time.perf_counter()
        assert value(caller, count) == seen
        return time.perf_counter() - began

    def take(turns: Turns) -> None:
        for _ in range(_SLOW_TURNS):
            turns.add(count_with(usual), min(count_with(as_it_is) for _ in range(_TURNS // _SLOW_TURNS)))

    return gain(f"{_MEMBERS.name}, counted", "in (select ...)", take, at_least=100)


def _fill(owner: Connection, rows: int, organizations: int) -> None:
    # Triggers and foreign keys would take most of the time.
    owner.execute("set session_replication_role = replica")
    statements: tuple[LiteralString, ...] = (
        "insert into clerk.users (clerk_id, email) select 'user_' || n, n || '@example.com' from series",
        "insert into clerk.users_public (clerk_id, username) select 'user_' || n, 'name ' || n from series",
        "insert into clerk_sync.entities (kind, id, version) select 'user', 'user_' || n, stub from series",
        "insert into clerk.organizations (clerk_org_id, name) select 'org_' || n, 'name' from series where n <= parts",
        """
        insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
        select 'orgmem_' || n, 'org_' || 1 + (n - 1) % parts, 'user_' || n, 'org:admin' from series
        """,
        """
        insert into clerk.organization_invitations (clerk_invitation_id, clerk_org_id, email_address, role)
        select 'orginv_' || n, 'org_' || 1 + (n - 1) % parts, 'zoe@example.com', 'org:member' from series
        """,
        """
        insert into clerk.organization_domains (clerk_domain_id, clerk_org_id, name)
        select 'orgdmn_' || n, 'org_' || 1 + (n - 1) % parts, 'example.com' from series
        """,
        "insert into public.tasks (name, user_id) select 'task', 'user_' || 1 + (n - 1) % (rows / 100) from series",
        """
        insert into public.documents (title, organization_id)
        select 'document', 'org_' || 1 + (n - 1) % parts from series
        """,
    )
    owner.execute(
        sql.SQL(
            "create temporary view series as "
            "select n, row(0, 0, 0)::clerk_sync.version as stub, {rows} as rows, {parts} as parts "
            "from generate_series(1, {rows}) as n"
        ).format(rows=rows, parts=organizations)
    )
    for statement in statements:
        owner.execute(statement)
    owner.execute("reset session_replication_role")
    owner.execute("vacuum analyze")
