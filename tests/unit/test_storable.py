"""Parts of an object that cannot be read or stored are left out, alike in every function; all others are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.model.changes import Changes, Upsert, changes_of, changes_of_object
from clerk_supabase.model.clerk_object import DEEPEST, LONGEST_INDEXED, NO_VERSION
from clerk_supabase.model.events import LARGEST_ODD, parse_event, subject_of
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.json_split import fields
from clerk_supabase.model.storable import UNREADABLE, read_parts
from clerk_supabase.postgres.batch import as_json, element_of
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.billing.objects import PLANS, plan_of_api
from clerk_supabase_cli.standin.samples import Json
from tests.kit.examples import samples_of
from tests.kit.hostile import ANYTHING, VALUES, Place, free_places, put, raw
from tests.kit.kinds import LATER

AT = 1_700_000_000_000
TIMES = {"created_at": AT, "updated_at": AT}
USER = samples.user("user_1", **TIMES)
ORGANIZATION = samples.organization("org_1", **TIMES)
OBJECTS: dict[Kind, list[tuple[str, Json]]] = {
    "user": [("user.updated", USER)],
    "organization": [("organization.updated", ORGANIZATION)],
    "membership": [("organizationMembership.updated", samples.membership("orgmem_1", ORGANIZATION, USER, **TIMES))],
    **{kind: events for kind in LATER if (events := samples_of(kind, at=AT))},
}


def by_webhook(event_type: str, data: Json, **envelope: Any) -> Changes:
    body = msgspec.json.encode(samples.event(event_type, data, timestamp=AT) | envelope)
    return changes_of(parse_event(body), AT, keep_private_metadata=True)


def by_the_api(kind: Kind, data: Json) -> Changes:
    return changes_of_object(kind, msgspec.json.encode(data), AT, AT, keep_private_metadata=True)


def content(**fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    changes = by_webhook("user.updated", USER | fields)
    assert isinstance(changes.main, Upsert)
    return dict(changes.main.content), changes.dropped


def json_object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in members.items()) + "}"


names = st.sampled_from(['"id"', '"status"', '"x"', r'"\u0000"', r'"\udfff"'])
anything = st.recursive(
    st.sampled_from(ANYTHING),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]")
        | st.dictionaries(names, inner, max_size=3).map(json_object)
    ),
    max_leaves=4,
).map(raw)


def fields_of(kind: Kind, good: Json) -> list[Place]:
    """The fields that another value may replace: any field of a kind that is never parked for its fields."""
    if kind in LATER:
        return list(free_places(good))
    return [(name,) for name in good if name not in ("id", "updated_at")]


@pytest.mark.parametrize("kind", list(OBJECTS))
@settings(max_examples=40)
@given(data=st.data())
def test_a_webhook_and_a_read_leave_the_same_of_any_object(kind: Kind, data: st.DataObject) -> None:
    event_type, good = data.draw(st.sampled_from(OBJECTS[kind]))
    fields = [("field_of_tomorrow",), *fields_of(kind, good)]
    sent = good
    for path in data.draw(st.lists(st.sampled_from(fields), max_size=4)):
        sent = put(sent, path, data.draw(anything))
    # Members beside an object must make no difference, either.
    envelope = data.draw(st.dictionaries(st.sampled_from(["event_attributes", "more"]), anything))
    try:
        read = by_the_api(kind, sent)
    except UnusableEvent as error:
        reason = str(error)
        if kind not in LATER:
            with pytest.raises(UnusableEvent, match=reason.split(":", maxsplit=1)[0]):
                by_webhook(event_type, sent, **envelope)
            return
        # An answer of Clerk without a version is no state of a moment; an event has the moment of the event.
        read = by_webhook(event_type, sent, **envelope)
        assert isinstance(read.main, Upsert)
        assert (reason, read.main.version) == (NO_VERSION, (AT, AT))
    else:
        assert by_webhook(event_type, sent, **envelope) == read
    for change in (read.main, *read.companions):
        text = as_json(element_of(change))
        # Strict JSON without NUL, so Postgres takes it.
        assert msgspec.json.decode(text)
        assert r"\u0000" not in text


@settings(max_examples=40)
@given(data=st.data())
def test_an_answer_about_a_plan_is_read_whatever_its_fields_hold(data: st.DataObject) -> None:
    sent = plan_of_api(PLANS["team"])
    for path in data.draw(st.lists(st.sampled_from(fields_of("plan", sent)), max_size=4)):
        sent = put(sent, path, data.draw(anything))
    read = by_the_api("plan", sent).main
    assert isinstance(read, Upsert)
    assert r"\u0000" not in as_json(element_of(read))


def test_of_metadata_only_the_members_go_that_cannot_be_stored() -> None:
    members = ",".join(f'"{number}":{text}' for number, text in enumerate(VALUES.values()))
    metadata = raw(f'{{"first":[1.0,{{"deep":null}}],{members},"last":"\\u00e9"}}')
    kept = {"first": [1.0, {"deep": None}], "last": "é"}
    found, dropped = content(unsafe_metadata=metadata, public_metadata=metadata)
    assert (found["unsafe_metadata"], found["public_metadata"]) == (kept, kept)
    assert dropped == ("public_metadata", "unsafe_metadata")


def test_of_a_list_only_the_elements_go_that_cannot_be_stored() -> None:
    address = json.dumps(samples.email_address("idn_1", "ada@example.test", AT))
    other = json.dumps(samples.email_address("idn_2", "HERE", AT))
    for text in VALUES.values():
        addresses = raw(f"[{other.replace(json.dumps('HERE'), text)},{address}]")
        found, dropped = content(email_addresses=addresses, primary_email_address_id="idn_1")
        assert (found["email"], found["email_verified"], len(found["email_addresses"])) == ("ada@example.test", True, 1)
        assert dropped == ("email_addresses",)


def test_a_primary_address_that_is_left_out_is_neither_there_nor_verified() -> None:
    found, _ = content(
        email_addresses=raw(r'[{"id":"idn_1","email_address":"a\u0000","verification":{"status":"verified"}}]'),
        primary_email_address_id="idn_1",
    )
    assert (found["email"], found["email_verified"]) == (None, False)


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_fields_that_are_not_mirrored_are_not_read(text: str) -> None:
    inside = raw(f'[{{"id":"eac_1","provider":"oauth_google","label":{text},"public_metadata":{{"x":{text}}}}}]')
    found, dropped = content(passkeys=raw(text), scim=raw(text), field_of_tomorrow=raw(text), external_accounts=inside)
    assert [each["id"] for each in found["external_accounts"]] == ["eac_1"]
    assert dropped == ()


def test_a_part_of_no_interest_that_no_parser_takes_does_not_hide_one_that_cannot_be_stored() -> None:
    found, dropped = content(first_name="a\0", passkeys=raw(r'"\ud800"'))
    assert (found["first_name"], dropped) == (None, ("first_name",))


def test_the_deepest_metadata_are_kept_and_what_is_deeper_is_not() -> None:
    for depth in range(DEEPEST - 2, DEEPEST + 3):
        found, dropped = content(unsafe_metadata=raw('{"x":%s}' % ("[" * depth + "]" * depth)))
        assert bool(found["unsafe_metadata"]) is (depth <= DEEPEST) is (dropped == ())


def test_many_brackets_are_not_mistaken_for_depth() -> None:
    many: Json = {"list": [[number] for number in range(1_000)]}
    assert content(unsafe_metadata=many) == (content()[0] | {"unsafe_metadata": many}, ())


@pytest.mark.parametrize("text", ["Infinity", "NaN", "\\u0000", "-Infinity, NaN", "\\\\u0000"])
def test_words_that_only_look_hostile_are_kept(text: str) -> None:
    found, dropped = content(unsafe_metadata={text: [text]}, first_name=text)
    assert (found["unsafe_metadata"], found["first_name"], dropped) == ({text: [text]}, text, ())


def test_a_name_that_an_index_cannot_hold_is_left_out() -> None:
    for length in (LONGEST_INDEXED, LONGEST_INDEXED + 1):
        found, dropped = content(username="😀" * length, first_name="😀" * length)
        assert found["first_name"] == "😀" * length
        assert (found["username"] is None) is (dropped == ("username",)) is (length > LONGEST_INDEXED)


def test_of_two_fields_with_one_name_the_last_counts_in_every_function() -> None:
    twice = msgspec.json.encode(USER | {"banned": True})[:-1] + b',"ban\\u006eed":false,"x":"\\ud800"}'
    read = changes_of_object("user", twice, AT, AT).main
    assert isinstance(read, Upsert)
    assert read.content["banned"] is False


def test_the_subject_of_an_event_is_known_though_a_part_of_it_is_unreadable() -> None:
    body = msgspec.json.encode(
        samples.event("user.updated", USER | {"unsafe_metadata": raw('"\\ud800"')}, timestamp=AT)
    )
    assert (subject_of(body).event_type, subject_of(body).user_id) == ("user.updated", "user_1")


@pytest.mark.parametrize("text", ["", "{", "[1,", '{"a"}', "\ud800", '"', "nonsense"])
def test_a_text_that_is_no_json_is_unreadable(text: str) -> None:
    assert read_parts(text.encode(errors="surrogatepass")) is UNREADABLE


# Time

MANY: dict[str, tuple[str, str, str]] = {
    "brackets": ("unsafe_metadata", '{"a":HERE}', "["),
    "lists": ("unsafe_metadata", '{"a":[HERE' + "[" * 300 + "]" * 300 + "]}", "[],"),
    "members": ("unsafe_metadata", '{HERE"a":"\\ud800"}', '"a":1e400,'),
    "accounts": ("external_accounts", '[HERE{"id":"\\ud800"}]', '{"id":"\\ud800"},'),
    "addresses": ("email_addresses", '[HERE{"email_address":[]}]', '{"email_address":[]},'),
}


def body_of(name: str, size: int) -> bytes:
    """An event of about this size, mostly one field of many parts."""
    field, around, part = MANY[name]
    parts = part * (size // len(part)) if part != "[" else "[" * (size // 2) + "]" * (size // 2)
    data = USER | {field: raw(around.replace("HERE", parts))}
    return msgspec.json.encode(samples.event("user.updated", data, timestamp=AT))


def processor_time(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


@pytest.mark.parametrize("name", MANY)
def test_a_large_event_of_many_odd_parts_does_not_hold_up_the_others_of_its_batch(name: str) -> None:
    body = body_of(name, 1_000_000)

    def refused() -> None:
        with pytest.raises(UnusableEvent):
            changes_of(parse_event(body), AT)

    # To go through it once takes a quarter of a second of a whole processor; without a bound it took thirty times that.
    # Brackets alone take no time.
    once = max(processor_time(lambda: fields(body)), 0.1)
    assert processor_time(refused) < 5 * once
    assert processor_time(lambda: subject_of(body)) < 10 * once
    assert subject_of(body).user_id == "user_1"


@pytest.mark.parametrize("text", [r"\u0000", r"\ud800"])
def test_an_event_is_looked_through_up_to_a_size_that_belongs_to_it(text: str) -> None:
    body = msgspec.json.encode(samples.event("user.updated", USER | {"first_name": raw(f'"{text}"')}, timestamp=AT))
    assert changes_of(parse_event(body.ljust(256 * 1024)), AT).dropped == ("first_name",)
    with pytest.raises(UnusableEvent):
        changes_of(parse_event(body.ljust(256 * 1024 + 1)), AT)


def test_the_member_that_an_event_is_about_is_looked_for_up_to_that_size() -> None:
    member: Json = {"user_id": "user_1", "first_name": raw(r'"\ud800"')}
    data: Json = {"id": "orgmem_1", "public_user_data": member}
    body = msgspec.json.encode(samples.event("organizationMembership.updated", data, timestamp=AT))
    assert subject_of(body.ljust(LARGEST_ODD)).user_id == "user_1"
    assert subject_of(body.ljust(LARGEST_ODD + 1)).object_id == "orgmem_1"
    assert subject_of(body.ljust(LARGEST_ODD + 1)).user_id is None


@pytest.mark.parametrize("name", MANY)
def test_values_of_users_are_left_out_of_the_largest_events_of_clerk(name: str) -> None:
    body = body_of(name, LARGEST_ODD - 10_000)
    changes = changes_of(parse_event(body), AT)
    assert (changes.main.id, changes.dropped) == ("user_1", (MANY[name][0],))
