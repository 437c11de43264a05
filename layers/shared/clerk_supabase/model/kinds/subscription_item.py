"""The items of subscriptions: the plans of a payer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="subscription_item",
    write_order=9,
    plural="subscription items",
    table="subscription_items",
    key="clerk_subscription_item_id",
    event="subscriptionItem",
    verbs=(
        "created",
        "updated",
        "active",
        "canceled",
        "ended",
        "abandoned",
        "incomplete",
        "pastDue",
        "upcoming",
        "freeTrialEnding",
        "expired",
    ),
    parents={"clerk_user_id": "user", "clerk_org_id": "organization"},
    list_path="/billing/subscription_items",
    list_filters=(("include_free", "true"),),
    carrier="subscription",
    is_listed_newest_first=True,
    is_list_whole=False,
)


def model() -> type[ClerkObject]:
    """The model of a subscription item."""
    from clerk_supabase.model.billing import SubscriptionItem

    return SubscriptionItem
