"""Clerk's answers are read leniently: one odd object never costs the page, and is always reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.clerk.pages import (
    Page,
    Unreadable,
    read_array,
    read_count,
    read_envelope,
    read_instance,
    read_object,
)

OBSERVED_AT = 1_700_000_000_000


def page(*elements: Any) -> Page:
    return read_array(json.dumps(elements).encode(), OBSERVED_AT)


def good(object_id: str) -> dict[str, Any]:
    return {"id": object_id, "created_at": 1, "updated_at": 2, "more": {"id": "other", "list": [1, None]}}


def test_of_each_object_its_id_and_times_are_known_and_the_rest_is_kept_as_it_came() -> None:
    [item] = page(good("user_1")).items
    assert (item.id, item.created_at, item.updated_at, item.observed_at) == ("user_1", 1, 2, OBSERVED_AT)
    assert json.loads(item.json()) == good("user_1")


def test_a_page_in_an_envelope_says_how_many_there_are_in_all() -> None:
    found = read_envelope(json.dumps({"data": [good("org_1")], "total_count": 7}).encode(), OBSERVED_AT)
    assert ([item.id for item in found.items], found.size, found.total_count) == (["org_1"], 1, 7)


@pytest.mark.parametrize(
    "odd",
    [
        *(None, 1, "user_9", [], {}),
        *({"id": value} for value in (None, 7, "", "x" * 256, "user_\0", "user_\n", "usér", ["user_9"])),
    ],
)
def test_an_element_without_a_usable_id_is_reported_and_the_others_are_read(odd: Any) -> None:
    found = page(good("user_1"), odd, good("user_2"))
    assert [item.id for item in found.items] == ["user_1", "user_2"]
    [reason] = found.odd
    assert reason.startswith("element 1: no")
    assert found.size == 3


@pytest.mark.parametrize("value", [None, "2026-01-01", -1, 1.5, True, 253_402_300_800_000, 10**30, {}, "12"])
def test_an_object_with_an_odd_time_is_kept_without_it(value: Any) -> None:
    found = page(good("user_1"), good("user_2") | {"created_at": value, "updated_at": value})
    assert [item.id for item in found.items] == ["user_1", "user_2"]
    assert (found.items[1].created_at, found.items[1].updated_at) == (None, None)
    assert found.items[0].created_at == 1
    assert found.odd == []


HOSTILE = {
    "half a surrogate pair": b'"\\ud800"',
    "not UTF-8": b'"\xff"',
    "nested too deep": b"[" * 5_000 + b"]" * 5_000,
    "not a number": b"NaN",
    "brackets in a string": b'"]}, {[ \\" ]"',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_metadata_of_a_user_hides_that_user_or_others(text: bytes) -> None:
    objects = b'{"id":"user_1"} , {"unsafe_metadata": {"x":%s}, "id" : "user_2","created_at":5 },{"id":"user_3"}' % text
    for found in (
        read_array(b" [%s] " % objects, OBSERVED_AT),
        read_envelope(b'{"total_count":3, "data":[%s]}' % objects, OBSERVED_AT),
    ):
        assert [item.id for item in found.items] == ["user_1", "user_2", "user_3"]
        assert (found.items[1].created_at, found.odd, found.size) == (5, [], 3)
        assert text in found.items[1].json()
    with pytest.raises(Unreadable):
        read_array(b"[" + objects, OBSERVED_AT)


@given(cut=st.integers(1, 120))
def test_a_page_that_is_cut_off_anywhere_is_never_mistaken_for_a_complete_one(cut: int) -> None:
    body = b'[{"id":"user_1","bio":"}]"},{"id":"user_2","bio":"\\ud800 }]}]","x":[{},"]"]}]'
    if cut < len(body):
        with pytest.raises(Unreadable):
            read_array(body[:-cut], OBSERVED_AT)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[{}", b'[{"id":"user_1"}', b"{}", b"null", b'{"data":[]}', b"[]]"])
def test_an_answer_that_is_cut_off_or_no_list_is_not_mistaken_for_a_short_page(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_array(body, OBSERVED_AT)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data":[]}', b'{"data":[],"total_count":null}', b'{"data":{},"total_count":1}']
)
def test_an_envelope_without_its_data_or_its_count_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_envelope(body, OBSERVED_AT)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"total_count":-1}', b'{"total_count":"3"}', b"3"])
def test_a_count_that_is_none_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_count(body, OBSERVED_AT)


def test_a_single_object_is_kept_as_it_came() -> None:
    body = b'{"id":"user_1", "updated_at":7, "field_of_tomorrow":[1.0]}'
    found = read_object(body, OBSERVED_AT)
    assert (found.id, found.updated_at, found.observed_at, found.json()) == ("user_1", 7, OBSERVED_AT, body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id":7}', b'{"id":""}'])
def test_an_object_without_an_id_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_object(body, OBSERVED_AT)


def test_an_instance_with_unknown_fields_is_read() -> None:
    found = read_instance(b'{"id":"ins_1","environment_type":"production","new":1}', OBSERVED_AT)
    assert (found.id, found.environment_type) == ("ins_1", "production")


simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(simple, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=5)


@given(elements=st.lists(anything | st.fixed_dictionaries({"id": anything, "created_at": anything})))
def test_every_element_of_a_page_is_read_or_reported(elements: list[Any]) -> None:
    found = page(*elements)
    assert found.size == len(elements) == len(found.items) + len(found.odd)


def test_items_share_one_reading_of_their_answer() -> None:
    items = page(good("user_1"), good("user_2"), good("user_3")).items
    bodies: list[bytes] = []

    def ids_but_the_last(body: bytes) -> list[str]:
        bodies.append(body)
        return [each["id"] for each in json.loads(body)[:-1]]

    assert [item.read(ids_but_the_last) for item in items] == ["user_1", "user_2", None]
    assert len(bodies) == 1
