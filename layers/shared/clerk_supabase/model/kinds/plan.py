"""The plans of Clerk's Billing, each with its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="plan",
    write_order=13,
    plural="plans",
    table="plans",
    key="clerk_plan_id",
    event="plan",
    # Clerk sends no event about a plan.
    verbs=(),
    list_path="/billing/plans",
    # Clerk reads no single plan: the absence from the complete list is the proof.
    again_path="/billing/plans",
    is_listed_newest_first=True,
    is_dated=False,
)


def model() -> type[ClerkObject]:
    """The model of a plan."""
    from clerk_supabase.model.billing import Plan

    return Plan
