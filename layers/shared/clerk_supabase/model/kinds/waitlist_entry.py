"""The entries of Clerk's waitlist: people who ask to be let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="waitlist_entry",
    write_order=11,
    plural="waitlist entries",
    table="waitlist_entries",
    key="clerk_waitlist_entry_id",
    event="waitlistEntry",
    verbs=("created", "updated"),
    list_path="/waitlist_entries",
    # Clerk reads no single entry, and tells no delete: the absence from the complete list is the proof.
    again_path="/waitlist_entries?order_by=+created_at",
)


def model() -> type[ClerkObject]:
    """The model of a waitlist entry."""
    from clerk_supabase.model.visits import WaitlistEntry

    return WaitlistEntry
