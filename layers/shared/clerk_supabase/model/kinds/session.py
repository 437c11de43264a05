"""The sessions of Clerk's users. Clerk lists sessions of a single user only, so no comparison can find a lost one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="session",
    write_order=12,
    plural="sessions",
    table="sessions",
    key="clerk_session_id",
    event="session",
    verbs=("created", "pending", "ended", "removed", "revoked"),
    parents={"clerk_user_id": "user"},
    parameter="SessionsDays",
)


def model() -> type[ClerkObject]:
    """The model of a session."""
    from clerk_supabase.model.visits import Session

    return Session
