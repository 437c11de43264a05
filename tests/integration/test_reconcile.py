"""Reconcile: after one run the tables are as Clerk, whatever was lost or changed by hand."""

from __future__ import annotations

import io
import json
import math
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import sql

from clerk_supabase.errors import WrongInstance
from clerk_supabase.model.changes import Delete, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin.faults import Fault, with_null, without_every, without_field
from clerk_supabase_cli.standin.population import BEGINNING
from tests.kit.databases import Database, rows, tables, value
from tests.kit.histories import alone
from tests.kit.reconciling import MINUTE, Rig, happening_after, rig_with, user

pytestmark = pytest.mark.mirror(1_201)
"""1,201 users, all of them mirrored."""


# The first run


def test_the_first_run_fills_an_empty_database(database: Database) -> None:
    with rig_with(database, 1_201) as rig:
        report = rig.run()
        assert (report.state, report.reason) == ("complete", None)
        assert rig.agrees()
        assert report.counts["user"] == {"compared": 1_201, "listed": 1_201, "missing": 1_201, "repaired": 1_201}
        # Of a back-fill only the number is kept.
        assert rows(rig.admin, "select count(*) from clerk_sync.reconcile_findings") == [(0,)]
        assert max(each.compared for each in rig.told if each.kind == "user") == 1_201


def test_the_second_run_finds_nothing_and_writes_nothing(rig: Rig) -> None:
    before = rows(rig.admin, "select xmin::text, ctid::text from clerk.users order by clerk_id")
    report = rig.run()
    assert (report.state, report.findings) == ("complete", 0)
    assert rows(rig.admin, "select xmin::text, ctid::text from clerk.users order by clerk_id") == before


def test_no_request_for_users_has_an_offset(rig: Rig) -> None:
    rig.run()
    assert rig.api.counts["GET /users"] == 3
    assert rig.api.counts["offset > 0"] == 0


def test_a_key_of_another_instance_is_rejected_before_anything_is_read(rig: Rig) -> None:
    rig.api.answers.instance_id = "ins_other"
    calls = rig.ours.http.calls
    with pytest.raises(WrongInstance, match="ins_other, the database mirrors ins_2Local"):
        rig.run()
    assert rig.ours.http.calls == calls + 1


def test_a_key_of_another_instance_than_the_parameter_names_is_refused_also_by_the_first_run(rig: Rig) -> None:
    rig.admin.execute("delete from clerk_sync.instance")
    named = replace(rig.settings, instance_id="ins_named")
    reconcile = Reconcile(rig.ours.http, rig.runs, DirectRepairs(), named, monotonic=rig.ours.clock)
    with pytest.raises(WrongInstance, match="the parameter ClerkInstanceId names ins_named"):
        reconcile.run(Request("full"), math.inf)
    assert value(rig.admin, "select count(*) from clerk_sync.instance") == 0


# Differences


def test_missing_stale_different_and_extra_rows_are_told_apart_and_repaired(rig: Rig) -> None:
    rig.forget(user(3))
    rig.world.now += 5_000
    rig.world.update("user", user(4), {"last_name": "Newer"})
    rig.admin.execute("update clerk.users set first_name = 'Mallory', locked = true where clerk_id = %s", [user(5)])
    rig.world.remove_user(user(6))
    rig.admin.execute("delete from clerk.users where clerk_id = %s", [user(7)])
    report = rig.run()
    assert (report.state, report.reason) == ("complete", None)
    found = {key: (each.difference, each.cause, each.fields) for key, each in rig.findings(report).items()}
    assert found == {
        user(3): ("missing", "it never arrived", None),
        user(4): ("stale", "its last change did not arrive", ["last_name"]),
        user(5): ("different", "somebody edited the row", ["first_name", "locked"]),
        user(6): ("extra", "its delete did not arrive", None),
        user(7): ("missing", "somebody removed the row", None),
    }
    assert all(each.sent_at is not None for each in rig.findings(report).values())
    assert rig.agrees()
    assert (rig.column(user(4), "last_name"), rig.column(user(5), "locked")) == ("Newer", False)
    assert rig.run().findings == 0


