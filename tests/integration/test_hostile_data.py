"""Every signed body ends applied or parked with a reason, alone: no crash, no blocked batch, no 5xx.

`clerk_fields.json` has the names and types of the fields of all synced objects, from Clerk's own description:
https://github.com/clerk/openapi-specs (webhooks/2025-04-15).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.events import LARGEST_ODD
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.examples import samples_of
from tests.kit.histories import CREATED_AT
from tests.kit.hostile import LONG, VALUES, Place, free_places, put
from tests.kit.hostile import raw as as_it_is
from tests.kit.kinds import LATER
from tests.kit.pipeline import MAX_BODY_BYTES, Pipeline

FIELDS: dict[str, dict[str, str]] = json.loads((Path(__file__).parents[1] / "clerk_fields.json").read_text())
TIMES = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 1}
PRIVATE = "Zq7-private"
TOO_LARGE = 413

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def store(shared_database: Database) -> Iterator[Store]:
    with closing(Store(Fixed(shared_database.worker_url))) as store:
        yield store


@pytest.fixture(scope="module")
def admin(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


# Valid objects, one of every kind, with every field and one of everything in every list


def good(kind: str) -> Json:
    """A valid event about an object of its own."""
    number = next(_numbers)
    org = samples.organization(f"org_{number}", **TIMES)
    member = samples.user(f"user_{number}", **TIMES)
    verification = samples.email_address("", "", CREATED_AT)["verification"]
    phone = {"id": "idn_p", "object": "phone_number", "phone_number": "+15550100", "verification": verification}
    wallet = {"id": "idn_w", "object": "web3_wallet", "web3_wallet": "0x0", "verification": verification}
    account = {"id": "eac_1", "object": "google_account", "provider": "oauth_google", "verification": verification}
    domain = samples.domain(f"orgdmn_{number}", f"org_{number}", **TIMES)
    verified = dict.fromkeys(("affiliation_verification", "ownership_verification", "verification"), verification)
    event_type, data = {
        "User": (
            "user.updated",
            member | {"phone_numbers": [phone], "web3_wallets": [wallet], "external_accounts": [account]},
        ),
        "Organization": ("organization.updated", org),
        "OrganizationMembership": (
            "organizationMembership.updated",
            samples.membership(f"orgmem_{number}", org, member, **TIMES),
        ),
        "OrganizationInvitation": (
            "organizationInvitation.created",
            samples.invitation(f"orginv_{number}", f"org_{number}", **TIMES),
        ),
        "OrganizationDomain": ("organizationDomain.updated", domain | verified),
        "DeletedObject": ("user.deleted", samples.deleted("user", f"user_{number}")),
    }[kind]
    return samples.event(event_type, data, timestamp=CREATED_AT + 1)


KINDS = [
    "User",
    "Organization",
    "OrganizationMembership",
    "OrganizationInvitation",
    "OrganizationDomain",
    "DeletedObject",
]


def places(object_name: str, path: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every field of an object and of the objects inside it: its path, and its type."""
    for name, type_name in FIELDS[object_name].items():
        here = (*path, name)
        yield here, type_name
        inner = type_name.removesuffix("[]")
        if inner in FIELDS:
            yield from places(inner, (*here, 0) if type_name.endswith("[]") else here)


PLACES = [(kind, ("data", *path), type_name) for kind in KINDS for path, type_name in places(kind)]
PLACES += [("User", path, type_name) for path, type_name in places("Event")]


# Invalid bodies

