"""Splits JSON at its outermost level, without a look into the parts. No input or output.

For a text that no parser takes as a whole because of a part: nested too deep, half a surrogate pair, bytes outside
UTF-8. Any user of Clerk can write such text into their own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# A string, some brackets, a comma, or the quotation mark of an unclosed string.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]++|[\]}]++|,|"', re.DOTALL)
_NAME: Final = re.compile(rb'\s*("(?:[^"\\]++|\\.)*+")\s*:', re.DOTALL)


def elements(array: bytes) -> list[bytes]:
    """The elements of an array. Raises ValueError for any other or unfinished text."""
    return list(_parts(array.strip(), b"[", b"]"))


def fields(json_object: bytes) -> dict[bytes, bytes]:
    """The values of an object by their quoted names. Raises ValueError for any other or unfinished text."""
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
        found = token[0]
        match found[:1]:
            case b"[" | b"{":
                depth += len(found)
            case b"]" | b"}":
                depth -= len(found)
                if depth < 0 or (depth == 0) is not (token.end() > end):
                    raise ValueError("brackets do not match")
            case b"," if depth == 1:
                yield text[start : token.start()].strip()
                start = token.end()
            case b'"' if len(found) == 1:
                raise ValueError("a string does not end")
    if depth != 0:
        raise ValueError("brackets do not match")
    if (last := text[start:end].strip()) or start > 1:
        yield last
