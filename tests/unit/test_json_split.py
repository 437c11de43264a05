"""JSON taken apart at its outermost level."""

from __future__ import annotations

import pytest

from clerk_supabase.model.json_split import elements, fields


@pytest.mark.parametrize(
    ("array", "parts"),
    [
        ("[]", []),
        (" [ ] ", []),
        ("[1]", ["1"]),
        ('[ {"a":[1,2]} , "x,]y" ]', ['{"a":[1,2]}', '"x,]y"']),
        # An empty part is no JSON either, and the reader of the parts finds that out.
        ("[,]", ["", ""]),
        ("[1,]", ["1", ""]),
        ("[,1]", ["", "1"]),
    ],
)
def test_an_array_is_as_many_parts_as_it_has_commas(array: str, parts: list[str]) -> None:
    assert elements(array.encode()) == [part.encode() for part in parts]


@pytest.mark.parametrize("text", ["", "[", "]", "{}", "[[]", "[]]", '["]', "[1]2]", "[{]}[", "1"])
def test_a_text_that_is_no_complete_array_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"brackets|begin|string"):
        elements(text.encode())


def test_an_object_is_its_fields_by_their_quoted_names() -> None:
    assert fields(b' { "a" : 1 , "b\\"" : {"c":[2]} , "a" : 3 } ') == {b'"a"': b"3", b'"b\\""': b'{"c":[2]}'}
    assert fields(b"{}") == {}


@pytest.mark.parametrize("text", ["{1}", "{a:1}", "{,}", '{"a":1,}', "[]", "{"])
def test_a_text_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"without a name|brackets|begin"):
        fields(text.encode())
