"""Expressions of the app, with Clerk's id of the caller in place of Supabase's uuid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

REQUESTING: Final = "clerk_sync.requesting_user_id()"
"""The caller by the token alone: for defaults, views, and policies of every role."""
CALLER: Final = "(select c.clerk_id from clerk_sync.caller as c)"
"""The caller, while neither banned nor deleted. Only the role authenticated may read the view."""

# As Postgres prints the calls; a literal or a quoted name that looks like a call stays as it is.
_CALL: Final = re.compile(
    r"""
    \(\(auth\.jwt\(\)\ ->>\ 'sub'::text\)\)::uuid
    | \(\s*SELECT\ auth\.uid\(\)\ AS\ uid\)
    | (?<![\w$])auth\.uid\(\)
    | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*["]""")
_TOLD_APART: Final = frozenset({"'sub'", "'request.jwt.claims'", "'request.jwt.claim.sub'"})
_STILL: Final = re.compile(r"\bauth\.(uid|email)\(\)", re.IGNORECASE)


def rewritten(expression: str, caller: str) -> str:
    """The expression with *caller* in place of every call that returns the caller's uuid."""
    return _CALL.sub(lambda call: call[0] if call["quoted"] is not None else caller, expression)


def caller_for(roles: Sequence[str]) -> str:
    """The expression for the caller in a policy of these roles."""
    return CALLER if [*roles] == ["authenticated"] else REQUESTING


def still_calls(expression: str) -> bool:
    """Tells whether an expression still asks for a value that Clerk's token does not hold."""
    return bool(_STILL.search(without_literals(expression)))


def without_literals(expression: str) -> str:
    """The expression without literals and quoted names, which are no calls; names of the claim `sub` stay."""
    return _QUOTED.sub(lambda quoted: quoted[0] if quoted[0] in _TOLD_APART else "''", expression)
