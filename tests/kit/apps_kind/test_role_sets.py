"""Tests of the kind in role_set.py, in a copy of the checkout with that kind: see test_documents.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.databases import Database, Rows, rows
from tests.kit.reconciling import Rig, rig_with


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """A mirror of three sets of roles, complete."""
    with rig_with(database, 3) as rig:
        at = rig.world.now
        rig.world.others["role_set"] = {
            object_id: {"id": object_id, "name": "Before", "created_at": at, "updated_at": at}
            for object_id in ("role_set_1", "role_set_2", "role_set_3")
        }
        assert rig.run().state == "complete"
        yield rig


def shown(rig: Rig) -> Rows:
    return rows(rig.admin, "select clerk_role_set_id, name from public.role_sets where deleted_at is null order by 1")


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_the_role_sets_of_an_app_are_compared_repaired_and_deleted(rig: Rig, mode: str) -> None:
    sets = rig.world.others["role_set"]
    sets["role_set_1"] |= {"name": "After", "updated_at": rig.world.now + 1}
    del sets["role_set_2"]
    assert rig.run(mode).state == "complete"
    assert shown(rig) == [("role_set_1", "After"), ("role_set_3", "Before")]


def test_the_role_sets_of_an_app_are_compared_although_clerk_has_domains_switched_off(rig: Rig) -> None:
    rig.api.answers.no_domains = (403, "organization_domains_not_enabled")
    rig.world.others["role_set"]["role_set_1"] |= {"name": "After", "updated_at": rig.world.now + 1}
    rig.run()
    assert shown(rig)[0] == ("role_set_1", "After")
