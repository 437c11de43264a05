"""The delete of an organization with very many rows."""

from __future__ import annotations

import json

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, value
from tests.kit.webhooks import organization

# The items of a payer: rows with an entity each, as after their events, and without the time of these.
_ITEMS = """
    with made as (
        insert into clerk.subscription_items (clerk_subscription_item_id, clerk_org_id, status, created_at)
        select %(org)s || '_' || n, %(org)s, 'ended', now() from generate_series(1, %(number)s) as n
        returning clerk_subscription_item_id as id
    )
    insert into clerk_sync.entities (kind, id, version)
    select 'subscription_item', m.id, row(1, 1, 1)::clerk_sync.version from made as m
"""
_DELETE = """
    explain (analyze, buffers, format json) select clerk_sync.apply(%s::jsonb)
"""


def blocks_visited(admin: Connection, org_id: str, number: int) -> int:
    """The blocks that Postgres visits for the delete of an organization with so many items."""
    admin.execute(_ITEMS, {"org": org_id, "number": number})
    change = {"kind": "organization", "id": org_id, "deleted_at": 1_700_000_000_000, "cause": "delivery"}
    [[[plan]]] = admin.execute(_DELETE, [json.dumps([change])]).fetchall()
    hidden = value(
        admin,
        "select count(*) from clerk.subscription_items where clerk_org_id = %s and deleted_at is not null",
        org_id,
    )
    assert hidden == number
    return int(plan["Plan"]["Shared Hit Blocks"]) + int(plan["Plan"]["Shared Read Blocks"])


def test_the_work_of_a_delete_grows_with_the_rows_and_not_with_their_square(store: Store, admin: Connection) -> None:
    store.apply([organization("org_few", at=1), organization("org_many", at=1)])
    few = blocks_visited(admin, "org_few", 240)
    # 4 times as much, with room for another plan; 16 times would be the square.
    assert blocks_visited(admin, "org_many", 960) < 8 * few
