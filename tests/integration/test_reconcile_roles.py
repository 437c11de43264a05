"""Comparisons of roles, permissions and the waitlist: lost events are found, and no delete goes without proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from clerk_supabase_cli.standin.access import objects
from tests.kit.databases import Connection, Database, Rows, rows
from tests.kit.reconciling import Rig, rig_with

ROLES = ("role_1", "role_2", "role_3")
ENTRIES = ("wle_1", "wle_2", "wle_3")


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """A complete mirror of an instance with permissions, roles and a waitlist."""
    with rig_with(database, 3) as rig:
        times = {"created_at": rig.world.now, "updated_at": rig.world.now}
        held = {each: objects.permission(each, f"org:reports:{each}", **times) for each in ("perm_1", "perm_2")}
        rig.world.others["permission"] |= held
        roles = {each: objects.role(each, f"org:{each}", [held["perm_1"]], **times) for each in ROLES}
        rig.world.others["role"] |= roles
        entries = {each: objects.waitlist_entry(each, f"{each}@example.test", **times) for each in ENTRIES}
        rig.world.others["waitlist_entry"] |= entries
        assert rig.run().state == "complete"
        yield rig


def shown(admin: Connection) -> Rows:
    return rows(
        admin,
        """
        select clerk_permission_id, key from clerk.permissions where deleted_at is null union all
        select clerk_role_id, name from clerk.roles where deleted_at is null union all
        select clerk_waitlist_entry_id, status from clerk.waitlist_entries where deleted_at is null order by 1
        """,
    )


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_lost_events_of_roles_permissions_and_the_waitlist_are_found(rig: Rig, mode: str) -> None:
    changed = {"updated_at": rig.world.now + 1}
    rig.world.others["permission"]["perm_1"] |= changed | {"key": "org:reports:all"}
    rig.world.others["role"]["role_1"] |= changed | {"name": "After"}
    rig.world.others["waitlist_entry"]["wle_1"] |= changed | {"status": "invited"}
    for kind, object_id in (("permission", "perm_2"), ("role", "role_2"), ("waitlist_entry", "wle_2")):
        del rig.world.others[kind][object_id]
    report = rig.run(mode)
    assert (report.state, report.reason) == ("complete", None)
    assert shown(rig.admin) == [
        ("perm_1", "org:reports:all"),
        ("role_1", "After"),
        ("role_3", "Role_3"),
        ("wle_1", "invited"),
        ("wle_3", "pending"),
    ]


def test_an_entry_of_the_waitlist_is_deleted_when_two_complete_lists_far_enough_apart_lack_it(rig: Rig) -> None:
    rig.settings = replace(rig.settings, delete_margin_ms=300_000)
    rig.world.now += 600_000
    entry = rig.world.others["waitlist_entry"].pop("wle_1")
    shows = "select deleted_at is null from clerk.waitlist_entries where clerk_waitlist_entry_id = 'wle_1'"
    for _ in range(2):
        report = rig.run()
        assert "Clerk says for the first time that objects are gone: 1" in (report.reason or "")
        assert rows(rig.admin, shows) == [(True,)]
        # A list that shows the object again counts, and the two lists have to be found anew.
        rig.world.others["waitlist_entry"]["wle_1"] = entry
        assert rig.run().reason is None
        del rig.world.others["waitlist_entry"]["wle_1"]
    rig.run()
    rig.world.now += 300_000
    rig.run()
    assert rows(rig.admin, shows) == [(False,)]


def test_roles_are_switched_off_with_organizations_and_the_waitlist_is_compared_all_the_same(rig: Rig) -> None:
    rig.api.answers.no_organizations = (403, "organization_not_enabled_in_instance")
    rig.world.others["role"].clear()
    rig.world.others["waitlist_entry"]["wle_1"] |= {"status": "rejected", "updated_at": rig.world.now + 1}
    report = rig.run()
    assert report.state == "complete"
    assert [each for each in shown(rig.admin) if each[0].startswith("role")] != []
    assert ("wle_1", "rejected") in shown(rig.admin)
    rig.api.answers.no_organizations = (403, "authorization_invalid")
    report = rig.run()
    assert (report.state, "roles were not compared" in (report.reason or "")) == ("incomplete", True)
