"""The claims that the SQL helpers read from a token: the same as in the layer, and none of a token rejected there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clerk_supabase.errors import TokenRejected
from clerk_supabase.tokens.claims import session_claims
from tests.kit.databases import Connection, Database, acting_as, rows
from tests.kit.permission_examples import EXAMPLES, Example

ADA = {"sub": "user_ada", "role": "authenticated"}
NOBODY: tuple[Any, ...] = (None, None, None, [])
BLANKS = " \t\n\u00a0\ufeff\x1c\x85"

# Text in Postgres holds no NUL: a token with a NUL names no user, see below.
texts = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=3)
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    texts,
    st.lists(texts, max_size=2),
    st.dictionaries(texts, texts, max_size=2),
)
roles = st.sampled_from(["admin", "org:admin", "org:org:admin", "", "Admin", "org:"])
features = st.lists(
    st.sampled_from(["o:docs", "u:docs", "ou:a", "uo:b:c", "o:", "x:y", " o:docs ", "docs", "o:\x1cx"]), max_size=5
).map(",".join)
names = st.lists(st.text(alphabet=f"rw_{BLANKS}", max_size=4), max_size=70).map(",".join)
numbers = st.lists(
    st.one_of(st.integers(0, 2**70).map(str), st.text(alphabet=f"0123456789-+.xe_\u0661{BLANKS}", max_size=5)),
    max_size=5,
).map(",".join)
organizations = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.sampled_from(["org_labs", ""]), junk),
        "rol": st.one_of(roles, junk),
        "per": st.one_of(names, junk),
        "fpm": st.one_of(numbers, junk),
    },
)
tokens = st.fixed_dictionaries(
    {"sub": st.one_of(st.just("user_ada"), st.sampled_from(["user_", "mch_a", "user_\u00e9", "user_a b", ""]), junk)},
    optional={
        "v": st.one_of(st.sampled_from([1, 2, 2, 2]), junk),
        "sts": st.one_of(st.sampled_from(["active", ""]), junk),
        "org_id": st.one_of(st.just("org_labs"), junk),
        "org_role": st.one_of(roles, junk),
        "org_permissions": st.one_of(st.lists(st.text(alphabet="abc:", max_size=4), max_size=3), junk),
        "o": st.one_of(organizations, organizations, junk),
        "fea": st.one_of(features, junk),
    },
)


@pytest.fixture(scope="module")
def connection(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


def read(connection: Connection, claims: Any) -> tuple[Any, ...]:
    with acting_as(connection, "authenticated", claims):
        [row] = rows(
            connection,
            "select clerk.requesting_user_id(), clerk.requesting_organization_id(), "
            "clerk.requesting_organization_role(), clerk.requesting_permissions()",
        )
    return row


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.title)
def test_permissions_are_what_the_example_says(case: Example, connection: Connection) -> None:
    said = {"id": "org_labs", "rol": "admin", "per": case.per, "fpm": case.fpm}
    claims = ADA | {"v": 2, "fea": case.fea, "o": {name: value for name, value in said.items() if value is not None}}
    assert read(connection, claims) == ("user_ada", "org_labs", "org:admin", list(case.granted))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens)
@example({"sub": "user_ada", "v": 2, "fea": "o:docs", "o": {"id": "org_labs", "per": "a,b", "fpm": "\x1c3"}})
@example({"sub": "user_ada", "v": 2.0, "o": {"id": "org_labs"}})
@example({"sub": "user_ada", "org_id": "org_labs", "org_permissions": ["a", 1]})
@example({"sub": "user_ada", "v": 2, "fea": "o:" + "f" * 50, "o": {"id": "o", "per": "p," * 4000, "fpm": "9" * 1000}})
def test_sql_reads_what_the_layer_reads_and_gives_a_rejected_token_nothing_more(
    connection: Connection, claims: dict[str, Any]
) -> None:
    user_id, organization_id, role, permissions = read(connection, claims)
    try:
        payload = {"sid": "sess_1", "iss": "https://clerk.example.com", "iat": 1, "exp": 2} | claims
        layer = session_claims(json.dumps(payload).encode())
    except TokenRejected:
        # Perhaps for a claim that has nothing to do with these: the others count for what they are.
        assert user_id in [None, claims["sub"]]
        assert organization_id in [None, claims.get("org_id"), _id_of_v2(claims)]
        assert user_id or (organization_id, role, permissions) == NOBODY[1:]
        return
    if layer.session_status not in {None, "active"}:
        assert (user_id, organization_id, role, permissions) == NOBODY
        return
    assert user_id == layer.user_id
    if layer.organization is None:
        assert (organization_id, role, permissions) == NOBODY[1:]
    else:
        assert (organization_id, role) == (layer.organization.id, layer.organization.role)
        assert permissions == list(layer.organization.permissions)


def _id_of_v2(claims: dict[str, Any]) -> object:
    organization = claims.get("o")
    return organization.get("id") if claims.get("v") == 2 and isinstance(organization, dict) else None


@pytest.mark.parametrize(
    "claims",
    [
        ADA | {"v": 2, "org_id": "org_labs", "org_role": "org:admin", "org_permissions": ["a"]},
        ADA | {"v": 1, "o": {"id": "org_labs", "rol": "admin"}},
        ADA | {"o": {"id": "org_labs", "rol": "admin"}},
        ADA | {"v": 3, "org_id": "org_labs", "o": {"id": "org_labs"}},
        ADA | {"v": "2", "o": {"id": "org_labs"}},
        ADA | {"org_role": "org:admin", "org_permissions": ["a"]},
        ADA | {"v": 2, "fea": "o:docs", "o": {"rol": "admin", "per": "read", "fpm": "1"}},
    ],
)
def test_claims_of_another_version_open_no_organization(claims: Any, connection: Connection) -> None:
    assert read(connection, claims) == ("user_ada", None, None, [])


def test_the_former_supabase_template_is_read_like_version_1(connection: Connection) -> None:
    claims = ADA | {"aud": "authenticated", "app_metadata": {"org_id": "org_x"}, "user_metadata": {"org_id": "org_y"}}
    assert read(connection, claims) == ("user_ada", None, None, [])
    claims |= {"org_id": "org_labs", "org_role": "org:editor"}
    assert read(connection, claims) == ("user_ada", "org_labs", "org:editor", [])


@pytest.mark.parametrize("claims", [None, "", "{}", "[]", "not json", '{"sub": 5}', "[" * 100_000, '{"a": "\\u0000"}'])
def test_malformed_claims_name_nobody_and_raise_nothing(claims: str | None, connection: Connection) -> None:
    assert read(connection, claims) == NOBODY
    with acting_as(connection, "anon", claims):
        assert rows(connection, "select clerk.requesting_user_has_permission('org:docs:read')") == [(False,)]


def test_a_permission_is_granted_or_not_and_never_unknown(connection: Connection) -> None:
    claims = ADA | {"v": 2, "fea": "o:docs", "o": {"id": "org_labs", "per": "read,write", "fpm": "1"}}
    with acting_as(connection, "authenticated", claims):
        asked = ["org:docs:read", "org:docs:write", "docs:read", "", None]
        answers = [rows(connection, "select clerk.requesting_user_has_permission(%s)", each) for each in asked]
    assert answers == [[(True,)], [(False,)], [(False,)], [(False,)], [(False,)]]
