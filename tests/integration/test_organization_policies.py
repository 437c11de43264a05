"""Visible rows of an organization, tried as each role that Supabase's API can take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, LiteralString

import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, user

ORGANIZATIONS: LiteralString = "select clerk_org_id from clerk.organizations order by 1"
MEMBERSHIPS: LiteralString = "select clerk_membership_id from clerk.organization_memberships order by 1"
INVITATIONS: LiteralString = "select clerk_invitation_id from clerk.organization_invitations order by 1"
DOMAINS: LiteralString = "select clerk_domain_id from clerk.organization_domains order by 1"
EVERYTHING = [ORGANIZATIONS, MEMBERSHIPS, INVITATIONS, DOMAINS]
TABLES = ["organizations", "organization_memberships", "organization_invitations", "organization_domains"]


@pytest.fixture(scope="module")
def people(shared_database: Database) -> Iterator[Connection]:
    """Labs: Ada is its admin, Bob and Eve are members, Carl left, Dora was deleted. Eve's own: Eve is its admin.

    Closed was deleted, with Ada as its admin.
    """
    with closing(Store(Fixed(shared_database.worker_url))) as store:
        store.apply([organization(each, at=1) for each in ("org_labs", "org_eves", "org_closed")])
        store.apply([user(f"user_{name}", at=1) for name in ("ada", "bob", "eve", "carl", "dora", "frank")])
        store.apply(
            [
                membership("mem_ada", org_id="org_labs", user_id="user_ada", role="org:admin", at=1),
                membership("mem_bob", org_id="org_labs", user_id="user_bob", at=1),
                membership("mem_carl", org_id="org_labs", user_id="user_carl", role="org:admin", at=1),
                membership("mem_dora", org_id="org_labs", user_id="user_dora", role="org:admin", at=1),
                membership("mem_eve", org_id="org_labs", user_id="user_eve", at=1),
                membership("mem_eves", org_id="org_eves", user_id="user_eve", role="org:admin", at=1),
                membership("mem_closed", org_id="org_closed", user_id="user_ada", role="org:admin", at=1),
            ]
        )
        for org_id in ("labs", "eves", "closed"):
            store.apply([invitation(f"inv_{org_id}", org_id=f"org_{org_id}", at=1)])
            store.apply([domain(f"dmn_{org_id}", org_id=f"org_{org_id}", at=1)])
        store.apply(
            [
                deleted("organizationMembership", "mem_carl", at=2),
                deleted("user", "user_dora", at=2),
                deleted("organization", "org_closed", at=2),
            ]
        )
    with shared_database.connect() as connection:
        yield connection


def seen(people: Connection, query: LiteralString, name: str, **claims: Any) -> list[str]:
    """The ids that a user sees."""
    with acting_as(people, "authenticated", {"sub": f"user_{name}", "role": "authenticated"} | claims):
        return [key for (key,) in rows(people, query)]


LABS = ["mem_ada", "mem_bob", "mem_eve"]


@pytest.mark.parametrize(
    ("name", "organizations", "memberships"),
    [
        ("ada", ["org_labs"], LABS),
        ("bob", ["org_labs"], LABS),
        ("eve", ["org_eves", "org_labs"], [*LABS, "mem_eves"]),
        ("carl", [], []),
        ("dora", [], []),
        ("frank", [], []),
        ("nobody", [], []),
    ],
)
def test_a_member_reads_their_organizations_and_who_is_in_them(
    name: str, organizations: list[str], memberships: list[str], people: Connection
) -> None:
    assert seen(people, ORGANIZATIONS, name) == organizations
    assert seen(people, MEMBERSHIPS, name) == memberships


@pytest.mark.parametrize(
    ("name", "organizations"),
    [("ada", ["labs"]), ("bob", []), ("eve", ["eves"]), ("carl", []), ("dora", []), ("frank", [])],
)
def test_an_admin_reads_invitations_and_domains_of_their_own_organization_only(
    name: str, organizations: list[str], people: Connection
) -> None:
    assert seen(people, INVITATIONS, name) == [f"inv_{each}" for each in organizations]
    assert seen(people, DOMAINS, name) == [f"dmn_{each}" for each in organizations]


@pytest.mark.parametrize(
    "claims",
    [
        {"org_id": "org_labs", "org_role": "org:admin"},
        {"o": {"id": "org_labs", "rol": "admin", "slg": "labs"}, "v": 2},
        {"org_permissions": ["org:sys_domains:manage"], "org_id": "org_labs", "org_role": "org:admin"},
    ],
)
def test_a_token_that_says_admin_opens_nothing_that_the_tables_do_not(claims: Any, people: Connection) -> None:
    # A token lives on for a minute after its bearer was removed or demoted.
    assert seen(people, INVITATIONS, "bob", **claims) == []
    for query in EVERYTHING:
        assert seen(people, query, "frank", **claims) == []
        assert seen(people, query, "carl", **claims) == []


@pytest.mark.parametrize("role", ["org:Admin", "org:administrator", "org:admin ", "org:org:admin", "org:%"])
def test_no_other_spelling_of_a_role_makes_an_admin(role: str, people: Connection) -> None:
    with people.transaction(force_rollback=True):
        statement = "update clerk.organization_memberships set role = %s where clerk_membership_id = 'mem_bob'"
        people.execute(statement, [role])
        assert seen(people, INVITATIONS, "bob") == []
        assert seen(people, DOMAINS, "bob") == []


@pytest.mark.parametrize(
    ("role", "permissions", "reads"),
    [
        ("org:owner", ["org:sys_memberships:manage"], "invitations"),
        ("org:owner", ["org:sys_memberships:read"], ""),
        ("org:owner", ["org:sys_domains:read"], "domains"),
        ("org:owner", ["org:sys_domains:manage"], "domains"),
        ("org:owner", ["org:docs:edit", "org:sys_domains:manage", "org:sys_memberships:manage"], "invitations domains"),
        ("org:owner", ["org:sys_profile:manage", "org:sys_profile:delete", "org:sys_billing:manage"], ""),
        ("org:owner", ["org:memberships:manage", "org:domains:manage", "sys_domains:manage"], ""),
        ("org:owner", ["org:sys_memberships:manage ", "ORG:SYS_DOMAINS:MANAGE", "org:sys_%"], ""),
        ("org:owner", [], ""),
        ("org:member", ["org:sys_memberships:manage"], "invitations"),
        ("org:admin", ["org:sys_memberships:read"], ""),
        ("org:admin", ["org:sys_domains:read"], "domains"),
        # Clerk, or a row from before permissions were mirrored, says nothing of what Clerk's own permissions are.
        ("org:admin", [], "invitations domains"),
        ("org:admin", ["org:reports:read"], "invitations domains"),
    ],
)
def test_permissions_decide_who_reads_invitations_and_domains_not_the_name_of_a_role(
    role: str, permissions: list[str], reads: str, people: Connection
) -> None:
    with people.transaction(force_rollback=True):
        people.execute(
            "update clerk.organization_memberships set role = %s, permissions = %s"
            " where clerk_membership_id = 'mem_bob'",
            [role, permissions],
        )
        assert seen(people, INVITATIONS, "bob") == (["inv_labs"] if "invitations" in reads else [])
        assert seen(people, DOMAINS, "bob") == (["dmn_labs"] if "domains" in reads else [])


@pytest.mark.parametrize("query", EVERYTHING)
@pytest.mark.parametrize("claims", [None, {"sub": "user_ada"}, {"role": "anon"}])
def test_without_signing_in_nothing_can_be_read(query: LiteralString, claims: Any, people: Connection) -> None:
    with pytest.raises(InsufficientPrivilege), acting_as(people, "anon", claims):
        people.execute(query)


@pytest.mark.parametrize("query", EVERYTHING)
@pytest.mark.parametrize("claims", [None, {}, {"sub": None}, {"sub": ""}, {"sub": ["user_ada"]}, {"sub": "USER_ADA"}])
def test_claims_that_name_nobody_show_nothing(query: LiteralString, claims: Any, people: Connection) -> None:
    with acting_as(people, "authenticated", claims):
        assert rows(people, query) == []


@pytest.mark.parametrize(
    "statement",
    [
        "insert into {} default values",
        "update {} set deleted_at = now()",
        "delete from {}",
        "truncate {} cascade",
        "select 1 from {} for update",
    ],
)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_nobody_writes_through_the_api(role: str, table: str, statement: LiteralString, people: Connection) -> None:
    with pytest.raises(InsufficientPrivilege), acting_as(people, role, {"sub": "user_ada"}):
        people.execute(sql.SQL(statement).format(sql.Identifier("clerk", table)))


def test_tables_granted_to_everybody_later_stay_closed(people: Connection) -> None:
    # Supabase's own default privileges, or a careless grant: the policies still hold.
    with people.transaction(force_rollback=True):
        people.execute("grant all on all tables in schema clerk to anon, authenticated")
        for query in EVERYTHING:
            with acting_as(people, "anon", {"sub": "user_ada"}):
                assert rows(people, query) == []
        for table in TABLES:
            name = sql.Identifier("clerk", table)
            with acting_as(people, "authenticated", {"sub": "user_ada"}):
                assert people.execute(sql.SQL("update {} set deleted_at = null").format(name)).rowcount == 0
                assert people.execute(sql.SQL("delete from {}").format(name)).rowcount == 0


def test_a_policy_does_not_ask_itself(people: Connection) -> None:
    # A policy on memberships that reads memberships under its own rule never ends.
    query: LiteralString = """
        select count(*) from clerk.organizations inner join clerk.organization_memberships using (clerk_org_id)
        left join clerk.organization_invitations using (clerk_org_id)
        left join clerk.organization_domains using (clerk_org_id)
    """
    with acting_as(people, "authenticated", {"sub": "user_ada"}):
        assert value(people, query) == len(LABS)


@pytest.mark.parametrize("query", EVERYTHING)
def test_the_caller_is_looked_up_once_per_statement_not_per_row(query: LiteralString, people: Connection) -> None:
    calls: LiteralString = """
        select coalesce(sum(calls), 0) from pg_stat_xact_user_functions where funcname = 'requesting_user_id'
    """
    with people.transaction(force_rollback=True):
        people.execute("set local track_functions = 'all'")
        people.execute(
            """
            insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
            select 'mem_' || n, 'org_labs', 'user_ada', 'org:member' from generate_series(1, 200) as n
            """
        )
        before = value(people, calls)
        assert seen(people, query, "ada")
        assert value(people, calls) == before + 1


def test_a_member_who_leaves_sees_nothing_from_then_on(database: Database, store: Store, admin: Connection) -> None:
    store.apply([membership(at=1, role="org:admin"), invitation(at=1)])
    assert [len(seen(admin, query, "1")) for query in (ORGANIZATIONS, MEMBERSHIPS, INVITATIONS)] == [1, 1, 1]
    store.apply([membership(at=2, role="org:member")])
    assert [len(seen(admin, query, "1")) for query in (ORGANIZATIONS, MEMBERSHIPS, INVITATIONS)] == [1, 1, 0]
    store.apply([deleted("organizationMembership", "orgmem_1", at=3)])
    assert [len(seen(admin, query, "1")) for query in (ORGANIZATIONS, MEMBERSHIPS, INVITATIONS)] == [0, 0, 0]


def test_the_service_role_sees_everything(people: Connection) -> None:
    with acting_as(people, "service_role", None):
        assert value(people, "select count(*) from clerk.organization_memberships") == 7
        assert value(people, "select count(*) from clerk.organization_invitations") == 3
