"""Events of Clerk's Billing, short to write. `at`: milliseconds after the beginning, by Clerk's clock."""

from __future__ import annotations

from typing import Any

from clerk_supabase_cli.standin.billing import objects as billing
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.webhooks import told


def item(
    item_id: str = "csub_item_1", *, at: int, user_id: str = "", org_id: str = "", told_at: int = -1, **fields: Any
) -> Applied:
    """An item as seen at a time. *fields* replaces whole fields of Clerk's object. *told_at*: when Clerk sent it."""
    payer = billing.payer("cpayer_1", user_id=user_id or ("" if org_id else "user_1"), org_id=org_id)
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    data = billing.item(item_id, billing.PLANS["pro"], payer=payer, subscription_id="csub_1", **times) | fields
    return told("subscriptionItem.updated", data, at=max(at, told_at))


def subscription(
    subscription_id: str = "csub_1", *, at: int, user_id: str = "", org_id: str = "", **fields: Any
) -> Applied:
    """A subscription as seen at a time, without items."""
    payer = billing.payer("cpayer_1", user_id=user_id or ("" if org_id else "user_1"), org_id=org_id)
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    return told("subscription.updated", billing.subscription(subscription_id, payer, [], **times) | fields, at=at)


def attempt(attempt_id: str = "cpa_1", *, at: int, user_id: str = "", org_id: str = "", **fields: Any) -> Applied:
    """A payment attempt as seen at a time."""
    payer = billing.payer("cpayer_1", user_id=user_id or ("" if org_id else "user_1"), org_id=org_id)
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    data = billing.attempt(attempt_id, payer, [], **times) | fields
    return told("paymentAttempt.updated", data, at=at)
