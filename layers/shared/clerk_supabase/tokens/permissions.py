"""Features and permissions in a version 2 session token of Clerk, read as Clerk's JavaScript SDK reads the token.

`fea` lists features with their scopes (`o` organization, `u` user), `per` the names of permissions, and `fpm` one
number for each feature of the organization: bit i, from the lowest, grants permission i.
Source: https://github.com/clerk/javascript, packages/shared/src/jwtPayloadParser.ts and authorization.ts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clerk_supabase.errors import Rejection, TokenRejected

# The characters that JavaScript's trim() removes. Python's strip() removes others, and "\x1c3" must not become a 3.
_JAVASCRIPT_BLANKS: Final = (
    "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + ("\u2028\u2029\u202f\u205f\u3000\ufeff")
)
ORGANIZATION_SCOPES: Final = frozenset({"o", "ou", "uo"})
USER_SCOPES: Final = frozenset({"u", "ou", "uo"})
# Enough for a thousand permissions of one feature.
_MOST_DIGITS: Final = 1000


def scoped(claim: str | None, name: str) -> tuple[str, ...]:
    """The elements of `fea` or `pla`, such as `o:dashboard`. Raises TokenRejected for an element without a scope."""
    if not claim:
        return ()
    elements = tuple(element.strip(_JAVASCRIPT_BLANKS) for element in claim.split(","))
    if not all(":" in element for element in elements):
        raise TokenRejected(Rejection.CLAIM_MALFORMED, f"the claim {name} has an element without a scope")
    return elements


def granted(features: tuple[str, ...], per: str | None, fpm: str | None) -> tuple[str, ...]:
    """Permissions such as `org:dashboard:read`. An element of `fpm` that is no number grants nothing."""
    if not per or not fpm:
        return ()
    names = [name.strip(_JAVASCRIPT_BLANKS) for name in per.split(",")]
    of_features = zip(_of_organization(features), fpm.split(","), strict=False)
    return tuple(
        dict.fromkeys(
            f"org:{feature}:{name}"
            for feature, number in of_features
            for name, bit in zip(names, _bits(number.strip(_JAVASCRIPT_BLANKS)), strict=False)
            if bit == "1"
        )
    )


def _of_organization(features: tuple[str, ...]) -> Iterator[str]:
    for element in features:
        scope, _, feature = element.partition(":")
        if scope in ORGANIZATION_SCOPES:
            yield feature


def _bits(number: str) -> str:
    """The binary digits of a decimal number, lowest first."""
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        return ""
    return f"{int(number):b}"[::-1]
