"""A walk through a list while others write to it: each object is reported complete, and only once."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.clerk.pages import Item, Objects, Page, read_array
from clerk_supabase.clerk.walk import Stretch, Window, _cut, by_creation, by_offset
from clerk_supabase.errors import ClerkKeyRejected, ClerkRejected, ClerkUnavailable

SIZE = 4


def page_of(users: list[tuple[int, str]]) -> Page:
    return read_array(json.dumps([{"id": name, "created_at": at, "updated_at": at} for at, name in users]).encode(), 1)


class Users:
    """Clerk's list of users, as (created_at, id), and the changes made to it before the next page."""

    def __init__(self, moments: list[int], *, inclusive: bool = False) -> None:
        self.all = sorted((at, f"user_{number:03}") for number, at in enumerate(moments))
        self.inclusive = inclusive
        self.before_page: Callable[[], object] = lambda: None
        self.pages = 0

    def read(self, window: Window, cursor: str | None) -> Page:
        self.before_page()
        self.pages += 1
        found = self.all
        if cursor is not None:
            places = [place for place, (_, name) in enumerate(found) if name == cursor]
            if not places:
                raise ClerkRejected("no such cursor")
            found = found[places[0] + 1 :]
        low, high = window.start - (0 if not self.inclusive else 1), window.end
        found = [(at, name) for at, name in found if at >= low]
        if high is not None:
            found = [(at, name) for at, name in found if at < high or (self.inclusive and at == high)]
        return page_of(found[:SIZE])


def walked(users: Users, window: Window) -> list[Stretch]:
    return list(by_creation(users.read, window, SIZE))


def names(stretches: list[Stretch]) -> list[str]:
    return [item.id for stretch in stretches for item in stretch.items]


moments = st.lists(st.integers(1, 12), max_size=20)


@given(moments=moments, start=st.integers(0, 6), length=st.none() | st.integers(0, 8), inclusive=st.booleans())
def test_a_walk_reports_everybody_in_its_window_once_whatever_the_bounds_of_clerk_mean(
    moments: list[int], start: int, length: int | None, inclusive: bool
) -> None:
    window = Window(start, None if length is None else start + length)
    users = Users(moments, inclusive=inclusive)
    assert names(walked(users, window)) == [name for at, name in users.all if at in window]


@given(moments=moments, inclusive=st.booleans())
def test_stretches_follow_each_other_without_a_gap_and_never_split_a_moment(
    moments: list[int], inclusive: bool
) -> None:
    stretches = walked(Users(moments, inclusive=inclusive), Window(1, 13))
    assert stretches[0].window.start == 1
    assert stretches[-1].window.end == 13
    for one, next_one in pairwise(stretches):
        assert one.window.end == next_one.window.start
    for stretch in stretches:
        assert all(item.created_at in stretch.window for item in stretch.items)


@given(moments=moments, seed=st.integers())
def test_users_deleted_between_two_pages_the_one_at_the_cursor_too_cost_nobody_else(
    moments: list[int], seed: int
) -> None:
    users, chance = Users(moments), Random(seed)
    gone: set[str] = set()

    def delete_some() -> None:
        for each in chance.sample(users.all, k=min(len(users.all), chance.choice((0, 0, 1, 2)))):
            users.all.remove(each)
            gone.add(each[1])

    everybody = {name for _, name in users.all}
    users.before_page = delete_some
    try:
        told = names(walked(users, Window()))
    except ClerkRejected:
        # Again and again without getting any further.
        assert users.pages > 3
        return
    assert len(told) == len(set(told))
    assert set(told) | gone == everybody


@pytest.mark.parametrize("at_once", [1, 9])
def test_users_created_while_one_reads_are_met_at_the_end(at_once: int) -> None:
    users = Users([1, 2, 3, 4, 5, 6])

    def create() -> None:
        if users.pages == 1:
            users.all += [(7, f"user_9{number}") for number in range(at_once)]

    users.before_page = create
    assert len(names(walked(users, Window()))) == 6 + at_once


def test_a_list_that_never_knows_a_cursor_again_is_walked_moment_by_moment() -> None:
    users = Users(list(range(1, 40)))

    def read(window: Window, cursor: str | None) -> Page:
        if cursor:
            raise ClerkRejected("no such cursor")
        return users.read(window, None)

    assert names(list(by_creation(read, Window(), SIZE))) == [name for _, name in users.all]


def test_a_list_that_ignores_the_cursor_is_not_walked_in_circles() -> None:
    users = Users(list(range(1, 10)))
    with pytest.raises(ClerkUnavailable, match="do not follow"):
        list(by_creation(lambda *_: users.read(Window(), None), Window(), SIZE))


def test_a_list_in_another_order_is_not_trusted() -> None:
    with pytest.raises(ClerkUnavailable, match="not in order"):
        list(by_creation(lambda *_: page_of([(2, "user_b"), (1, "user_a")]), Window(), SIZE))


def test_a_rejected_key_is_not_mistaken_for_a_lost_cursor() -> None:
    users = Users(list(range(1, 10)))

    def read(window: Window, cursor: str | None) -> Page:
        if cursor:
            raise ClerkKeyRejected
        return users.read(window, cursor)

    with pytest.raises(ClerkKeyRejected):
        list(by_creation(read, Window(), SIZE))
    assert users.pages == 1


def test_a_user_without_a_time_of_creation_is_reported_with_its_page() -> None:
    odd = read_array(b'[{"id":"user_a","created_at":1},{"id":"user_odd"},{"created_at":2}]', 1)
    [stretch] = by_creation(lambda *_: odd, Window(), SIZE)
    assert [item.id for item in stretch.items] == ["user_a", "user_odd"]
    assert stretch.odd == ["element 2: no usable id"]


def test_a_whole_page_without_ids_ends_the_walk_with_an_error() -> None:
    with pytest.raises(ClerkUnavailable, match="without a usable id"):
        list(by_creation(lambda *_: read_array(b"[{},{},{},{}]", 1), Window(), SIZE))


# Lists without a cursor


def listed(total: int, overlap: int, delete_before: dict[int, int] | None = None) -> list[Page]:
    users = [(at, f"org_{at:03}") for at in range(total)]
    pages = 0

    def read(offset: int) -> Page:
        nonlocal pages
        pages += 1
        del users[: (delete_before or {}).get(pages, 0)]
        return page_of(users[offset : offset + SIZE])

    return list(by_offset(read, SIZE, overlap))


@given(total=st.integers(0, 30), overlap=st.integers(1, SIZE - 1))
def test_pages_by_offset_join_and_miss_nobody(total: int, overlap: int) -> None:
    pages = listed(total, overlap)
    assert len({item.id for page in pages for item in page.items}) == total
    assert all(page.joins for page in pages)


@given(total=st.integers(SIZE + 1, 30), overlap=st.integers(1, SIZE - 1), deletes=st.integers(1, SIZE))
def test_when_more_rows_go_than_pages_overlap_the_page_says_so(total: int, overlap: int, deletes: int) -> None:
    pages = listed(total, overlap, {2: deletes})
    assert pages[1].joins is (deletes < overlap)
    missed = total - len({item.id for page in pages for item in page.items})
    if pages[1].joins:
        assert missed == 0


def test_an_item_without_a_moment_is_told_and_those_of_the_last_moment_are_held() -> None:
    items = [
        Item(f"user_{moment}", moment, moment, 1, Objects(b"[]", lambda _: []), 0) for moment in (1, 2, None, 3, 3)
    ]
    told, held = _cut(items, 3)
    assert [each.created_at for each in told] == [1, 2, None]
    assert [each.created_at for each in held] == [3, 3]
