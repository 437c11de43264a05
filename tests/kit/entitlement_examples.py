"""Questions for plans and features, with the answers of Clerk's has() and of this project: alike in every language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

ADA: Final = {"v": 2, "sub": "user_ada"}
LABS: Final = {"o": {"id": "org_labs", "rol": "member"}}


@dataclass(frozen=True)
class Example:
    """A token, a question, and two answers."""

    title: str
    claim: str
    """`pla` or `fea`."""
    content: Any
    """The content of this claim."""
    question: str
    clerk: bool
    """The answer of Clerk's library, with False for an error."""
    here: bool | None
    """The answer of this project; None for an error."""
    others: dict[str, Any] = field(default_factory=dict)
    """Other claims of the token."""

    @property
    def claims(self) -> dict[str, Any]:
        """All claims of the token."""
        return ADA | {self.claim: self.content} | self.others


EXAMPLES: Final = (
    Example("a plan of the user", "pla", "u:pro", "user:pro", True, True),
    Example("the short scope of a user", "pla", "u:pro", "u:pro", True, True),
    Example("a plan of the organization", "pla", "o:team", "org:team", True, True, LABS),
    Example("the short scope of an organization", "pla", "o:team", "o:team", True, True, LABS),
    Example("the long scope of an organization", "pla", "o:team", "organization:team", True, True, LABS),
    Example("a feature of the organization", "fea", "o:docs,u:export,uo:search", "org:docs", True, True, LABS),
    Example("a feature of the user beside an organization", "fea", "o:docs,u:export", "user:export", True, True, LABS),
    Example("both scopes, asked of the organization", "fea", "uo:search", "org:search", True, True, LABS),
    Example("both scopes, asked of the user", "fea", "ou:search", "user:search", True, True, LABS),
    Example("both scopes without an organization", "pla", "uo:search", "user:search", True, True),
    Example("a plan named like a scope", "pla", "u:user", "user:user", True, True),
    Example("the plan of everybody who pays nothing", "pla", "u:free_user", "user:free_user", True, True),
    Example("another plan", "pla", "u:pro", "user:gold", False, False),
    Example("a plan of the user, asked of the organization", "pla", "u:pro", "org:pro", False, False, LABS),
    Example("a plan of the organization, asked of the user", "pla", "o:team", "user:team", False, False, LABS),
    Example("a feature is no plan", "fea", "u:pro", "user:pro", True, True),
    Example("the beginning of a slug", "pla", "u:pro_plus", "user:pro", False, False),
    Example("no claim", "pla", None, "user:pro", False, False),
    Example("an empty claim", "pla", "", "user:pro", False, False),
    Example("a list", "pla", ["u:pro"], "user:pro", False, False),
    Example("a number", "pla", 7, "user:pro", False, False),
    Example("blanks around elements", "pla", " u:pro , u:x\ufeff", "user:pro", True, True),
    Example("a blank that JavaScript does not know", "pla", "\x1cu:pro", "user:pro", False, False),
    Example("a blank before a slug", "pla", "u: pro", "user:pro", False, False),
    Example("a blank behind a scope", "pla", "u :pro", "user:pro", False, False),
    Example("an unknown scope beside a known scope", "pla", "x:junk,u:pro", "user:pro", True, True),
    Example("an unknown scope alone", "pla", "x:pro", "user:pro", False, False),
    Example("the long scope in the claim", "pla", "org:team", "org:team", False, False, LABS),
    Example("a scope in upper case in the claim", "pla", "U:pro", "user:pro", False, False),
    Example("an element without a scope", "pla", "u:pro,gold", "user:pro", False, False),
    Example("a comma at the end", "pla", "u:pro,", "user:pro", False, False),
    Example("two commas", "pla", "u:pro,,u:gold", "user:gold", False, False),
    Example("a second colon", "pla", "u:pro:x", "user:pro", False, False),
    Example("letters that look the same", "pla", "u:caf\u00e9", "user:cafe\u0301", False, False),
    # Granted by Clerk's library, and denied here.
    Example("an organization's plan, none active", "pla", "o:team", "org:team", True, False),
    Example("an organization's feature, none active", "fea", "uo:search", "org:search", True, False),
    Example("a token of version 1", "pla", "u:pro", "user:pro", True, False, {"v": 1}),
    Example("a token without a version", "pla", "u:pro", "user:pro", True, False, {"v": None}),
    Example("a version that is text", "pla", "o:team", "org:team", True, False, {"v": "2"} | LABS),
    Example("broken features beside a plan", "pla", "u:pro", "user:pro", True, False, {"fea": "docs"}),
    Example("a status that nobody knows", "pla", "u:pro", "user:pro", True, False, {"sts": "odd"}),
    # Errors of Clerk's library count as its no.
    Example("broken features in an organization", "pla", "o:team", "org:team", False, False, {"fea": "docs"} | LABS),
    Example(
        "a number as permissions",
        "pla",
        "u:pro",
        "user:pro",
        False,
        False,
        {"o": {"id": "org_labs", "per": "r", "fpm": 1}},
    ),
    Example("a session with a task left", "pla", "u:pro", "user:pro", False, False, {"sts": "pending"}),
    Example("an active session", "pla", "u:pro", "user:pro", True, True, {"sts": "active"}),
    Example("nobody", "pla", "u:pro", "user:pro", False, False, {"sub": ""}),
    Example("an impersonated user", "pla", "u:pro", "user:pro", True, True, {"act": {"sub": "user_eve"}}),
    # Questions that are errors here.
    Example("a question without a scope", "pla", "u:pro", "pro", True, None),
    Example("an unknown scope in the question", "pla", "x:pro", "x:pro", False, None),
    Example("a scope in upper case in the question", "pla", "u:pro", "USER:pro", False, None),
    Example("a blank before the question", "pla", "u:pro", " user:pro", False, None),
    Example("a line end behind the question", "pla", "u:pro", "user:pro\n", False, False),
    Example("nothing asked", "pla", "u:pro", "", False, None),
    Example("no slug, which falls back to the scope", "pla", "u:user", "user:", True, None),
    Example("no slug on both sides", "pla", "u:", "user:", False, None),
    Example("text behind a second colon", "pla", "u:a", "u:a:b", True, None),
    Example("a second colon on both sides", "pla", "u:a:b", "u:a:b", False, None),
)
