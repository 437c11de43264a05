"""A row for which a trigger of the app takes all the time keeps neither a run from its end nor other rows back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import LiteralString

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import CREATED_AT
from tests.kit.webhooks import deleted, invitation, organization, user


@pytest.fixture
def hasty(database: Database) -> Iterator[Store]:
    """A worker whose statements may take no longer than the tests do."""
    with closing(Store(Fixed(database.worker_url_with(statement_timeout="2s")))) as store:
        yield store


def never_end(admin: Connection, table: LiteralString, condition: LiteralString) -> None:
    """A trigger of the app never ends for one row."""
    admin.execute(
        "create function public.never_end() returns trigger language plpgsql as "
        "$$ begin if " + condition + " then perform pg_sleep(60); end if; return new; end $$"
    )
    admin.execute("create trigger a before update on " + table + " for each row execute function public.never_end()")


def begin(store: Store) -> tuple[Runs, int, str]:
    runs = Runs(store)
    begun = runs.begin(Request("full"), "ins_1", CREATED_AT + 100, 60, 0)
    return runs, begun.run.run_id, begun.lease


def test_all_other_rows_are_repaired_and_the_slow_row_is_named(hasty: Store, admin: Connection) -> None:
    numbers = range(1, 6)
    hasty.apply([user(f"user_{number}", at=1) for number in numbers])
    hasty.apply([deleted("user", f"user_{number}", at=2) for number in numbers])
    admin.execute("update clerk.users set deleted_at = null")
    never_end(admin, "clerk.users", "new.clerk_id = 'user_3'")
    runs, run_id, lease = begin(hasty)
    for _ in range(10):
        is_done, left = runs.check_rows(run_id, lease, "user", 100)
        if is_done:
            break
    assert (is_done, left) == (True, 1)
    assert rows(admin, "select clerk_id from clerk.users where deleted_at is null") == [("user_3",)]
    query: LiteralString = (
        "select entity_id, sent_at is not null, is_refused from clerk_sync.reconcile_findings order by 1"
    )
    assert rows(admin, query) == [(f"user_{number}", number != 3, number == 3) for number in numbers]


def test_all_other_invitations_expire(hasty: Store, admin: Connection) -> None:
    numbers = range(1, 6)
    hasty.apply([organization("org_1", at=1)])
    hasty.apply([invitation(f"orginv_{number}", at=1) for number in numbers])
    admin.execute("update clerk.organization_invitations set expires_at = to_timestamp(%s / 1000.0)", [CREATED_AT])
    never_end(admin, "clerk.organization_invitations", "new.clerk_invitation_id = 'orginv_3'")
    runs, run_id, lease = begin(hasty)
    expired: LiteralString = "select count(*) from clerk.organization_invitations where status = 'expired'"
    for _ in range(30):
        assert runs.expire_invitations(run_id, lease) == 1
        if value(admin, expired) == 4:
            break
    assert value(admin, expired) == 4
