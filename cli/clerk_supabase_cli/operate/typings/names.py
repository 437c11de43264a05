"""Names of TypeScript and Prisma, made from names of a database, which may hold any character."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z0-9]+")
RESERVED: Final = frozenset(
    re.findall(
        "[a-z]+",
        """
        any arguments as async await boolean break case catch class const continue debugger default delete do else
        enum eval export extends false finally for function if implements import in instanceof interface let new
        null number of package private protected public return static string super switch symbol this throw true try
        type typeof undefined var void while with yield
        """,
    )
)
"""Words that are no name of a constant in TypeScript."""
# Every table of Drizzle has these properties.
_PROPERTIES: Final = ("constructor", "enableRLS", "getSQL", "prototype", "shouldOmitSQLParens")


def camel(name: str) -> str:
    """`clerk_user_id` as `clerkUserId`."""
    first, *others = _WORD.findall(name) or ["column"]
    joined = first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in others)
    return f"n{joined}" if joined[0].isdigit() else joined


def pascal(name: str) -> str:
    """`clerk_users` as `ClerkUsers`."""
    whole = camel(name)
    return whole[0].upper() + whole[1:]


def unique(wanted: str, taken: Iterable[str]) -> str:
    """The wanted name, or the name with the first free number behind it."""
    names = {*_PROPERTIES, *taken}
    if wanted not in names:
        return wanted
    return next(f"{wanted}{number}" for number in range(2, len(names) + 3) if f"{wanted}{number}" not in names)


def in_camel(names: Iterable[str], taken: Iterable[str] = ()) -> Mapping[str, str]:
    """Each name of the database with a name of its own for a program."""
    chosen: dict[str, str] = {}
    for name in names:
        chosen[name] = unique(camel(name), [*taken, *chosen.values()])
    return chosen


def quoted(text: str) -> str:
    """Text as a string of TypeScript or Prisma."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in written)


def documented(text: str, indent: str = "") -> list[str]:
    """A comment of the database as the lines of a comment of TypeScript."""
    words = " ".join(text.split()).replace("*/", "* /")
    return [f"{indent}/** {words} */"] if words else []
