"""Values of clients that our parsers or Postgres refuse, as JSON.

It is unknown which of these values Clerk stores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import strategies as st
from msgspec import Raw

VALUES: Final = {
    "a number beyond all bounds": "1e400",
    "a number of five thousand digits": "9" * 5_000,
    "a fraction after four hundred digits": "9" * 400 + ".5",
    "no number": "NaN",
    "minus infinity": "-Infinity",
    "NUL": r'"a\u0000"',
    "NUL in a name": r'{"a\u0000":1}',
    "half a surrogate pair": r'"\ud800"',
    "the other half in a name": r'{"\udc00":1}',
    "nested 129 deep": "[" * 129 + "0" + "]" * 129,
    "nested 250 deep": "[" * 250 + "]" * 250,
    "nested 2,000 deep": '{"a":' * 2_000 + "1" + "}" * 2_000,
    "nested 10,000 deep": "[" * 10_000 + "]" * 10_000,
    "several of them": r'[1e400,{"\u0000":"\ud800"},NaN]',
}
"""Values that no field can hold, by their fault."""

LONG: Final = hashlib.shake_256(b"no name").hexdigest(5_000)
"""A text of 10,000 characters that cannot be compressed: more than an index of Postgres takes."""

TEXTS: Final = {"a long text": json.dumps(LONG)} | VALUES
# Of any type, so mostly of another one than the field's.
ANYTHING: Final = [
    *VALUES.values(),
    json.dumps(LONG),
    "7",
    "-1.5",
    "true",
    '"text"',
    "[]",
    "{}",
    '[{"id":[]}]',
    "[null]",
]


def raw(json_text: str) -> Raw:
    """This text unchanged, for `msgspec.json.encode`."""
    return Raw(json_text.encode())


Place = tuple[str | int, ...]
"""The names and numbers on the way to a field."""
_IDENTITY: Final = frozenset({("id",), ("payer",), ("payer", "user_id"), ("payer", "organization_id"), ("user_id",)})


def free_places(inside: object, path: Place = ()) -> Iterator[Place]:
    """Every field of an object and of the objects inside it, without the ids of the object and of its parents."""
    if isinstance(inside, list):
        inside = dict(enumerate(inside[:1]))
    for name, each in inside.items() if isinstance(inside, dict) else ():
        if (*path, name) not in _IDENTITY:
            yield (*path, name)
        yield from free_places(each, (*path, name))


def put(inside: Any, path: Place, sent: object) -> Any:
    """The object with another value at a path; unchanged, if the path does not exist."""
    if not path:
        return sent
    step, *rest = path
    if isinstance(inside, dict) and (step in inside or not rest):
        return inside | {step: put(inside.get(step), tuple(rest), sent)}
    if isinstance(inside, list) and inside and step == 0:
        return [put(inside[0], tuple(rest), sent), *inside[1:]]
    return inside


values = st.sampled_from(list(VALUES.values()))


def metadata(**kept: object) -> st.SearchStrategy[Raw]:
    """Metadata with these members, and among the members a value that cannot be stored."""
    members = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in kept.items()]
    places = st.integers(0, len(members))
    return st.builds(
        lambda place, bad: raw("{" + ",".join([*members[:place], f'"bad":{bad}', *members[place:]]) + "}"),
        places,
        values,
    )


def lists(element: str) -> st.SearchStrategy[Raw]:
    """A list with the element twice, once with another value at HERE; or an empty list.

    Clients write the content of the elements; Clerk decides that the field holds a list of such objects.
    """
    good = element.replace("HERE", '"here"')
    return st.just(raw("[]")) | st.builds(
        lambda bad: raw(f"[{element.replace('HERE', bad)},{good}]"), st.sampled_from(ANYTHING)
    )


anything = st.builds(raw, st.sampled_from(ANYTHING))
