"""Memberships that are computed: in order, with all changed, added and removed ones."""

from __future__ import annotations

import json

import pytest

from clerk_supabase_cli.standin.members import Members


@pytest.fixture
def members() -> Members:
    """Ten memberships of three organizations, a second apart."""
    return Members(10, organizations=3, start=5_000, step=1_000)


def listed(members: Members, offset: int, limit: int, *, descending: bool = False) -> list[str]:
    return [json.loads(each)["id"] for each in members.page(offset, limit, descending=descending)]


def ids(*numbers: int) -> list[str]:
    return [Members.id(number) for number in numbers]


def test_memberships_are_listed_by_creation(members: Members) -> None:
    assert listed(members, 2, 3) == ids(2, 3, 4)
    assert listed(members, 8, 5) == ids(8, 9)
    assert listed(members, 0, 2, descending=True) == ids(9, 8)
    assert members[Members.id(4)]["created_at"] == 9_000
    assert members[Members.id(4)]["organization"]["id"] == members.organization(4)


def test_removed_memberships_leave_no_gap(members: Members) -> None:
    for number in (0, 3, 4, 9):
        del members[Members.id(number)]
    assert list(members) == ids(1, 2, 5, 6, 7, 8)
    assert listed(members, 2, 2) == ids(5, 6)
    assert Members.id(3) not in members
    assert len(members) == 6


def test_changed_and_added_memberships_are_listed_in_their_place(members: Members) -> None:
    changed = members[Members.id(4)] | {"role": "org:admin"}
    members[Members.id(4)] = changed
    members["orgmem_new"] = changed | {"id": "orgmem_new", "created_at": 99_000}
    assert members[Members.id(4)]["role"] == "org:admin"
    assert listed(members, 9, 5) == [Members.id(9), "orgmem_new"]
    del members["orgmem_new"]
    assert listed(members, 9, 5) == ids(9)
