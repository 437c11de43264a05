"""Questions for the plans and features of a token: answered as by Clerk's has(), or with no.

A question names its scope, `user:pro` or `org:team`. Clerk's library also grants an organization's plan without an
active organization, and reads `u:a:b` as `u:a`; here the first is denied and the second is an error.
Source: https://github.com/clerk/javascript, packages/shared/src/authorization.ts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from clerk_supabase.tokens.permissions import ORGANIZATION_SCOPES, USER_SCOPES

_QUESTION: Final = re.compile(r"(u|user|o|org|organization):([^:]+)")
_SCOPES: Final[Mapping[str, Collection[str]]] = MappingProxyType({"u": USER_SCOPES, "o": ORGANIZATION_SCOPES})


def how_to_spell(question: str) -> str:
    """Words for a question, or an element of a claim, that names no scope: the spellings with its slug."""
    slug = question.rpartition(":")[2].strip() or "<slug>"
    return f"a plan or feature is spelled user:{slug} or org:{slug} (short u:{slug}, o:{slug}), not {question!r}"


def holds(elements: Collection[str], question: str, *, in_organization: bool) -> bool:
    """Tells whether a plan or feature is among the elements of its claim, which are spelled `u:pro`.

    Raises ValueError for a question without a scope: a developer's mistake, whose negation would allow everything.
    """
    asked = _QUESTION.fullmatch(question)
    if asked is None:
        raise ValueError(how_to_spell(question))
    scope, slug = asked[1][0], asked[2]
    is_asked_of_user = scope == "u"
    return (is_asked_of_user or in_organization) and any(f"{each}:{slug}" in elements for each in _SCOPES[scope])
