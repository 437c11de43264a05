"""The fill of a page of unknown users: with the same rows as apply(), and never over existing data."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, RunTakenOver
from clerk_supabase.model.changes import Changes, Delete, Delivery, changes_of_object
from clerk_supabase.postgres.batch import as_json, element_of
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs, Repair
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, Databases, rows, tables, value
from tests.kit.polling import eventually
from tests.kit.reconciling import Queued, rig_with

CREATED_AT = 1_700_000_000_000
READ_AT = CREATED_AT + 60_000
RUN = 7


def begin(admin: Connection) -> None:
    """Insert the run at work to which the pages belong."""
    admin.execute(
        "insert into clerk_sync.reconcile_runs (run_id, mode, is_dry_run, versions_only, as_of) "
        "overriding system value values (%s, 'full', false, false, 1)",
        [RUN],
    )


def user(number: int, **fields: Any) -> bytes:
    made = samples.user(f"user_{number}", created_at=CREATED_AT + number, updated_at=CREATED_AT + number, **fields)
    return json.dumps(made).encode()


def changes(body: bytes, observed_at: int = READ_AT) -> Changes:
    return changes_of_object("user", body, observed_at, READ_AT, keep_private_metadata=True)


def page(*bodies: bytes) -> list[str]:
    read = [changes(body) for body in bodies]
    return [as_json(element_of(change)) for each in read for change in (each.main, *each.companions)]


def webhook(store: Store, body: bytes, observed_at: int) -> None:
    store.apply([(changes(body, observed_at), Delivery("msg_1", "user.updated", READ_AT))])


PAGE = [
    user(1, private_metadata={"note": "x"}),
    user(2, email_addresses=[], primary_email_address_id=None),
    user(3, public_metadata={"plan": "pro"}),
    # Nobody promises that a page names everybody once.
    user(3, public_metadata={"plan": "pro"}),
]


def audited(admin: Connection) -> list[tuple[Any, ...]]:
    query = "select kind, entity_id, operation, new_values, cause, svix_id from clerk_sync.audit_log order by 1, 2"
    return rows(admin, query)


def test_filled_rows_equal_repaired_rows(databases: Databases) -> None:
    filled, repaired = databases.take(), databases.take()
    ends = []
    for database in (filled, repaired):
        store = Store(Fixed(database.worker_url))
        if database is filled:
            with database.connect() as admin:
                begin(admin)
            assert Runs(store).fill(RUN, page(*PAGE)) == set()
        else:
            repairs = [Repair(RUN, "user", json.loads(body)["id"], READ_AT, body) for body in PAGE]
            assert DirectRepairs(keep_private_metadata=True).send(store, repairs, READ_AT) == ["created"] * len(PAGE)
        store.close()
        with database.connect() as admin:
            ends.append((tables(admin), audited(admin)))
        databases.give_back(database)
    assert ends[0] == ends[1]
    assert len(ends[0][0]["users"]) == 3


def test_the_fill_names_known_users_and_leaves_their_rows_unchanged(store: Store, admin: Connection) -> None:
    webhook(store, user(1, first_name="Newer"), READ_AT + 1)
    store.apply([(Changes(Delete("user", "user_2", READ_AT)), None)])
    before = tables(admin)
    begin(admin)
    known = Runs(store).fill(RUN, page(user(1, first_name="Older"), user(2)))
    assert {("user", "user_1"), ("user", "user_2")} <= known
    assert tables(admin)["users"] == before["users"]


def test_a_row_that_the_app_made_is_filled(store: Store, admin: Connection) -> None:
    admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
    begin(admin)
    assert Runs(store).fill(RUN, page(user(1, first_name="Ada"))) == set()
    assert rows(admin, "select first_name from clerk.users_public") == [("Ada",)]


def test_nothing_is_filled_once_the_run_is_over(store: Store, admin: Connection) -> None:
    with pytest.raises(RunTakenOver):
        Runs(store).fill(RUN, page(user(1)))
    assert value(admin, "select count(*) from clerk_sync.entities") == 0


def test_a_page_that_postgres_refuses_leaves_nothing_behind(store: Store, admin: Connection) -> None:
    begin(admin)
    admin.execute("alter table clerk.users add constraint no_robots check (first_name <> 'Robot')")
    with pytest.raises(ChangeRefused):
        Runs(store).fill(RUN, page(user(1), user(2, first_name="Robot")))
    assert value(admin, "select count(*) from clerk_sync.entities") == 0


def test_a_user_who_cannot_be_read_keeps_no_other_from_being_inserted_at_once(
    database: Database, account: Account
) -> None:
    with rig_with(database, 30) as rig:
        unreadable, *others = rig.world.users
        rig.world.update("user", unreadable, {"email_addresses": None})
        report = rig.run(repairs=Queued(account, rig.store).repairs)
        assert (report.counts["user"]["repaired"], report.counts["user"]["unusable"]) == (29, 1)
        assert rig.shown() == set(others)


def test_memberships_by_the_hundred_are_hidden_where_a_parent_is_deleted(database: Database) -> None:
    with rig_with(database, 700) as rig:
        organization = rig.world.create_organization({})["id"]
        members = list(rig.world.users)[:640]
        memberships = [rig.world.add_membership(organization, each, role="org:member") for each in members]
        assert rig.run().state == "complete"
        assert rig.agrees()
        rig.admin.execute("delete from clerk.organizations")
        rig.admin.execute("delete from clerk_sync.entities where kind <> 'user'")
        # On the second page, where it is known by then that most are missing.
        last = max(memberships, key=lambda each: (each["created_at"], each["id"]))
        rig.store.apply([(Changes(Delete("user", last["public_user_data"]["user_id"], rig.world.now)), None)])
        report = rig.run()
        assert (report.state, report.counts["membership"]["missing"]) == ("complete", 640)
        shown = rig.shown("organization_memberships", "clerk_membership_id")
        assert set(rig.world.memberships) - shown == {last["id"]}


def test_a_webhook_that_arrives_at_the_same_moment_is_waited_for_and_wins(
    store: Store, admin: Connection, database: Database
) -> None:
    known: list[set[tuple[str, str]]] = []
    twin = store.twin()
    begin(admin)
    with database.connect() as onlooker, admin.transaction():
        # A webhook of the same user, between its first write and its commit.
        batch = as_json([element_of(changes(user(2, first_name="Newer"), READ_AT + 1).main)])
        admin.execute("select clerk_sync.apply(%s::jsonb)", [batch])
        filling = threading.Thread(
            target=lambda: known.append(Runs(twin).fill(RUN, page(user(1), user(2, first_name="Older"))))
        )
        filling.start()
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%fill%'"
        eventually(lambda: value(onlooker, waiting), lambda number: number == 1)
    filling.join()
    twin.close()
    assert known == [{("user", "user_2")}]
    assert rows(admin, "select clerk_id, first_name from clerk.users order by 1")[1] == ("user_2", "Newer")
    assert value(admin, "select count(*) from clerk.users") == 2
