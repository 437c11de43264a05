"""The subscriptions of Clerk's Billing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="subscription",
    write_order=8,
    plural="subscriptions",
    table="subscriptions",
    key="clerk_subscription_id",
    event="subscription",
    verbs=("created", "updated", "active", "pastDue"),
    parents={"clerk_user_id": "user", "clerk_org_id": "organization"},
    paths_of_parents={
        "user": "/users/{id}/billing/subscription",
        "organization": "/organizations/{id}/billing/subscription",
    },
    healed_by="a run reads the subscription of a payer if an item differs, the row of the subscription is missing, or "
    "the two disagree about past_due",
)


def model() -> type[ClerkObject]:
    """The model of a subscription."""
    from clerk_supabase.model.billing import Subscription

    return Subscription
