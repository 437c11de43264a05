"""Claims of Supabase Auth's token that Clerk's session token lacks, in expressions and functions of the app.

Such a claim is null with Clerk's token: most conditions close their rows, and `is not true` may open them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

_ADD: Final = "add to Clerk's session token"
IN_CLERK: Final[Mapping[str, str]] = {
    "aal": "(auth.jwt() -> 'fva' ->> 1)::int >= 0 says that a second factor was verified",
    "amr": "fva has the minutes since the first and the second factor were verified, or -1; no claim has the method",
    "app_metadata": f'{_ADD} "app_metadata": "{{{{user.public_metadata}}}}", where `export` puts app metadata',
    "aud": "Clerk's token has no audience: leave the condition out",
    "email": f'{_ADD} "email": "{{{{user.primary_email_address}}}}", or read email and email_verified of clerk.users',
    "is_anonymous": "no user of Clerk is anonymous: leave the condition out",
    "iss": "the issuer is the URL of Clerk's Frontend API: compare with this URL",
    "phone": f'{_ADD} "phone": "{{{{user.primary_phone_number}}}}", or read clerk.users',
    "session_id": "the claim sid has the id of the session",
    "user_metadata": f'{_ADD} "user_metadata": "{{{{user.unsafe_metadata}}}}"; never for access: users write the value',
}
"""The counterpart in Clerk of each claim."""

_OF_CLERK: Final = frozenset(
    (
        *("act", "azp", "exp", "fea", "fva", "iat", "jti", "nbf", "o", "pla", "role", "sid", "sts", "sub", "v"),
        *("org_id", "org_role", "org_slug", "org_permissions"),
    )
)
# Between the call and the operator stand casts, parentheses, and the other arguments of coalesce() and nullif().
_READ: Final = re.compile(
    r"""
    (?: \bauth"?\s*\.\s*"?jwt"?\s*\(\s*\) | \brequest\.jwt\.claims' )
    (?: [\s(),] | ::\s*\w+(?:\[\])? | \b(?:true|false)\b | \bAS\s+\w+ | '\{?\}?' )*
    (?: ->>? | \#>>? | \?[|&]? | @> | \[ )
    \s* (?: ARRAY\s*\[ \s* )? '(?P<key>[^']+)'
    | \brequest\.jwt\.claim\.(?P<setting>\w+)
    | \bauth"?\s*\.\s*"?(?P<function>email)"?\s*\(
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ASKS: Final = re.compile(r'\bauth"?\s*\.\s*"?jwt"?\s*\(|\brequest\.jwt\.claims', re.IGNORECASE)
_LITERAL: Final = re.compile(r"'(\w+)'")
_KEYS_ARE_ARGUMENTS: Final = re.compile(r"\bjsonb?_extract_path", re.IGNORECASE)


def missing_claims(text: str, *, is_body: bool = False) -> list[str]:
    """The claims in an expression that Clerk's token lacks.

    *is_body*: a function may keep the claims in a variable, so every literal with the name of such a claim counts.
    """
    found = {name for match in _READ.finditer(text) for name in _names(match)} - _OF_CLERK
    if _ASKS.search(text) and (is_body or _KEYS_ARE_ARGUMENTS.search(text)):
        found |= {name for name in _LITERAL.findall(text) if name in IN_CLERK}
    return sorted(found)


def counterpart(claim: str) -> str:
    """The advice for a claim, in words."""
    return IN_CLERK.get(claim, f"{_ADD} the claim {claim}, which Supabase's token had from a hook of yours")


def _names(match: re.Match[str]) -> Iterator[str]:
    """The names of claims in a key, a path such as `{app_metadata,role}`, or an object such as `{"aal": "aal2"}`."""
    key = match["key"] or match["setting"] or match["function"].lower()
    if not key.startswith("{"):
        yield key
    elif '"' not in key:
        yield key.strip("{}").partition(",")[0]
    else:
        try:
            yield from json.loads(key)
        except ValueError:
            return
