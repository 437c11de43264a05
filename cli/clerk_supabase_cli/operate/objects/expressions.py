"""Brings expressions printed by any version of Postgres into one form.

Until Postgres 15, the columns of a view are qualified by the name of their table, later not. And a dump with a restore
removes parentheses: `(a AND b) AND c` becomes `a AND b AND c`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_WORD: Final = re.compile(r"""E?'(?:[^']|'')*'|"(?:[^"]|"")*"|[()]|[^\s()'"]+""")
_ALIAS: Final = re.compile(r"\b(?:FROM|JOIN)\s+\(*[\w.]+(?:\([^()]*\))?\s+(?:AS\s+)?(\w+)", re.IGNORECASE)
_JOINTS: Final = ("AND", "OR")

# A word, or the text between two parentheses.
_Part = str | list["_Part"]


def without_qualifiers(definition: str) -> str:
    """The definition of a view without the names of tables before the names of columns."""
    aliases = set(_ALIAS.findall(definition))
    return re.sub(r"(?<![\w.])(\w+)\.(?=\w)", lambda found: "" if found[1] in aliases else found[0], definition)


# A command compares the same definitions more than once.
@lru_cache(maxsize=1_024)
def flat(definition: str) -> str:
    """A definition on one line, without parentheses around a part of a chain of AND, or of OR."""
    stack: list[list[_Part]] = [[]]
    for word in _WORD.findall(definition):
        if word == "(":
            stack.append([])
        elif word == ")" and len(stack) > 1:
            group = _chained(stack.pop())
            stack[-1].append(group)
        else:
            stack[-1].append(word)
    return _text(_chained(stack[0]))


def _chained(parts: list[_Part]) -> list[_Part]:
    """The parts of a group; a member that is a chain with the same operator is replaced by its own parts."""
    joint = _joint(parts)
    if not joint:
        return parts
    chained: list[_Part] = []
    for place, part in enumerate(parts):
        stands_alone = parts[max(place - 1, 0)] in (joint, part) and parts[min(place + 1, len(parts) - 1)] in (
            joint,
            part,
        )
        if isinstance(part, list) and stands_alone and _joint(part) == joint:
            chained += part
        else:
            chained.append(part)
    return chained


def _joint(parts: list[_Part]) -> str:
    """AND or OR, if the whole group is a chain of the same operator."""
    found = {part for part in parts if part in _JOINTS}
    return str(found.pop()) if len(found) == 1 else ""


def _text(parts: list[_Part]) -> str:
    return " ".join(part if isinstance(part, str) else f"({_text(part)})" for part in parts)
