"""No user sees a row whose deleted_at is set, whatever set the column, and whatever other rows are visible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import LiteralString

import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from tests.kit.billing import attempt, item, subscription
from tests.kit.databases import Connection, Database, acting_as
from tests.kit.webhooks import domain, invitation, membership

KEYS: dict[str, str] = {
    "users": "clerk_id",
    "users_public": "clerk_id",
    "organizations": "clerk_org_id",
    "organization_memberships": "clerk_membership_id",
    "organization_invitations": "clerk_invitation_id",
    "organization_domains": "clerk_domain_id",
    "subscriptions": "clerk_subscription_id",
    "subscription_items": "clerk_subscription_item_id",
    "payment_attempts": "clerk_payment_attempt_id",
}


@pytest.fixture(scope="module")
def labs(shared_database: Database) -> Iterator[Connection]:
    """An organization with an admin, an invitation and a domain."""
    with closing(Store(Fixed(shared_database.worker_url))) as store:
        of_org = [invitation(at=1), domain(at=1)]
        billed = [subscription(at=1, org_id="org_1"), item(at=1, org_id="org_1"), attempt(at=1, org_id="org_1")]
        store.apply([membership(user_id="user_ada", role="org:admin", at=1, permissions=[]), *of_org, *billed])
    with shared_database.connect() as connection:
        yield connection


def what_ada_sees(labs: Connection) -> dict[str, int]:
    """The number of rows of each table."""
    with acting_as(labs, "authenticated", {"sub": "user_ada", "role": "authenticated"}):
        return {
            table: len(labs.execute(sql.SQL("select from clerk.{}").format(sql.Identifier(table))).fetchall())
            for table in KEYS
        }


def test_an_admin_sees_one_row_of_each_table(labs: Connection) -> None:
    assert what_ada_sees(labs) == dict.fromkeys(KEYS, 1)


@pytest.mark.parametrize("table", [*KEYS])
def test_a_row_that_is_hidden_alone_is_seen_by_nobody(table: str, labs: Connection) -> None:
    with labs.transaction(force_rollback=True):
        labs.execute(sql.SQL("update clerk.{} set deleted_at = now()").format(sql.Identifier(table)))
        assert what_ada_sees(labs)[table] == 0


@pytest.mark.parametrize(
    "statement",
    [
        "update clerk.users set deleted_at = now()",
        "update clerk.users set banned = true",
        "update clerk.users set deprovisioned = true",
        "update clerk_sync.entities set deleted_at = 1 where kind = 'user'",
    ],
)
def test_a_hidden_banned_or_deprovisioned_user_sees_nothing_at_all(statement: LiteralString, labs: Connection) -> None:
    with labs.transaction(force_rollback=True):
        labs.execute(statement)
        seen = what_ada_sees(labs)
        # Their own row says that they are banned.
        del seen["users"]
        assert set(seen.values()) == {0}


def test_a_user_whose_membership_is_hidden_sees_only_their_own_rows(labs: Connection) -> None:
    with labs.transaction(force_rollback=True):
        labs.execute("update clerk.organization_memberships set deleted_at = now()")
        assert {table for table, count in what_ada_sees(labs).items() if count} == {"users", "users_public"}


def test_no_function_of_a_caller_looks_at_rows_before_a_view_has_chosen_them(labs: Connection) -> None:
    """A view that reads with the rights of its owner is a barrier: a condition of the caller's is checked last."""
    open_views = labs.execute("""
        select c.oid::regclass::text from pg_class as c
        where c.relkind = 'v' and c.relnamespace::regnamespace::text in ('clerk', 'clerk_sync')
        and has_any_column_privilege('authenticated', c.oid, 'select')
        and not coalesce(c.reloptions, '{}') && '{security_barrier=true,security_invoker=true,security_invoker=on}'
    """).fetchall()
    assert open_views == []
