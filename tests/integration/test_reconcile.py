"""Reconcile: whatever got lost or was changed by hand, after one run the tables are as Clerk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clerk_supabase.errors import WrongInstance
from clerk_supabase_cli.clerk_api.faults import without_every
from tests.integration.databases import Database, rows
from tests.integration.reconciling import Rig, rig_with


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """1,201 users, all of them mirrored."""
    with rig_with(database, 1_201) as rig:
        assert rig.run().state == "complete"
        yield rig


def user(number: int) -> str:
    return f"user_{number:026}"


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
    before = rows(rig.admin, "select xmin::text, ctid::text from public.users order by clerk_id")
    report = rig.run()
    assert (report.state, report.findings) == ("complete", 0)
    assert rows(rig.admin, "select xmin::text, ctid::text from public.users order by clerk_id") == before


def test_no_request_for_users_has_an_offset(rig: Rig) -> None:
    assert rig.api.counts["offset > 0"] == 0


def test_a_key_of_another_instance_is_refused_before_anything_is_read(rig: Rig) -> None:
    rig.api.answers.instance_id = "ins_other"
    calls = rig.ours.http.calls
    with pytest.raises(WrongInstance, match="ins_other, the database mirrors ins_2Local"):
        rig.run()
    assert rig.ours.http.calls == calls + 1


# What differs


def test_missing_stale_different_and_extra_rows_are_told_apart_and_repaired(rig: Rig) -> None:
    rig.forget(user(3))
    rig.world.now += 5_000
    rig.world.update("user", user(4), {"last_name": "Newer"})
    rig.admin.execute("update public.users set first_name = 'Mallory', locked = true where clerk_id = %s", [user(5)])
    rig.world.remove_user(user(6))
    rig.admin.execute("delete from public.users where clerk_id = %s", [user(7)])
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