def test_half_the_users_missing_from_a_good_answer_deletes_nobody_and_the_run_says_why(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.api.faults.add(without_every(2), path="/users")
    report = rig.run()
    assert report.state == "incomplete"
    assert report.reason is not None
    assert "Clerk listed" in report.reason
    assert "no user is deleted" in report.reason
    assert len(rig.shown()) == 1_201


def test_a_run_by_versions_only_finds_what_got_lost_but_not_what_was_edited(rig: Rig) -> None:
    rig.forget(user(3))
    rig.world.update("user", user(4), {"last_name": "Newer"})
    rig.admin.execute("update clerk.users set first_name = 'Mallory' where clerk_id = %s", [user(5)])
    report = rig.run(versions_only=True)
    assert {key: each.difference for key, each in rig.findings(report).items()} == {
        user(3): "missing",
        user(4): "stale",
    }
    assert rig.column(user(4), "last_name") == "Newer"


def test_a_dry_run_reports_the_same_and_repairs_nothing(rig: Rig) -> None:
    rig.forget(user(3))
    rig.world.update("user", user(4), {"last_name": "Newer"})
    rig.world.remove_user(user(6))
    report = rig.run(dry_run=True)
    assert report.state == "complete"
    assert {each.difference for each in rig.findings(report).values()} == {"missing", "stale", "extra"}
    assert all(each.sent_at is None for each in rig.findings(report).values())
    assert user(3) not in rig.shown()
    assert user(6) in rig.shown()
    assert rig.run().findings == 3


def test_a_dry_run_of_an_empty_database_fills_nothing(database: Database) -> None:
    with rig_with(database, 501) as rig:
        report = rig.run(dry_run=True)
        assert (report.state, report.counts["user"]["missing"]) == ("complete", 501)
        assert rig.shown() == set()


def test_an_object_deleted_only_here_is_reported_and_never_restored(rig: Rig) -> None:
    rig.store.apply(alone(Delete("user", user(8), rig.world.now)))
    rig.world.now += MINUTE
    report = rig.run()
    assert rig.findings(report)[user(8)].difference == "deleted here"
    assert rig.findings(report)[user(8)].action == "none"
    assert (report.findings, report.counts["user"]["deleted here"]) == (1, 1)
    assert f"reconcile show {report.run_id} --difference 'deleted here'" in str(report.reason)
    assert user(8) not in rig.shown()


LISTS = ("email_addresses", "phone_numbers", "web3_wallets", "external_accounts")


@pytest.mark.each_value("fault", "mode")
@pytest.mark.parametrize("mode", ["full", "quick"])
@pytest.mark.parametrize(
    "fault",
    [without_field("email_addresses"), with_null("email_addresses"), without_field(*LISTS), without_field("banned")],
)
def test_a_list_of_users_without_their_addresses_or_verdict_leaves_every_row_as_it_was_and_the_run_says_so(
    rig: Rig, mode: str, fault: Fault
) -> None:
    before = tables(rig.admin)["users"]
    rig.world.now += MINUTE
    for number in range(40):
        rig.world.update("user", user(number), {"last_name": "Newer"})
    rig.api.faults.add(fault, path="/users", times=100)
    report = rig.run(mode)
    assert report.state == "incomplete"
    assert report.counts["user"]["unusable"] >= 40
    assert "could not be compared or applied, see the log" in str(report.reason)
    assert tables(rig.admin)["users"] == before
    rig.api.faults.clear()
    assert rig.run(mode).state == "complete"
    assert rig.column(user(1), "last_name") == "Newer"


def test_a_single_user_without_addresses_does_not_make_every_run_incomplete(rig: Rig) -> None:
    rig.world.update("user", user(3), {"email_addresses": None})
    before = tables(rig.admin)["users"]
    report = rig.run()
    assert (report.state, report.counts["user"]["unusable"]) == ("complete", 1)
    assert tables(rig.admin)["users"] == before


def test_a_row_that_the_app_made_is_never_deleted(rig: Rig) -> None:
    rig.admin.execute(
        "insert into clerk.users (clerk_id, created_at) values ('user_of_the_app', %s)",
        [datetime.fromtimestamp(BEGINNING / 1000 + 5, UTC)],
    )
    rig.admin.execute("insert into clerk.users (clerk_id) values ('user_without_time')")
    report = rig.run()
    assert report.state == "complete"
    assert {(key, each.action) for key, each in rig.findings(report).items()} == {
        ("user_of_the_app", "none"),
        ("user_without_time", "none"),
    }
    assert {"user_of_the_app", "user_without_time"} <= rig.shown()


def test_a_stub_known_from_a_membership_alone_is_completed(rig: Rig) -> None:
    rig.forget(user(9))
    organization = rig.world.create_organization({})
    rig.world.add_membership(organization["id"], user(9), role="org:member")
    told = rig.world.events[-1]
    rig.store.apply([(changes_of(parse_event(json.dumps(told).encode()), rig.world.now), None)])
    assert rig.column(user(9), "created_at") is None
    report = rig.run()
    assert rig.findings(report)[user(9)].cause == "only other objects told of it"
    assert rig.column(user(9), "created_at") is not None
    assert rig.agrees()


def test_a_stub_of_a_deleted_user_is_deleted_once_clerk_confirms_it(rig: Rig) -> None:
    organization = rig.world.create_organization({})
    rig.world.add_membership(organization["id"], user(9), role="org:member")
    told = rig.world.events[-1]
    rig.forget(user(9))
    rig.store.apply([(changes_of(parse_event(json.dumps(told).encode()), rig.world.now), None)])
    rig.world.remove_user(user(9))
    assert rig.run().state == "complete"
    assert rig.agrees()


def test_a_row_whose_created_at_was_edited_is_found_where_it_is_and_where_it_belongs(rig: Rig) -> None:
    rig.admin.execute("update clerk.users set created_at = now() - interval '30 years' where clerk_id = %s", [user(5)])
    rig.admin.execute(
        "update clerk.users set created_at = created_at + interval '5 minutes' where clerk_id = %s", [user(6)]
    )
    report = rig.run()
    assert report.state == "complete"
    assert {(key, each.difference) for key, each in rig.findings(report).items()} == {
        (user(5), "different"),
        (user(6), "different"),
    }
    assert rig.agrees()


def test_a_webhook_that_races_the_repair_wins(rig: Rig) -> None:
    rig.world.now += 5_000
    rig.world.update("user", user(4), {"last_name": "Older"})

    def webhook() -> None:
        rig.world.now += 5_000
        rig.world.update("user", user(4), {"last_name": "Newest"})
        told = rig.world.events[-1]
        with closing(rig.store.twin()) as worker:
            worker.apply([(changes_of(parse_event(json.dumps(told).encode()), rig.world.now), None)])

    # The page was read before, and is applied after the webhook.
    rig.ours.http.get = happening_after(rig.ours.http.get, "/users", webhook)  # type: ignore[method-assign]  # stands before Clerk
    report = rig.run()
    assert report.state == "complete"
    assert rig.column(user(4), "last_name") == "Newest"


def test_users_created_changed_and_deleted_between_two_pages_confuse_nobody(rig: Rig) -> None:
    created: list[str] = []

    def live() -> None:
        rig.world.now += 3_000
        created.append(rig.world.create_user({})["id"])
        rig.world.remove_user(user(0))
        rig.world.remove_user(user(700))
        rig.world.update("user", user(800), {"last_name": "New"})

    rig.api.faults.add(Fault(happening=live), having="starting_after")
    report = rig.run()
    assert report.state in ("complete", "incomplete")
    rig.world.now += MINUTE
    assert rig.run().state == "complete"
    assert rig.agrees()
    assert rig.column(user(800), "last_name") == "New"


def test_two_users_of_one_moment_on_both_sides_of_a_page_are_neither_missing_nor_extra(database: Database) -> None:
    with rig_with(database, 1_203, same_moment=3) as rig:
        rig.run()
        report = rig.run()
        assert (report.state, report.findings) == ("complete", 0)


@pytest.mark.parametrize("answer", ["not_found", "unprocessable", "ignored", "empty"])
def test_a_cursor_whose_user_was_deleted_causes_no_other_delete(rig: Rig, answer: Any) -> None:
    rig.api.answers.lost_cursor = answer
    rig.api.faults.add(Fault(happening=lambda: rig.world.remove_user(user(499))), having="starting_after")
    report = rig.run()
    assert report.state == ("incomplete" if answer == "empty" else "complete")
    assert rig.shown() - set(rig.world.users) <= {user(499)}
    assert set(rig.world.users) <= rig.shown()


def test_one_odd_user_never_costs_the_page_and_nobody_is_deleted_then(rig: Rig) -> None:
    def make_odd(elements: list[bytes]) -> list[bytes]:
        return [elements[0], b'{"object":"user"}', *elements[2:]]

    rig.forget(user(3))
    rig.api.faults.add(Fault(alter=make_odd), path="/users")
    report = rig.run()
    assert report.state == "incomplete"
    assert "without a usable id" in str(report.reason)
    assert user(3) in rig.shown()
    assert user(1) in rig.shown()


def test_content_that_cannot_be_read_or_stored_affects_no_other_object(rig: Rig) -> None:
    rig.admin.execute("alter table clerk.users add constraint no_robots check (last_name <> 'Robot')")
    rig.world.now += 5_000
    for number in (4, 5, 6, 7):
        rig.world.update("user", user(number), {"first_name": "New"})
    rig.world.update("user", user(8), {"last_name": "Robot"})

    def make_hostile(elements: list[bytes]) -> list[bytes]:
        elements[4] = elements[4].replace(b'"external_id":null', rb'"external_id":"a\u0000b"')
        elements[6] = elements[6].replace(b'"banned":false', b'"banned":"no"')
        elements[7] = elements[7].replace(b'"first_name":"New"', rb'"first_name":"\ud800"')
        return elements

    rig.api.faults.add(Fault(alter=make_hostile), path="/users")
    report = rig.run()
    assert (report.state, report.counts["user"]["unusable"], report.counts["user"]["refused"]) == ("complete", 2, 1)
    assert rig.findings(report)[user(8)].outcome == "refused"
    assert "could not be compared or applied, see the log" in str(report.reason)
    # The value that cannot be stored would have emptied the name, so the user was read again by id.
    assert [rig.column(user(number), "first_name") for number in (5, 7)] == ["New", "New"]
    # A refused repair was not sent, and its finding says so.
    assert {key: (each.outcome, each.sent_at is None) for key, each in rig.findings(report).items()} == {
        user(5): ("settled", False),
        user(7): ("settled", False),
        user(8): ("refused", True),
    }


def test_without_a_believable_date_nothing_is_deleted_and_the_run_says_why(rig: Rig) -> None:
    rig.world.remove_user(user(6))
    rig.forget(user(3))
    rig.api.faults.add(Fault(headers={"Date": None}), times=1_000)
    report = rig.run()
    assert report.state == "incomplete"
    assert "believable Date" in str(report.reason)
    assert user(6) in rig.shown()
    assert user(3) in rig.shown()


def test_private_metadata_is_compared_where_it_is_kept(database: Database) -> None:
    with rig_with(database, 3, keep_private_metadata=True) as rig:
        rig.world.update("user", user(1), {"private_metadata": {"note": "x"}})
        assert rig.run().state == "complete"
        query = "select entity_id, private_metadata from clerk_sync.private_metadata order by entity_id"
        kept = rows(rig.admin, query)
        assert kept[1] == (user(1), {"note": "x"})
        rig.admin.execute("delete from clerk_sync.private_metadata where entity_id = %s", [user(0)])
        rig.admin.execute("update clerk_sync.private_metadata set private_metadata = '{}'")
        report = rig.run()
        assert {(key, each.kind, each.difference) for key, each in rig.findings(report).items()} == {
            (user(0), "private_metadata", "missing"),
            (user(1), "private_metadata", "different"),
        }
        assert rows(rig.admin, query) == kept


def test_an_object_that_postgres_refuses_to_compare_affects_no_other_object(rig: Rig) -> None:
    # A constraint stands for a fault in Postgres: all content that is known to be refused is left out before.
    refused = "alter table clerk_sync.reconcile_findings add constraint planted check (entity_id <> {})"
    rig.admin.execute(sql.SQL(refused).format(user(5)))
    rig.admin.execute("update clerk.users set last_name = 'By hand' where clerk_id = any(%s)", [[user(5), user(6)]])
    report = rig.run()
    assert (report.state, report.counts["user"]["unusable"]) == ("complete", 1)
    assert (rig.column(user(5), "last_name"), rig.column(user(6), "last_name") == "By hand") == ("By hand", False)
    assert (report.counts["user"]["repaired"], "restored" in report.counts["user"]) == (1, False)


def test_the_findings_of_a_run_are_counted_for_the_alarms_once_and_without_personal_data(
    rig: Rig, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.forget(user(3))
    rig.admin.execute("update clerk.users set email = 'mallory@example.test' where clerk_id = %s", [user(5)])
    metrics.clear_metrics()
    rig.run()
    counted = metrics.serialize_metric_set()
    expected = {
        "FullRunsComplete": 1,
        "Drift": 2,
        "Missing": 1,
        "Different": 1,
        "Stale": 0,
        "Extra": 0,
        "RepairsSent": 2,
    }
    assert {name: counted[name] for name in expected} == {name: [float(each)] for name, each in expected.items()}  # type: ignore[literal-required]  # the names are in a dict
    assert "example.test" not in log.getvalue() + capsys.readouterr().out