WRONG: dict[str, list[Any]] = {
    "string": [7, True, [PRIVATE], {PRIVATE: PRIVATE}, 1.5, 98765432109876543210],
    "boolean": [PRIVATE, 7, [PRIVATE], {PRIVATE: PRIVATE}, -1, 1.5],
    "integer": [PRIVATE, True, [PRIVATE], {PRIVATE: PRIVATE}, 1.5, -987654321, 98765432109876543210, 1e300],
    "int64": [PRIVATE, True, [PRIVATE], {PRIVATE: PRIVATE}, 1.5, -987654321, 98765432109876543210, 1e300],
    "object": [PRIVATE, True, [PRIVATE], 7, [[]]],
    "array": [PRIVATE, True, {PRIVATE: PRIVATE}, 7, [PRIVATE], [7], [None], [[]], [{}]],
}
HOSTILE: list[Any] = [
    *(
        None,
        "",
        f"{PRIVATE}\x00",
        f"{PRIVATE}\ud800",
        f"{PRIVATE}\udc00\ud800",
        float("nan"),
        float("inf"),
        float("-inf"),
    ),
    *({PRIVATE: {"\x00": 1}}, {PRIVATE: [float("nan")]}, {f"{PRIVATE}\ud800": 1}, [f"{PRIVATE}\x00"]),
    *(2**31, 2**63, 2**64, -(2**63), 10**400, 0, -1, 32_503_680_000_000, 253_402_300_799_999, 253_402_300_800_000),
    *(PRIVATE * 400, f"'; drop table clerk.users; -- {PRIVATE}", f"{PRIVATE}\u202e\ufffe\n", {}, []),
]


def wrong_for(type_name: str) -> list[Any]:
    """Values of other types than the type of a field."""
    if type_name.endswith("[]"):
        return WRONG["array"]
    return WRONG.get(type_name, WRONG["object"])


def travel(pipeline: Pipeline, bodies: dict[str, str], admin: Connection) -> dict[str, str]:
    """Sends the events as one batch between valid ones; returns `applied`, `ignored` or the reason for parking.

    Also asserts the conditions that must always hold.
    """
    neighbours = {f"msg_good_{next(_numbers)}": json.dumps(good(kind)) for kind in ("User", "OrganizationMembership")}
    first, last = neighbours.items()
    ends: dict[str, str] = {}
    for svix_id, body in [first, *bodies.items(), last]:
        status = pipeline.post(body, svix_id).status
        assert status in (200, 202, TOO_LARGE), svix_id
        if status != 202:
            ends[svix_id] = "ignored" if status == 200 else "too large"
    assert pipeline.drain() == []
    parked = pipeline.parked(admin)
    known: dict[str, str] = dict(
        rows(admin, "select svix_id, outcome from clerk_sync.deliveries where svix_id = any(%s)", [*bodies])
    )
    assert not parked.keys() & known.keys()
    ends |= {svix_id: f"parked: {reason}" for svix_id, reason in parked.items()} | dict.fromkeys(known, "applied")
    assert ends.keys() == bodies.keys()
    for svix_id in neighbours:
        assert value(admin, "select outcome from clerk_sync.deliveries where svix_id = %s", svix_id) == "created"
    for reason in parked.values():
        assert len(reason) > len("parked: ")
        assert "zq7" not in reason.lower()
        assert "987654321" not in reason
        assert "drop table" not in reason
    return ends


def batches(bodies: dict[str, str]) -> Iterator[dict[str, str]]:
    """As many at once as Lambda hands over; a longer queue in memory is slow, too."""
    waiting = iter(bodies.items())
    while batch := dict(itertools.islice(waiting, 10)):
        yield batch


def sent(event: object) -> dict[str, str]:
    """One body with an svix id of its own."""
    return {f"msg_{next(_numbers)}": json.dumps(event)}


# Every field


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_another_type_in_any_field_is_applied_or_parked_alone(
    kind: str, pipeline: Pipeline, admin: Connection
) -> None:
    mine = [(path, type_name) for place_kind, path, type_name in PLACES if place_kind == kind]
    bodies: dict[str, str] = {}
    for turn, (path, type_name) in enumerate(mine):
        # Two of the wrong types here, the others in the next fields of the same type.
        for wrong in itertools.islice(itertools.cycle(wrong_for(type_name)), 2 * turn, 2 * turn + 2):
            bodies |= sent(put(good(kind), path, wrong))
    ends = [end for batch in batches(bodies) for end in travel(pipeline, batch, admin).values()]
    assert "applied" in ends
    assert any(end.startswith("parked: ") for end in ends)


