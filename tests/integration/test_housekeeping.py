"""Removal of old records, and of the personal data of deleted users, for good."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import chain, repeat
from typing import Any, LiteralString

import pytest
from psycopg import sql
from psycopg.errors import InvalidParameterValue

from clerk_supabase.credentials import Fixed
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin import samples
from tests.kit.databases import Connection, Database, outcomes, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT
from tests.kit.planting import in_function
from tests.kit.purging import let_time_pass, purge
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, told, user


def personal_data_of(admin: Connection, word: str) -> list[str]:
    """The tables in which a word is found anywhere."""
    found = []
    tables = rows(
        admin, "select schemaname, tablename from pg_tables where schemaname in ('clerk', 'clerk_sync') order by 1, 2"
    )
    for schema, table in tables:
        query = sql.SQL("select exists (select from {} as t where t::text like %s)").format(
            sql.Identifier(schema, table)
        )
        [(is_found,)] = admin.execute(query, [f"%{word}%"]).fetchall()
        if is_found:
            found.append(f"{schema}.{table}")
    return found


def test_a_deleted_user_is_held_back_until_its_time(database: Database, store: Store, admin: Connection) -> None:
    store.apply([user(at=1, first_name="Ada"), deleted("user", "user_1", at=2)])
    let_time_pass(admin, 29)
    assert purge(database) == []
    assert value(admin, "select first_name from clerk.users") == "Ada"


def test_a_scrubbed_user_leaves_the_key_and_nothing_personal(
    database: Database, store: Store, admin: Connection
) -> None:
    keeps = {"private_metadata": {"note": "Lovelace"}, "last_name": "Lovelace"}
    data = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT + 1, **keeps)
    store.apply([told("user.updated", data, at=1, svix_id="msg_1", keep_private_metadata=True)])
    store.apply([told("user.deleted", samples.deleted("user", "user_1"), at=2, keep_private_metadata=True)])
    assert "clerk_sync.private_metadata" in personal_data_of(admin, "Lovelace")
    let_time_pass(admin)

    assert purge(database) == [("user", "scrubbed", None, 1)]

    assert personal_data_of(admin, "Lovelace") == []
    assert rows(admin, "select clerk_id, deleted_at is not null from clerk.users") == [("user_1", True)]
    assert value(admin, "select deleted_at is not null from clerk_sync.entities where kind = 'user'")


def test_an_object_of_another_kind_with_the_same_id_is_not_purged_too(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user("same", at=1), organization("same", at=1), deleted("user", "same", at=2)])
    let_time_pass(admin)
    purge(database)
    query: LiteralString = (
        "select kind from clerk_sync.entities where purged_at is not null and kind in ('user', 'organization')"
    )
    assert rows(admin, query) == [("user",)]


def test_a_purge_happens_once(database: Database, store: Store, admin: Connection) -> None:
    store.apply([user(at=1), deleted("user", "user_1", at=2)])
    let_time_pass(admin)
    assert purge(database) != []
    assert purge(database) == []


def test_users_can_be_deleted_instead_which_lets_the_apps_keys_cascade(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute("create table public.notes (id int, author text references clerk.users (clerk_id) on delete cascade)")
    store.apply([user(at=1)])
    admin.execute("insert into public.notes values (1, 'user_1')")
    store.apply([deleted("user", "user_1", at=2)])
    let_time_pass(admin)
    assert purge(database, "delete") == [("user", "deleted", None, 1)]
    assert rows(admin, "select clerk_id from clerk.users") == []
    assert rows(admin, "select id from public.notes") == []


def test_a_foreign_key_of_the_app_that_refuses_is_named_once_and_the_row_is_scrubbed(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute("create table public.invoices (id int, payer text references clerk.users (clerk_id))")
    store.apply([user(at=1, last_name="Lovelace"), user("user_2", at=1)])
    admin.execute("insert into public.invoices values (1, 'user_1')")
    store.apply([deleted("user", "user_1", at=2), deleted("user", "user_2", at=2)])
    let_time_pass(admin)

    assert sorted(purge(database, "delete")) == [
        ("user", "deleted", None, 1),
        ("user", "refused", "invoices_payer_fkey", 1),
    ]
    assert purge(database, "delete") == []

    assert personal_data_of(admin, "Lovelace") == []
    assert rows(admin, "select payer from public.invoices") == [("user_1",)]


def test_rows_of_a_deleted_organization_are_removed_with_it(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([organization(at=1), membership(at=1), invitation(at=1), domain(at=1)])
    store.apply([deleted("organization", "org_1", at=2)])
    let_time_pass(admin)
    assert sorted(purge(database)) == [
        ("domain", "deleted", None, 1),
        ("invitation", "deleted", None, 1),
        ("membership", "deleted", None, 1),
        ("organization", "deleted", None, 1),
    ]
    assert rows(admin, "select clerk_id, deleted_at from clerk.users") == [("user_1", None)]


@pytest.mark.parametrize("how", ["scrub", "delete"])
def test_no_late_event_restores_purged_data(how: str, database: Database, store: Store, admin: Connection) -> None:
    store.apply([user(at=1), membership(at=1), deleted("user", "user_1", at=2)])
    let_time_pass(admin)
    purge(database, how)

    late = [
        user(at=9, last_name="Lovelace", svix_id="msg_1"),
        membership(at=9, svix_id="msg_2", public_metadata={"note": "Lovelace"}),
        membership("orgmem_2", at=9, svix_id="msg_3", public_metadata={"note": "Lovelace"}),
        deleted("user", "user_1", at=10, svix_id="msg_4"),
    ]
    assert all(isinstance(outcome, str) for outcome in store.apply(late))

    assert personal_data_of(admin, "Lovelace") == []
    assert rows(admin, "select clerk_membership_id from clerk.organization_memberships") == []
    assert outcomes(admin)["msg_1"] == "deleted_before"
    assert purge(database, how) == []


def test_with_no_hold_back_a_deleted_user_is_purged_at_once(database: Database, store: Store) -> None:
    store.apply([user(at=1), deleted("user", "user_1", at=2)])
    assert purge(database, hold_back="0") == [("user", "scrubbed", None, 1)]


def test_users_are_purged_some_at_a_time(database: Database, store: Store) -> None:
    store.apply([each for n in range(5) for each in (user(f"user_{n}", at=1), deleted("user", f"user_{n}", at=2))])
    with database.connect() as admin:
        query: LiteralString = "select purged from clerk_sync.purge('0', 'scrub', 2)"
        assert [rows(admin, query) for _ in range(4)] == [[(2,)], [(2,)], [(1,)], []]


@pytest.mark.parametrize("how", ["scrub", "delete"])
def test_children_that_go_with_their_parent_beyond_the_portion_leave_nothing_in_the_audit_log(
    how: str, store: Store, admin: Connection
) -> None:
    note: dict[str, Any] = {"public_metadata": {"note": "Lovelace"}}
    store.apply([invitation(f"orginv_{n}", at=1, email_address="Lovelace@example.test") for n in range(5)])
    store.apply([membership(f"orgmem_{n}", org_id=f"org_{n}", user_id="user_2", at=1, **note) for n in range(5)])
    store.apply([deleted("organization", "org_1", at=2), deleted("user", "user_2", at=2)])
    while rows(admin, "select * from clerk_sync.purge('0', %s, 2)", how):
        pass
    assert personal_data_of(admin, "Lovelace") == []


def test_an_unknown_way_to_purge_is_refused(database: Database) -> None:
    with pytest.raises(InvalidParameterValue, match="'scrub' or 'delete'"):
        purge(database, "burn")


def test_records_of_left_out_fields_are_kept_as_long_as_deliveries(store: Store, admin: Connection) -> None:
    for number in (1, 2):
        store.apply([user(f"user_{number}", at=1, svix_id=f"msg_{number}", first_name="\x00")])
    admin.execute(
        "update clerk_sync.dropped_fields set recorded_at = now() - interval '101 days' where svix_id = 'msg_1'"
    )
    assert rows(admin, "select * from clerk_sync.prune('100 days', '365 days')") == [(0, 0, 0)]
    assert rows(admin, "select svix_id, fields from clerk_sync.dropped_fields") == [("msg_2", ["first_name"])]


def test_old_records_go_and_young_ones_stay(database: Database, store: Store, admin: Connection) -> None:
    store.apply([user(at=1, svix_id="msg_old"), user("user_2", at=1, svix_id="msg_young")])
    admin.execute("update clerk_sync.deliveries set applied_at = now() - interval '101 days' where svix_id = 'msg_old'")
    admin.execute(
        "update clerk_sync.audit_log set recorded_at = now() - interval '366 days' where entity_id = 'user_1'"
    )
    assert rows(admin, "select * from clerk_sync.prune('100 days', '365 days')") == [(1, 1, 0)]
    assert list(outcomes(admin)) == ["msg_young"]
    assert rows(admin, "select entity_id from clerk_sync.audit_log") == [("user_2",)]


def test_a_settled_parked_event_is_removed_with_the_record_that_settled_it(
    database: Database, store: Store, admin: Connection
) -> None:
    envelopes = [Envelope(svix_id, b"{}", RECEIVED_AT) for svix_id in ("msg_settled", "msg_open", "msg_discarded")]
    store.park([ParkedEvent(envelope, "refused", "a constraint of the app") for envelope in envelopes])
    store.apply([user(at=1, svix_id="msg_settled")])
    admin.execute("update clerk_sync.deliveries set applied_at = now() - interval '101 days'")
    admin.execute(
        "update clerk_sync.parked_events set discarded_at = now() - interval '101 days' where svix_id = 'msg_discarded'"
    )
    assert rows(admin, "select * from clerk_sync.prune('100 days', '365 days')") == [(1, 0, 2)]
    assert rows(admin, "select svix_id from clerk_sync.parked_events") == [("msg_open",)]


# The nightly round


def test_the_nightly_round_purges_all_that_is_due_portion_by_portion_and_says_so(
    store: Store, admin: Connection, log: io.StringIO
) -> None:
    many = 1_100
    store.apply([each for n in range(many) for each in (user(f"user_{n}", at=1), deleted("user", f"user_{n}", at=2))])
    let_time_pass(admin)
    assert Housekeeping(store, Keep()).run() == many
    assert value(admin, "select count(*) from clerk.users where first_name is not null") == 0
    assert "rows purged" in log.getvalue()
    assert "user_1" not in log.getvalue()


def test_a_row_that_a_constraint_of_the_app_keeps_is_reported_with_the_constraint(
    store: Store, admin: Connection, log: io.StringIO
) -> None:
    admin.execute("create table public.invoices (id int, payer text references clerk.users (clerk_id))")
    store.apply([user(at=1)])
    admin.execute("insert into public.invoices values (1, 'user_1')")
    store.apply([deleted("user", "user_1", at=2)])
    let_time_pass(admin)
    admin.execute("insert into clerk_sync.retention (purge_by) values ('delete')")
    housekeeping = Housekeeping(store, Keep(purge_by="delete"))
    assert housekeeping.run() == 1
    assert housekeeping.run() == 0
    assert log.getvalue().count("invoices_payer_fkey") == 1


def test_two_rounds_at_once_beside_late_events_purge_each_user_once(database: Database, admin: Connection) -> None:
    many = 400
    admin.execute("insert into clerk_sync.retention (hold_back_days) values (0)")
    with ExitStack() as closed_at_the_end:
        stores = [closed_at_the_end.enter_context(closing(Store(Fixed(database.worker_url)))) for _ in range(3)]
        ids = [f"user_{number}" for number in range(many)]
        stores[0].apply([each for user_id in ids for each in (user(user_id, at=1), deleted("user", user_id, at=2))])
        late = [
            [user(user_id, at=9, last_name="Lovelace") for user_id in ids[first : first + 20]]
            for first in range(0, many, 20)
        ]
        start = threading.Barrier(3)

        def purge_all(store: Store) -> int:
            start.wait(60)
            return Housekeeping(store, Keep(hold_back_days=0)).run()

        def arrive(store: Store) -> None:
            start.wait(60)
            for batch in late:
                assert store.apply(batch) == ["deleted_before"] * len(batch)

        with ThreadPoolExecutor(3) as threads:
            arriving = threads.submit(arrive, stores[2])
            purged = sum(threads.map(purge_all, stores[:2]))
            arriving.result(60)
    assert purged == many
    assert personal_data_of(admin, "Lovelace") == []


PORTIONS_WITHOUT_TIME = in_function(
    "clerk_sync.purge(interval, text, integer)", {"interval '3 seconds'": "interval '0 seconds'"}
)
"""The time of each portion is over before its first row, as on a slow database."""


def test_on_a_slow_database_each_portion_purges_a_row_until_none_is_due(
    database: Database, store: Store, admin: Connection
) -> None:
    many = 5
    store.apply([each for n in range(many) for each in (user(f"user_{n}", at=1), deleted("user", f"user_{n}", at=2))])
    let_time_pass(admin)
    with PORTIONS_WITHOUT_TIME(database):
        assert Housekeeping(store, Keep()).run() == many
    assert value(admin, "select count(*) from clerk.users where first_name is not null") == 0


def test_a_round_without_the_time_for_all_that_is_due_says_so_and_rings(
    database: Database, store: Store, admin: Connection, log: io.StringIO
) -> None:
    many = 30
    store.apply([each for n in range(many) for each in (user(f"user_{n}", at=1), deleted("user", f"user_{n}", at=2))])
    let_time_pass(admin)
    metrics.clear_metrics()
    with PORTIONS_WITHOUT_TIME(database):
        purged = Housekeeping(store, Keep()).run(seconds=1, monotonic=chain([0.0, 0.0], repeat(2.0)).__next__)
    assert purged == 1
    assert "not all that is due was purged and pruned" in log.getvalue()
    assert metrics.metric_set["HousekeepingFailed"]["Value"] == [1]
    # With enough time nothing is left, and nothing rings.
    metrics.clear_metrics()
    assert Housekeeping(store, Keep()).run() == many - purged
    assert "HousekeepingFailed" not in metrics.metric_set


def test_a_round_that_fails_is_logged_and_fails_nothing_else(database: Database, log: io.StringIO) -> None:
    with closing(Store(Fixed("postgresql://nobody@127.0.0.1:1/nowhere"))) as store:
        assert Housekeeping(store, Keep()).run() == 0
    assert "nothing purged or pruned" in log.getvalue()


def test_runs_of_reconcile_go_after_their_time_but_never_the_one_the_next_goes_on_from(
    store: Store, admin: Connection
) -> None:
    admin.execute(
        """
        insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, state, as_of, finished_at)
        select mode, false, false, 'complete', 1, now() - interval '91 days'
        from unnest(array['full', 'quick', 'full', 'quick']) with ordinality as run (mode, place) order by place
        """
    )
    Housekeeping(store, Keep()).run()
    assert rows(admin, "select mode from clerk_sync.reconcile_runs order by run_id") == [("full",), ("quick",)]
