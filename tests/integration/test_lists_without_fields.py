"""Lists of Clerk without a field that a comparison needs: nothing is written, and the run names the field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES, READ_KINDS
from clerk_supabase_cli.standin.faults import Fault, with_null, without_field
from tests.kit import every_list
from tests.kit.databases import Database, rows, tables
from tests.kit.every_list import fill_every_list
from tests.kit.reconciling import Rig, rig_with

# Objects without events have no version.
PATHS: dict[Kind, str] = {
    kind: path for kind, path in every_list.PATHS.items() if kind in READ_KINDS and FACTS[kind].verbs
}


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """Objects of every list; afterwards each row is changed by hand, and one object of a kind is gone from Clerk."""
    with rig_with(database, 6) as rig:
        world = rig.world
        fill_every_list(world)
        assert rig.run().state == "complete"

        for kind in PATHS:
            assert rig.world.objects()[kind], kind
            table = sql.Identifier("clerk", FACTS[kind].table)
            rig.admin.execute(sql.SQL("update {} set created_at = created_at - interval '1 hour'").format(table))
        world.remove_user(next(iter(world.users)))
        for kind in ("permission", "role", "waitlist_entry"):
            world.drop(kind, next(iter(world.others[kind])))
        yield rig


@pytest.mark.parametrize("fault", [without_field("updated_at"), with_null("updated_at")], ids=["missing", "null"])
def test_lists_without_versions_write_and_delete_nothing_and_each_run_names_the_field(rig: Rig, fault: Fault) -> None:
    before = tables(rig.admin)
    for path in PATHS.values():
        rig.api.faults.add(fault, path=path, times=100)
    for mode in ("full", "quick"):
        report = rig.run(mode)
        assert report.state == "incomplete"
        for kind in PATHS:
            assert f"Clerk listed {KIND_NAMES[kind]} without updated_at" in str(report.reason)
        assert tables(rig.admin) == before
    rig.api.faults.clear()
    assert rig.run().state == "complete"
    assert rig.agrees()
    assert "role_0" not in rig.shown("roles", "clerk_role_id")


def test_users_without_created_at_are_not_deleted_and_the_run_names_the_field(rig: Rig) -> None:
    rig.api.faults.add(without_field("created_at"), path="/users", times=100)
    shown = rig.shown()
    report = rig.run()
    assert (report.state, rig.shown()) == ("incomplete", shown)
    assert "Clerk listed users without created_at" in str(report.reason)


def test_subscriptions_without_versions_are_not_written_and_the_run_names_the_field(rig: Rig) -> None:
    for kind in ("user", "organization"):
        for object_id in rig.world.objects()[kind]:
            path = FACTS["subscription"].paths_of_parents[kind].format(id=object_id)
            rig.api.faults.add(without_field("updated_at"), path=path, times=100)
    rig.admin.execute("update clerk.subscriptions set status = 'by hand'")
    report = rig.run()
    assert report.state == "incomplete"
    assert "answers that hold subscription items are without updated_at" in str(report.reason)
    assert {each for (each,) in rows(rig.admin, "select status from clerk.subscriptions")} == {"by hand"}
