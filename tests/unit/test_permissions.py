"""Permissions in version 2 session tokens: those that Clerk's JavaScript SDK reads, and never more."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clerk_supabase.errors import Rejection, TokenRejected
from clerk_supabase.tokens.permissions import granted, scoped
from tests.kit.permission_examples import EXAMPLES, Example

BLANKS = " \t\n\u00a0\ufeff\x1c\x85"
elements = st.lists(
    st.one_of(
        st.sampled_from(["o:docs", "u:docs", "ou:a", "uo:b:c", "o:", "x:y", " o:docs ", "ox:z"]),
        st.text(alphabet=f"ou:ab{BLANKS}", max_size=6),
    ),
    max_size=6,
).map(",".join)
names = st.lists(st.text(alphabet=f"rw_{BLANKS}", max_size=4), max_size=70).map(",".join)
numbers = st.lists(
    st.one_of(st.integers(0, 2**70).map(str), st.text(alphabet=f"0123456789-+.xe_\u0661{BLANKS}", max_size=5)),
    max_size=6,
).map(",".join)


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.title)
def test_permissions_are_what_the_example_says(case: Example) -> None:
    assert granted(scoped(case.fea, "fea"), case.per, case.fpm) == case.granted


@given(elements, names, numbers)
@example("o:docs", "a,b", "\x1c3")
@example("u:x,o:docs", "a", "1")
def test_permissions_are_what_javascript_reads(fea: str, per: str, fpm: str) -> None:
    expected = javascript_permissions(fea, per, fpm)
    if expected is None:
        with pytest.raises(TokenRejected):
            scoped(fea, "fea")
    else:
        assert list(granted(scoped(fea, "fea"), per, fpm)) == list(dict.fromkeys(expected))


def test_a_feature_without_a_scope_is_refused_as_in_javascript() -> None:
    with pytest.raises(TokenRejected) as caught:
        scoped("o:docs,teams", "fea")
    assert caught.value.reason is Rejection.CLAIM_MALFORMED
    assert "teams" not in str(caught.value)


def test_an_absurdly_long_number_grants_nothing() -> None:
    assert granted(("o:docs",), "read", "1" * 12_000) == ()


def javascript_permissions(fea: str, per: str, fpm: str) -> list[str] | None:
    """The rules of the SDK, one after the other, digit by digit; `None` where the SDK throws."""
    organization = []
    for part in fea.split(",") if fea else []:
        trimmed = javascript_trim(part)
        colon = trimmed.find(":")
        if colon == -1:
            return None
        if trimmed[:colon] in ("o", "ou", "uo"):
            organization.append(trimmed[colon + 1 :])
    permissions: list[str] = []
    if per == "" or fpm == "":
        return permissions
    known = [javascript_trim(name) for name in per.split(",")]
    masks = fpm.split(",")
    for index, feature in enumerate(organization):
        if index < len(masks):
            for bit, on in enumerate(bits(javascript_trim(masks[index]))):
                if on and bit < len(known):
                    permissions.append(f"org:{feature}:{known[bit]}")
    return permissions


def bits(decimal: str) -> list[bool]:
    if decimal == "" or any(character not in "0123456789" for character in decimal):
        return []
    value, found = int(decimal), []
    while value > 0:
        value, rest = divmod(value, 2)
        found.append(rest == 1)
    return found


def javascript_trim(text: str) -> str:
    """White space and line ends of ECMA-262: tab, VT, FF, BOM, the category Zs, LF, CR, LS, PS."""

    def blank(character: str) -> bool:
        return character in "\t\x0b\x0c\ufeff\n\r\u2028\u2029" or unicodedata.category(character) == "Zs"

    while text and blank(text[0]):
        text = text[1:]
    while text and blank(text[-1]):
        text = text[:-1]
    return text
