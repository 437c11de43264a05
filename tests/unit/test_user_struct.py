"""The fast reader of a user accepts the usual form, and returns the same as the lenient reader."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from clerk_supabase.model.user_struct import UserStruct, as_json_of_usual, read_user, read_users
from clerk_supabase.model.users import User
from clerk_supabase.postgres.batch import as_json
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.population import Population

USER = samples.user(
    "user_1",
    created_at=1_600_000_000_000,
    updated_at=1_600_000_000_777,
    phone_numbers=[{"id": "idn_2", "phone_number": "+15550100", "verification": None}],
    public_metadata={"plan": 1.0, "large": 2**70, "deep": [{"a": [None, True, "\u00e9"]}]},
)
MIRRORED = sorted(User.model_fields)

text = st.text(max_size=5)
moments = st.one_of(st.integers(-1, 2**62), st.just(10**13), st.floats(), st.just(1.7e12), st.none())
flags = st.one_of(st.booleans(), st.none(), st.sampled_from([0, 1, "true", "no", "perhaps"]))
verifications = st.one_of(st.none(), st.fixed_dictionaries({"status": st.sampled_from(["verified", "other", None, 1])}))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)


def identifiers(name: str) -> st.SearchStrategy[Any]:
    fields = {"id": st.sampled_from(["idn_1", "idn_2", None]), name: text, "verification": verifications}
    return st.one_of(st.none(), st.lists(st.fixed_dictionaries({}, optional=fields), max_size=3))


def accounts() -> st.SearchStrategy[Any]:
    names = ("external_account_id", "provider", "provider_user_id", "google_id", "facebook_id", "username")
    fields = {name: st.one_of(text, st.none()) for name in names} | {
        "object": st.sampled_from(["external_account", "google_account", "facebook_account", "", None]),
        "verification": verifications,
    }
    return st.one_of(st.none(), st.lists(st.fixed_dictionaries({}, optional=fields), max_size=3))


def enterprise_accounts() -> st.SearchStrategy[Any]:
    names = ("protocol", "provider", "provider_user_id", "enterprise_connection_id", "email_address")
    fields = {name: st.one_of(text, st.none()) for name in names} | {
        "id": st.sampled_from(["a_1", "a_2", None]),
        "active": flags,
        "verification": verifications,
        "enterprise_connection": st.sampled_from([None, {}, {"id": "c_1"}]),
    }
    return st.one_of(st.none(), st.lists(st.fixed_dictionaries({}, optional=fields), max_size=2))


fields = {name: st.one_of(text, st.none(), st.integers()) for name in MIRRORED} | {
    **dict.fromkeys(("created_at", "updated_at", "legal_accepted_at"), moments),
    **dict.fromkeys(("has_image", "password_enabled", "two_factor_enabled"), flags),
    **dict.fromkeys(("banned", "locked", "deprovisioned"), flags),
    **dict.fromkeys(("public_metadata", "unsafe_metadata"), anything),
    **{f"primary_{name}_id": st.sampled_from(["idn_1", None]) for name in ("email_address", "phone_number")},
    "email_addresses": identifiers("email_address"),
    "phone_numbers": identifiers("phone_number"),
    "web3_wallets": identifiers("web3_wallet"),
    "external_accounts": accounts(),
    "enterprise_accounts": enterprise_accounts(),
    "saml_accounts": enterprise_accounts(),
}


def lenient(body: bytes) -> User | None:
    try:
        return User.model_validate_json(body)
    except ValidationError:
        return None


def test_every_field_that_is_mirrored_is_read() -> None:
    assert sorted(field.name for field in msgspec.structs.fields(UserStruct)) == MIRRORED


@pytest.mark.parametrize("number", range(7))
def test_users_as_clerk_sends_them_are_read_the_fast_way(number: int) -> None:
    population = Population(7)
    body = population.json(population.id(number))
    fast, slow = read_user(body), lenient(body)
    assert fast is not None
    assert slow is not None
    assert (fast.id, fast.updated_at, fast.columns()) == (slow.id, slow.updated_at, slow.columns())


@given(st.fixed_dictionaries({}, optional=fields))
@example({"public_metadata": {"large": 2**70, "tiny": -(2**70), "float": 1e400, "zero": -0.0}})
@example({"email_addresses": [{"id": "idn_1", "email_address": "a\ud800"}]})
@example({"created_at": 1e12, "banned": 1})
def test_the_fast_reader_returns_the_same_as_the_lenient_model(changes: dict[str, Any]) -> None:
    body = json.dumps(USER | changes).encode()
    fast = read_user(body)
    if fast is not None:
        slow = lenient(body)
        assert slow is not None
        assert (fast.id, fast.updated_at, fast.created_at) == (slow.id, slow.updated_at, slow.created_at)
        # Compared as they are written: to Python 1 is also 1.0 and True.
        assert repr(fast.columns()) == repr(slow.columns())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"id":"\xff"}', b'{"id":"user_1"}'])
def test_an_object_that_is_no_user_is_left_to_the_lenient_model(body: bytes) -> None:
    assert read_user(body) is None


@given(st.lists(st.fixed_dictionaries({}, optional=fields), max_size=3))
@example([{"public_metadata": {"large": 2**70, "tiny": -(2**70), "float": 1e300, "zero": -0.0, "text": "\x01\u2028"}}])
@example([{}, {"unsafe_metadata": {"text": "Infinity"}}])
def test_users_read_together_are_the_same_as_users_read_one_by_one(several: list[dict[str, Any]]) -> None:
    bodies = [json.dumps(USER | changes).encode() for changes in several]
    one_by_one = [read_user(body) for body in bodies]
    together = read_users(b"[" + b",".join(bodies) + b"]")
    # A user of another form spoils the page for all: then each of them is read alone.
    for fast, alone in zip(together, one_by_one, strict=bool(together)):
        assert (fast is None) == (alone is None)
        if fast is not None and alone is not None:
            assert (fast.id, fast.updated_at) == (alone.id, alone.updated_at)
            assert repr(fast.columns()) == repr(alone.columns())
            assert json.loads(as_json_of_usual(fast.columns())) == json.loads(as_json(alone.columns()))


@pytest.mark.parametrize("spoiled", [b'{"id":"user_1"}', b"null", b'{"id":"\xff"}', b'{"id":"\\u0000"}'])
def test_one_user_of_another_form_leaves_every_user_of_the_page_to_be_read_alone(spoiled: bytes) -> None:
    body = json.dumps(USER).encode()
    assert len(read_users(b"[" + body + b"," + body + b"]")) == 2
    assert read_users(b"[" + body + b"," + spoiled + b"]") == []


def test_columns_come_in_the_order_in_which_jsonb_keeps_them() -> None:
    population = Population(7)
    for number in range(7):
        user = read_user(population.json(population.id(number)))
        assert user is not None
        columns = user.columns()
        accounts = [account for value in columns.values() if isinstance(value, list) for account in value]
        for names in map(list, [columns, *accounts]):
            assert names == sorted(names, key=lambda name: (len(name), name))
