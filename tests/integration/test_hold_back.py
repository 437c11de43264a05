"""The hold-back begins when a delete was recorded in this database; no writer of changes can date it back."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from tests.kit.databases import Connection, Database, Rows, acting_as, rows, value
from tests.kit.purging import let_time_pass, purge, undo
from tests.kit.webhooks import deleted, membership, organization, user

# In a time zone like this one, 30 days ago is 16 days of 24 hours ago.
LONG_DAYS = "AAA167BBB-167,J{first}/0,J{last}/0"

KEEP = asdict(Keep())


def due(database: Database, after_days: int, how: str = "scrub") -> Rows:
    """Kinds and outcomes of the rows that a purge takes, this number of days after every delete was recorded."""
    with database.connect() as admin:
        let_time_pass(admin, after_days)
    taken = sorted((kind, outcome) for kind, outcome, _, _ in purge(database, how))
    with database.connect() as admin:
        let_time_pass(admin, -after_days)
    return taken


@pytest.mark.parametrize("how", ["scrub", "delete"])
def test_a_delete_dated_years_ago_is_held_back_from_the_day_it_was_recorded(
    how: str, database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, first_name="Ada")])
    assert store.apply([deleted("user", "user_1", at=2)]) == ["deleted"]
    assert value(admin, "select deleted_at < now() - interval '5 years' from clerk.users")
    assert due(database, 29, how) == []
    assert value(admin, "select first_name from clerk.users") == "Ada"
    assert due(database, 31, how) == [("user", {"scrub": "scrubbed", "delete": "deleted"}[how])]


def test_a_second_older_delete_does_not_begin_the_hold_back_earlier(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1), deleted("user", "user_1", at=900)])
    recorded = value(admin, "select delete_recorded_at from clerk_sync.entities")
    store.apply([deleted("user", "user_1", at=2)])
    assert value(admin, "select delete_recorded_at from clerk_sync.entities") == recorded
    assert due(database, 29) == []


def test_a_delete_that_comes_again_does_not_restart_the_hold_back(database: Database, store: Store) -> None:
    store.apply([user(at=1), deleted("user", "user_1", at=2)])
    with database.connect() as admin:
        let_time_pass(admin, 31)
    store.apply([deleted("user", "user_1", at=2), deleted("user", "user_1", at=900), user(at=901)])
    assert due(database, 0) == [("user", "scrubbed")]


@pytest.mark.parametrize("parent", ["user", "organization"])
def test_a_membership_counts_from_the_record_of_the_delete_that_hid_it(
    parent: str, database: Database, store: Store
) -> None:
    store.apply([membership(at=1)])
    store.apply([deleted(parent, {"user": "user_1", "organization": "org_1"}[parent], at=2)])
    assert due(database, 29) == []
    assert ("membership", "deleted") in due(database, 31)


def test_a_membership_that_ended_before_its_user_counts_from_its_own_delete(database: Database, store: Store) -> None:
    store.apply([membership(at=1), deleted("organizationMembership", "orgmem_1", at=2)])
    with database.connect() as admin:
        let_time_pass(admin, 20)
    store.apply([deleted("user", "user_1", at=1)])
    assert due(database, 11) == [("membership", "deleted")]


def test_a_membership_does_not_move_to_an_organization_that_was_deleted_long_ago(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([membership(at=1), organization("org_bait", at=1), deleted("organization", "org_bait", at=2)])
    with database.connect() as owner:
        let_time_pass(owner, 31)
    store.apply([membership(at=9, org_id="org_bait")])
    purge(database)
    assert rows(admin, "select clerk_org_id, deleted_at from clerk.organization_memberships") == [("org_1", None)]


def test_a_transaction_that_was_left_open_does_not_begin_the_hold_back_earlier(
    database: Database, admin: Connection
) -> None:
    batch = json.dumps([{"kind": "user", "id": "user_1", "deleted_at": 1, "cause": "delivery"}])
    with psycopg.connect(database.worker_url) as worker:
        worker.execute("select pg_sleep(0.05)")
        opened = value(worker, "select now()")
        worker.execute("select * from clerk_sync.apply(%s::jsonb)", [batch])
    recorded = value(admin, "select delete_recorded_at from clerk_sync.entities")
    assert recorded - opened >= timedelta(milliseconds=50)


def test_a_time_zone_with_long_days_does_not_shorten_the_hold_back(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1), deleted("user", "user_1", at=2)])
    let_time_pass(admin, 29)
    today = value(admin, "select extract(doy from now())::int")
    zone = LONG_DAYS.format(first=max(1, today - 10), last=min(365, today + 10))
    with psycopg.connect(database.worker_url, autocommit=True) as worker:
        worker.execute("select set_config('TimeZone', %s, false)", [zone])
        answer = value(worker, "select clerk_sync.keep_house(%s::jsonb)", json.dumps(KEEP))
    assert answer["purged"] == []


def test_undo_forgets_when_the_delete_was_recorded(store: Store, admin: Connection, database: Database) -> None:
    store.apply([user(at=1), deleted("user", "user_1", at=2)])
    let_time_pass(admin)
    assert undo(admin) == [["user", "user_1"]]
    assert rows(admin, "select deleted_at, delete_recorded_at from clerk_sync.entities") == [(None, None)]
    store.apply([deleted("user", "user_1", at=2)])
    assert due(database, 29) == []


# Hidden by hand

HIDE: LiteralString = "update clerk.users set deleted_at = '2017-07-14' where clerk_id = 'user_1'"
SHOW: LiteralString = "update clerk.users set deleted_at = null where clerk_id = 'user_1'"


def seen_earlier(admin: Connection, days: int) -> None:
    """Moves the time at which housekeeping first saw the rows hidden by hand back by a number of days."""
    admin.execute("update clerk_sync.hidden_by_hand set seen_at = seen_at - %s", [timedelta(days=days)])


def test_a_row_hidden_by_hand_counts_from_when_housekeeping_saw_it(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1)])
    with acting_as(admin, "service_role"):
        admin.execute(HIDE)
    assert purge(database) == []
    seen_earlier(admin, 29)
    assert purge(database) == []
    seen_earlier(admin, 2)
    assert purge(database) == [("user", "scrubbed", None, 1)]
    assert purge(database) == []
    assert rows(admin, "select * from clerk_sync.hidden_by_hand") == []


def test_with_no_hold_back_a_row_hidden_by_hand_is_purged_at_once(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1)])
    admin.execute(HIDE)
    assert purge(database, hold_back="0") == [("user", "scrubbed", None, 1)]


def test_a_row_shown_and_hidden_again_restarts_its_hold_back(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1)])
    admin.execute(HIDE)
    purge(database)
    seen_earlier(admin, 31)
    admin.execute(SHOW)
    assert purge(database) == []
    admin.execute(HIDE)
    assert purge(database) == []


def test_a_delete_of_clerks_counts_also_for_a_row_that_was_hidden_by_hand(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1)])
    admin.execute(HIDE)
    purge(database)
    seen_earlier(admin, 31)
    store.apply([deleted("user", "user_1", at=2)])
    assert due(database, 29) == []
    assert due(database, 31) == [("user", "scrubbed")]


def test_content_cannot_hide_a_row(store: Store, database: Database, admin: Connection) -> None:
    store.apply([user(at=1)])
    element = value(admin, "select to_jsonb(u) || jsonb_build_object('deleted_at', '2017-07-14') from clerk.users as u")
    batch = [{"kind": "user", "id": "user_1", "source_updated_at": 10**14, "observed_at": 10**14, "content": element}]
    with psycopg.connect(database.worker_url, autocommit=True) as worker:
        worker.execute("select * from clerk_sync.apply(%s::jsonb)", [json.dumps(batch)])
    assert value(admin, "select deleted_at from clerk.users") is None


# Purged rows


def test_a_deferred_key_of_the_app_is_named_too_and_does_not_stop_the_others(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(
        "create table public.invoices (payer text constraint every_invoice_has_a_payer "
        "references clerk.users (clerk_id) deferrable initially deferred)"
    )
    store.apply([user(at=1), user("user_2", at=1)])
    admin.execute("insert into public.invoices values ('user_1')")
    store.apply([deleted("user", "user_1", at=2), deleted("user", "user_2", at=2)])
    let_time_pass(admin)
    assert sorted(purge(database, "delete")) == [
        ("user", "deleted", None, 1),
        ("user", "refused", "every_invoice_has_a_payer", 1),
    ]


def test_an_invitation_with_the_id_of_a_user_takes_nothing_of_the_user_along(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute("insert into clerk_sync.private_metadata values ('user_1', '{\"note\": 1}')")
    store.apply([user(at=1), organization(at=1)])
    batch = [
        {"kind": "invitation", "id": "user_1", "source_updated_at": 1, "observed_at": 1, "cause": "delivery"}
        | {"content": {"clerk_org_id": "org_1", "role": "org:member", "public_metadata": {}}},
        {"kind": "invitation", "id": "user_1", "deleted_at": 2, "cause": "delivery"},
    ]
    with psycopg.connect(database.worker_url, autocommit=True) as worker:
        worker.execute("select * from clerk_sync.apply(%s::jsonb)", [json.dumps(batch)])
    assert due(database, 31) == [("invitation", "deleted")]
    assert value(admin, "select new_values ->> 'first_name' from clerk_sync.audit_log where kind = 'user'") == "Ada"
    assert value(admin, "select count(*) from clerk_sync.private_metadata") == 1
