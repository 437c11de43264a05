"""Permissions granted by `fea`, `per` and `fpm` of a version 2 session token: the same in every language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Example:
    """The claims, `None` for a missing claim, and the permissions that follow."""

    title: str
    fea: str | None
    per: str | None
    fpm: str | None
    granted: tuple[str, ...] = ()


EXAMPLES: Final = (
    # The example of Clerk's own documentation.
    Example(
        "as documented",
        "o:dashboard,o:teams",
        "manage,read",
        "3,2",
        ("org:dashboard:manage", "org:dashboard:read", "org:teams:read"),
    ),
    Example("lowest bit first", "o:docs", "read,write,delete", "1", ("org:docs:read",)),
    Example("highest bit last", "o:docs", "read,write,delete", "4", ("org:docs:delete",)),
    Example("features of the user do not count", "u:pro,o:docs,u:x,o:teams", "read", "0,1", ("org:teams:read",)),
    Example("both scopes count", "ou:docs,u:x,uo:teams", "read", "1,1", ("org:docs:read", "org:teams:read")),
    Example("an unknown scope does not count", "g:x,o:docs", "read", "1", ("org:docs:read",)),
    Example(
        "blanks are nothing", " o:docs , o:teams ", " read , write ", " 2 , 1 ", ("org:docs:write", "org:teams:read")
    ),
    Example("more bits than permissions", "o:docs", "read", "255", ("org:docs:read",)),
    Example("more features than numbers", "o:docs,o:teams", "read", "1", ("org:docs:read",)),
    Example("more numbers than features", "o:docs", "read", "1,1,1", ("org:docs:read",)),
    Example(
        "beyond 2^53", "o:docs", ",".join(f"p{i}" for i in range(70)), str(2**69 + 1), ("org:docs:p0", "org:docs:p69")
    ),
    Example("leading zeros", "o:docs", "read", "001", ("org:docs:read",)),
    Example("the number of one feature is none", "o:docs,o:teams", "read", "x,1", ("org:teams:read",)),
    Example("a missing number", "o:docs,o:teams", "read", ",1", ("org:teams:read",)),
    Example("a negative number", "o:docs", "read", "-1"),
    Example("a fraction", "o:docs", "read", "1.0"),
    Example("an exponent", "o:docs", "read", "1e0"),
    Example("another base", "o:docs", "read", "0x1"),
    Example("digits of another script", "o:docs", "read", "\u0661"),
    Example("an underscore between digits", "o:docs", "read,write", "1_1"),
    Example("a blank that JavaScript does not know", "o:docs", "read", "\x1c1"),
    Example("zero", "o:docs", "read,write", "0"),
    Example("no features", None, "read", "1"),
    Example("no names", "o:docs", None, "1"),
    Example("no numbers", "o:docs", "read", None),
    Example("nothing", "", "", ""),
)
