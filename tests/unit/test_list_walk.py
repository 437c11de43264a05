"""A walk through a list that shifts, from a moment of creation on: a part reported as complete misses nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.clerk.list_walk import Part, from_moment
from clerk_supabase.clerk.pages import Item, Objects, Page

NO_ANSWER = Objects(b"[]", lambda _: [])


class List:
    """A list at Clerk's: moments of creation by id, sorted."""

    def __init__(self, moments: list[int | None]) -> None:
        self.elements = [(f"orgmem_{number}", moment) for number, moment in enumerate(moments)]
        self.reads: list[int] = []
        self.before_each: Callable[[], object] = lambda: None

    def read(self, offset: int) -> Page:
        assert len(self.reads) < 200, "it never ends"
        self.before_each()
        self.reads.append(offset)
        listed = self.elements[offset : offset + 500]
        items = [Item(object_id, moment, moment, 1, NO_ANSWER, 0) for object_id, moment in listed]
        return Page(items, [], len(items), len(self.elements), 1)


def ids(parts: list[Part]) -> list[str]:
    return [item.id for part in parts for item in part.items]


@given(
    size=st.integers(0, 2_500),
    same_moment=st.integers(1, 700),
    start=st.integers(0, 3_000),
    offset=st.integers(0, 3_000),
)
def test_from_any_moment_and_any_offset_all_later_elements_are_reported_once(
    size: int, same_moment: int, start: int, offset: int
) -> None:
    clerk = List([number // same_moment for number in range(size)])
    parts = list(from_moment(clerk.read, start, offset))
    assert ids(parts) == [object_id for object_id, moment in clerk.elements if moment is not None and moment >= start]
    assert all(part.is_whole for part in parts)
    assert [part.window.start for part in parts] == [start, *(part.window.end for part in parts[:-1])]
    assert parts[-1].window.end is None
    for part in parts:
        assert all(item.created_at in part.window for item in part.items)


@pytest.mark.parametrize("leaving", [1, 19, 21, 300, 600, 900])
def test_a_user_who_stays_is_reported_or_the_part_is_not_called_complete(leaving: int) -> None:
    clerk = List(list(range(3_000)))

    def leave() -> None:
        if len(clerk.reads) in (2, 4):
            del clerk.elements[:leaving]

    clerk.before_each = leave
    parts = list(from_moment(clerk.read, 100, 90))
    for part in parts:
        if part.is_whole:
            stayed = {object_id for object_id, moment in clerk.elements if moment in part.window}
            assert stayed <= {item.id for item in part.items}
    assert parts[-1].window.end is None


def test_a_missing_time_of_clerk_makes_its_part_incomplete_and_no_other() -> None:
    moments: list[int | None] = list(range(1_500))
    moments[700] = None
    parts = list(from_moment(List(moments).read, 0, 0))
    assert [part.is_whole for part in parts] == [True, False, True, True]
    assert len(ids(parts)) == 1_500


def test_elements_without_times_are_all_reported_and_the_list_is_not_called_repeated() -> None:
    parts = list(from_moment(List([None] * 3_000).read, 0, 0))
    assert len(ids(parts)) == 3_000
    assert not any(part.is_whole or part.is_repeated for part in parts)


def test_a_server_that_ignores_the_offset_ends_the_walk() -> None:
    clerk = List(list(range(3_000)))
    parts = list(from_moment(lambda _: clerk.read(0), 0, 0))
    assert parts[-1].is_repeated
    assert not parts[-1].is_whole


@pytest.mark.parametrize("servers", [2, 3, 7])
def test_servers_that_take_turns_and_ignore_the_offset_end_the_walk(servers: int) -> None:
    clerk = List(list(range(10_000)))
    parts = list(from_moment(lambda _: clerk.read(600 * (len(clerk.reads) % servers)), 0, 0))
    assert parts[-1].is_repeated
    assert not any(part.is_whole for part in parts[1:])


@pytest.mark.parametrize("offset", [0, 480, 5_000])
def test_servers_that_take_turns_end_the_search_for_the_beginning(offset: int) -> None:
    clerk = List(list(range(10_000)))
    parts = list(from_moment(lambda _: clerk.read(5_000 * (len(clerk.reads) % 2)), 5_000, offset))
    assert not any(part.is_whole for part in parts[1:])


def test_a_list_that_shrinks_while_the_beginning_is_looked_for_is_walked_all_the_same() -> None:
    clerk = List(list(range(3_000)))

    def leave() -> None:
        if len(clerk.reads) == 1:
            # The page at the first guess ended before the moment; now it begins after it.
            del clerk.elements[:1_500]

    clerk.before_each = leave
    parts = list(from_moment(clerk.read, 1_000, 480))
    assert ids(parts) == [object_id for object_id, _ in clerk.elements]


def test_a_list_that_is_not_sorted_is_not_called_whole() -> None:
    clerk = List([*range(300), 5, *range(300, 900)])
    assert not next(from_moment(clerk.read, 0, 0)).is_whole


def test_a_list_that_shrinks_faster_than_the_walk_steps_back_is_not_called_whole() -> None:
    clerk = List(list(range(9_000)))

    def leave() -> None:
        if clerk.reads:
            del clerk.elements[:600]

    clerk.before_each = leave
    parts = list(from_moment(clerk.read, 0, 0))
    assert not parts[1].is_whole
    assert len(parts[0].items) + len(parts[1].items) < 9_000


def test_a_walk_whose_whole_last_page_was_removed_goes_back_to_an_element_that_it_told_and_stays_whole() -> None:
    clerk = List(list(range(2_000)))

    def leave() -> None:
        if len(clerk.reads) == 2:
            # Of all that was read, only the first element is left: the page that begins with it joins.
            del clerk.elements[1:980]

    clerk.before_each = leave
    parts = list(from_moment(clerk.read, 0, 0))
    assert all(part.is_whole for part in parts)
    assert {object_id for object_id, _ in clerk.elements} <= set(ids(parts))
