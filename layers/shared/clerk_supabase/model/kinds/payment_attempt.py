"""The attempts to pay for subscription items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clerk_supabase.model.facts import Facts

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject

FACTS: Final = Facts(
    kind="payment_attempt",
    write_order=10,
    plural="payment attempts",
    table="payment_attempts",
    key="clerk_payment_attempt_id",
    event="paymentAttempt",
    verbs=("created", "updated"),
    parents={"clerk_user_id": "user", "clerk_org_id": "organization"},
    enclosing_path="/billing/statements",
    enclosed_in=("groups", "items"),
    enclosing="billing statements",
    is_list_whole=False,
    healed_by="a full run compares the attempts of all billing statements, a quick run of the newest 500",
)


def model() -> type[ClerkObject]:
    """The model of a payment attempt."""
    from clerk_supabase.model.billing import PaymentAttempt

    return PaymentAttempt