@settings(
    max_examples=25,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_hostile_values_in_any_fields_are_applied_or_parked_alone(
    data: st.DataObject, pipeline: Pipeline, admin: Connection
) -> None:
    def mutated() -> Json:
        kind = data.draw(st.sampled_from(KINDS))
        event = good(kind)
        mine = [(path, type_name) for place_kind, path, type_name in PLACES if place_kind == kind]
        for _ in range(data.draw(st.integers(1, 4))):
            path, type_name = data.draw(st.sampled_from(mine))
            event = put(event, path, data.draw(st.sampled_from([*HOSTILE, *wrong_for(type_name)])))
        return event

    bodies: dict[str, str] = {}
    for _ in range(8):
        bodies |= sent(mutated())
    travel(pipeline, bodies, admin)


@pytest.mark.parametrize("kind", [kind for kind in LATER if FACTS[kind].verbs])
def test_a_value_of_any_type_in_any_field_parks_no_event_of_a_kind_that_clients_do_not_write(
    kind: Kind, pipeline: Pipeline, admin: Connection
) -> None:
    event_type, good = samples_of(kind, at=CREATED_AT)[0]
    fields = [*free_places(good)]
    leaves = [each for each in fields if not any(other[: len(each)] == each != other for other in fields)]
    bodies: dict[str, str] = {}
    for text in (json.dumps(LONG), VALUES["NUL"], "7", "true", '"text"', "[null]"):
        # In many fields at once, of an event that is not too large to be searched for odd values.
        step = LARGEST_ODD // 2 // len(text)
        for start in range(0, len(leaves), step):
            number = next(_numbers)
            data: Json = {**good, "id": f"{kind}_{number}"}
            for place in leaves[start : start + step]:
                data = put(data, place, as_it_is(text))
            event = samples.event(event_type, data, timestamp=CREATED_AT)
            bodies[f"msg_{number}"] = msgspec.json.encode(event).decode()
    ends = [end for batch in batches(bodies) for end in travel(pipeline, batch, admin).values()]
    assert {*ends} == {"applied"}


def test_any_type_of_event_with_any_object_is_applied_parked_or_ignored(pipeline: Pipeline, admin: Connection) -> None:
    types = [
        *("user.created", "user.deleted", "organization.updated", "organization.deleted"),
        *("organizationMembership.created", "organizationMembership.deleted", "organizationInvitation.revoked"),
        *("organizationDomain.updated", "organizationDomain.deleted", "session.created", "user", "", "USER.CREATED"),
    ]
    bodies: dict[str, str] = {}
    for event_type, kind in itertools.product(types, KINDS):
        bodies |= sent(good(kind) | {"type": event_type})
    for batch in batches(bodies):
        travel(pipeline, batch, admin)


# One by one


def user_with(**fields: Any) -> Json:
    event = good("User")
    event["data"] |= fields
    return event


def raw(event: Json, placeholder: str, text: str) -> str:
    """The event with a text of JSON in place of a string."""
    body = json.dumps(event)
    assert f'"{placeholder}"' in body
    return body.replace(f'"{placeholder}"', text)


def nested(depth: int) -> str:
    return raw(user_with(public_metadata={"note": "here"}), "here", "[" * depth + "]" * depth)


def number(text: str, name: str = "public_metadata") -> str:
    return raw(user_with(**{name: {"n": "here"}}), "here", text)


def embedded(**fields: Any) -> str:
    event = good("OrganizationMembership")
    event["data"]["organization"] |= fields
    return json.dumps(event)


APPLIED = {
    "a number over 64 bits in metadata": number("98765432109876543210987654321"),
    "a number of four thousand digits": number("9" * 4_000),
    "a very small number": number("1e-300"),
    "nested a hundred deep": nested(100),
    "a name with every odd character but NUL": json.dumps(user_with(first_name="\u202e\ufffe\uffff\x7f\x01\t\n 😀")),
    "metadata of 700 kB": json.dumps(user_with(unsafe_metadata={"note": "é" * 120_000})),
    "an id that is SQL": json.dumps(user_with(id="'; drop table clerk.users; --")),
    "an id of odd characters": json.dumps(user_with(id=" \n\t😀%_\\")),
    "the longest id": json.dumps(user_with(id="😀" * 255)),
    "created in 1970": json.dumps(user_with(created_at=0)),
    "updated in 1970": json.dumps(user_with(updated_at=0)),
    "created in 2999": json.dumps(user_with(created_at=32_503_680_000_000)),
    "told in 1970": json.dumps(user_with() | {"timestamp": 0}),
    "a field twice": json.dumps(user_with()).replace('"locked": false', '"locked": false, "locked": true'),
    "fields nobody knows": json.dumps(user_with(**{f"field_{n}": {"deep": [n]} for n in range(1_000)})),
    "nested ten thousand deep where nobody looks": raw(user_with(passkeys="here"), "here", "[" * 10_000 + "]" * 10_000),
    "objects nested ten thousand deep": raw(user_with(scim="here"), "here", '{"a":' * 10_000 + "1" + "}" * 10_000),
}
WITHOUT_A_PART = {
    "NUL in a name": json.dumps(user_with(first_name=f"{PRIVATE}\x00")),
    "NUL in metadata": json.dumps(user_with(public_metadata={"note": f"{PRIVATE}\x00"})),
    "NUL in a name of metadata": json.dumps(user_with(public_metadata={f"{PRIVATE}\x00": 1})),
    "NUL in private metadata": json.dumps(user_with(private_metadata={"note": f"{PRIVATE}\x00"})),
    "NUL in an embedded organization": embedded(name=f"{PRIVATE}\x00"),
    "half a surrogate pair": json.dumps(user_with(first_name=f"{PRIVATE}\ud800")),
    "not a number": number("NaN"),
    "infinity": number("Infinity", "unsafe_metadata"),
    "minus infinity in private metadata": number("-Infinity", "private_metadata"),
    "a number beyond all bounds": number("1e999999"),
    "a number of ten thousand digits": number("9" * 10_000),
    "nested a thousand deep": nested(1_000),
    "nested ten thousand deep": nested(10_000),
    "a name too long for its index": json.dumps(user_with(username=PRIVATE + "".join(map(str, range(30_000))))),
}
PARKED = {
    "NUL in an id": json.dumps(user_with(id=f"{PRIVATE}\x00")),
    "NUL in a permission": json.dumps(good("OrganizationMembership")).replace("org:sys_", f"{PRIVATE}\\u0000"),
    "half a surrogate pair in an id": json.dumps(user_with(id=f"{PRIVATE}\udfff")),
    "a version over 64 bits": json.dumps(user_with(updated_at=2**64)),
    "a version that is not a number": raw(user_with(updated_at="here"), "here", "NaN"),
    "a time of infinity": raw(user_with() | {"timestamp": "here"}, "here", "-Infinity"),
    "a limit over 32 bits": json.dumps(put(good("Organization"), ("data", "max_allowed_memberships"), 2**31)),
    "an empty id": json.dumps(user_with(id="")),
    "an id of 10 kB": json.dumps(user_with(id=PRIVATE * 1_000)),
    "an embedded id of 10 kB": embedded(id=PRIVATE * 1_000),
    "an embedded id that is empty": embedded(id=""),
    "told in 2999": json.dumps(user_with() | {"timestamp": 32_503_680_000_000}),
    "updated in 2999": json.dumps(user_with(updated_at=32_503_680_000_000)),
    "deleted in 2999": json.dumps(good("DeletedObject") | {"timestamp": 32_503_680_000_000}),
    "after the end of all calendars": json.dumps(user_with(created_at=10**18)),
    "before 1970": json.dumps(user_with(updated_at=-1)),
    "a ban that is none": json.dumps(user_with(banned=None)),
    "public metadata that are none": json.dumps(user_with(public_metadata=[PRIVATE])),
    "NUL in an external id": json.dumps(user_with(external_id=f"{PRIVATE}\x00")),
    "a role with NUL": json.dumps(put(good("OrganizationMembership"), ("data", "role"), "org:admin\x00")),
    "a role that is none": json.dumps(put(good("OrganizationMembership"), ("data", "role"), ["org:admin"])),
}


@pytest.mark.parametrize("body", APPLIED.values(), ids=APPLIED)
def test_a_strange_but_valid_event_is_applied(body: str, pipeline: Pipeline, admin: Connection) -> None:
    assert travel(pipeline, {f"msg_{next(_numbers)}": body}, admin).popitem()[1] == "applied"


@pytest.mark.parametrize("body", WITHOUT_A_PART.values(), ids=WITHOUT_A_PART)
def test_fields_that_cannot_be_stored_are_left_out_and_the_rest_is_applied(
    body: str, pipeline: Pipeline, admin: Connection
) -> None:
    svix_id = f"msg_{next(_numbers)}"
    assert travel(pipeline, {svix_id: body}, admin) == {svix_id: "applied"}
    assert value(admin, "select cardinality(fields) from clerk_sync.dropped_fields where svix_id = %s", svix_id) == 1


@pytest.mark.parametrize("body", PARKED.values(), ids=PARKED)
def test_an_event_that_cannot_be_stored_is_parked_with_its_reason(
    body: str, pipeline: Pipeline, admin: Connection
) -> None:
    assert travel(pipeline, {f"msg_{next(_numbers)}": body}, admin).popitem()[1].startswith("parked: ")


@pytest.mark.parametrize("depth", [*range(126, 132), *range(194, 206), *range(250, 260), *range(980, 1_005)])
def test_at_the_limits_of_nesting_of_all_parsers_the_rest_is_applied(
    depth: int, pipeline: Pipeline, admin: Connection
) -> None:
    svix_id = f"msg_{next(_numbers)}"
    assert travel(pipeline, {svix_id: nested(depth)}, admin) == {svix_id: "applied"}


def test_an_id_that_is_sql_is_stored_as_it_is(pipeline: Pipeline, admin: Connection) -> None:
    sql = "user_'); delete from clerk_sync.entities; --"
    travel(pipeline, sent(user_with(id=sql)), admin)
    assert value(admin, "select clerk_id from clerk.users where clerk_id = %s", sql) == sql
    travel(pipeline, sent(samples.event("user.deleted", {"id": sql}, timestamp=CREATED_AT + 9)), admin)
    assert value(admin, "select deleted_at is not null from clerk.users where clerk_id = %s", sql)


def test_ten_thousand_addresses_are_stored_and_the_primary_one_is_found_among_them(
    pipeline: Pipeline, admin: Connection
) -> None:
    addresses = [{"id": f"idn_{n}", "email_address": f"{n}@example.test"} for n in range(10_000)]
    event = user_with(id="user_many", email_addresses=addresses, primary_email_address_id="idn_9999")
    assert len(json.dumps(event)) < MAX_BODY_BYTES
    assert travel(pipeline, {"msg_many": json.dumps(event)}, admin) == {"msg_many": "applied"}
    stored = rows(
        admin, "select email, jsonb_array_length(email_addresses) from clerk.users where clerk_id = 'user_many'"
    )
    assert stored == [("9999@example.test", 10_000)]


def test_a_body_of_more_than_the_limit_is_refused_as_such(pipeline: Pipeline, admin: Connection) -> None:
    assert (
        travel(pipeline, sent(user_with(public_metadata={"note": "x" * 1_040_000})), admin).popitem()[1] == "too large"
    )


def test_a_megabyte_of_metadata_is_applied(pipeline: Pipeline, admin: Connection) -> None:
    event = user_with(id="user_large", public_metadata={"note": "x" * 1_000_000})
    assert travel(pipeline, {"msg_large": json.dumps(event)}, admin) == {"msg_large": "applied"}
    assert (
        value(admin, "select length(public_metadata ->> 'note') from clerk.users where clerk_id = 'user_large'")
        == 10**6
    )


def test_a_batch_of_nothing_but_hostile_events_is_done_with_at_once(pipeline: Pipeline, admin: Connection) -> None:
    bodies = {f"msg_{next(_numbers)}": body for body in (*PARKED.values(), *WITHOUT_A_PART.values())}
    ends = travel(pipeline, bodies, admin)
    assert sum(end.startswith("parked: ") for end in ends.values()) == len(PARKED)
