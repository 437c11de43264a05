"""Takes JSON apart at its outermost level, without looking into the parts. Pure.

For what no parser takes as a whole because of a part: nested too deep, half a surrogate pair, text that is not UTF-8.
Any user of Clerk can write such things into their own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# A string, a bracket, a comma, or the quotation mark of a string that never ends.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{},]|"', re.DOTALL)
_NAME: Final = re.compile(rb'\s*("(?:[^"\\]++|\\.)*+")\s*:', re.DOTALL)


def elements(array: bytes) -> list[bytes]:
    """The elements of an array. Raises ValueError when it is not one, or not all of it."""
    return list(_parts(array.strip(), b"[", b"]"))


def fields(json_object: bytes) -> dict[bytes, bytes]:
    """The values of an object by their quoted names. Raises ValueError when it is not one, or not all of it."""
    found: dict[bytes, bytes] = {}
    for part in _parts(json_object.strip(), b"{", b"}"):
        name = _NAME.match(part)
        if name is None:
            raise ValueError("a field without a name")
        found[name[1]] = part[name.end() :].strip()
    return found


def _parts(text: bytes, opening: bytes, closing: bytes) -> Iterator[bytes]:
    if not (text.startswith(opening) and text.endswith(closing)):
        raise ValueError(f"does not begin with {opening!r} and end with {closing!r}")
    depth, start, end = 0, 1, len(text) - 1
    for token in _TOKEN.finditer(text):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
                if (depth == 0) is not (token.start() == end):
                    raise ValueError("brackets do not match")
            case b"," if depth == 1:
                yield text[start : token.start()].strip()
                start = token.end()
            case b'"':
                raise ValueError("a string does not end")
    if depth != 0:
        raise ValueError("brackets do not match")
    if (last := text[start:end].strip()) or start > 1:
        yield last
