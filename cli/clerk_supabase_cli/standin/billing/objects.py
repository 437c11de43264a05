"""Synthetic objects of Clerk's Billing: as webhooks send the objects, and as the Backend API answers with the objects.

Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from clerk_supabase_cli.standin.samples import INSTANCE_ID, Json

MONTH: Final = 2_592_000_000
"""Thirty days, in milliseconds."""
_CURRENCY: Final = "USD"


class Plan(NamedTuple):
    """A plan of the made-up instance."""

    slug: str
    name: str
    amount: int
    """The price of a month in cents; of a year, ten times as much."""
    payer_type: str
    features: tuple[str, ...] = ()
    made_id: str = ""
    """The id of a plan that was made later; empty for the plans of the beginning, whose ids follow from the slugs."""

    @property
    def id(self) -> str:
        """The id of the plan."""
        return self.made_id or f"cplan_2Local{self.slug.title().replace('_', '')}"

    def price(self, period: str) -> int:
        """The price of one period."""
        return self.amount * 10 if period == "annual" else self.amount


PLANS: Final[Mapping[str, Plan]] = MappingProxyType(
    {
        plan.slug: plan
        for plan in (
            Plan("free_user", "Free", 0, "user"),
            Plan("pro", "Pro", 2_000, "user", ("reports", "export")),
            Plan("free_org", "Free", 0, "org"),
            Plan("team", "Team", 5_000, "org", ("dashboard", "reports")),
        )
    }
)
"""The plans of the made-up instance, by slug. A plan without a price is the default plan of its kind of payer."""


def payer(payer_id: str, *, user_id: str = "", org_id: str = "") -> Json:
    """A Clerk BillingPayer: a user or an organization. The other id is an empty text, as in Clerk's webhooks."""
    return {
        "object": "commerce_payer",
        "id": payer_id,
        "user_id": user_id,
        "first_name": "Ada" if user_id else "",
        "last_name": "",
        "email": "ada@example.test" if user_id else "",
        "organization_id": org_id,
        "organization_name": "Example Labs" if org_id else "",
        "image_url": "https://img.example.test/payer",
        "created_at": 0,
        "updated_at": 0,
    }


def item(
    item_id: str,
    plan: Plan,
    *,
    payer: Json,
    subscription_id: str,
    created_at: int,
    updated_at: int,
    **changes: Any,
) -> Json:
    """A Clerk SubscriptionItem in the form of an event about the item. `changes` replaces whole fields."""
    return {
        "object": "commerce_subscription_item",
        "id": item_id,
        "status": "active",
        "is_free_trial": False,
        "created_at": created_at,
        "updated_at": updated_at,
        "period_start": created_at,
        "period_end": created_at + MONTH if plan.amount else None,
        "interval": "month",
        "plan_id": plan.id,
        "plan": {
            "id": plan.id,
            "slug": plan.slug,
            "name": plan.name,
            "is_recurring": plan.amount > 0,
            "amount": plan.price(changes.get("interval", "month")),
            "currency": _CURRENCY,
        },
        "payer": payer,
        "subscription_id": subscription_id,
    } | changes


def inner_item(item: Json) -> Json:
    """An item in the form that it has inside a subscription: without a payer, and without the subscription's id."""
    return {name: value for name, value in item.items() if name != "payer"} | {"subscription_id": None}


def subscription(
    subscription_id: str, payer: Json, items: Sequence[Json], *, created_at: int, updated_at: int, **changes: Any
) -> Json:
    """A Clerk Subscription in the form of its events. `items`: in the form of their own events."""
    return {
        "object": "commerce_subscription",
        "id": subscription_id,
        "status": "active",
        "active_at": created_at,
        "canceled_at": None,
        "created_at": created_at,
        "ended_at": None,
        "past_due_at": None,
        "updated_at": updated_at,
        "latest_payment_id": None,
        "payer_id": payer["id"],
        "payer": payer,
        "payment_source_id": None,
        "items": [inner_item(each) for each in items],
    } | changes


def attempt(
    attempt_id: str, payer: Json, items: Sequence[Json], *, created_at: int, updated_at: int, **changes: Any
) -> Json:
    """A Clerk PaymentAttempt, pending."""
    total = sum(each["plan"]["amount"] for each in items)
    return {
        "id": attempt_id,
        "instance_id": INSTANCE_ID,
        "payment_id": f"cpay_{attempt_id.partition('_')[2]}",
        "invoice_id": "",
        "statement_id": _statement_id(payer, created_at),
        "gateway_external_id": "pi_2Local",
        "status": "pending",
        "created_at": created_at,
        "updated_at": updated_at,
        "paid_at": None,
        "failed_at": None,
        "failed_reason": None,
        "billing_date": created_at,
        "charge_type": "checkout",
        "payee": {
            "id": "cpayee_2Local",
            "gateway_type": "stripe",
            "gateway_external_id": "acct_2Local",
            "gateway_status": "active",
        },
        "payer": payer,
        "totals": {"subtotal": money(total), "tax_total": money(0), "grand_total": money(total)},
        "payment_source": {
            "id": "cps_2Local",
            "gateway": "stripe",
            "gateway_external_id": "pm_2Local",
            "gateway_external_account_id": None,
            "payment_method": "card",
            "status": "active",
            "card_type": "visa",
            "last4": "4242",
        },
        "subscription_items": [
            {name: value for name, value in each.items() if name not in ("payer", "is_free_trial", "seats")}
            for each in items
        ],
    } | changes


def _statement_id(payer: Json, moment: int) -> str:
    """The statement of a payer's month."""
    return f"stmt_{payer['id'].partition('_')[2]}{moment // MONTH}"


def money(amount: int) -> Json:
    """A Clerk BillingAmount. `amount`: in cents."""
    return {
        "amount": amount,
        "amount_formatted": f"${amount / 100:.2f}",
        "currency": _CURRENCY,
        "currency_symbol": "$",
    }


# The forms of the Backend API


def told_item(item: Json) -> Json:
    """An item as the Backend API answers with it: without its subscription, and with other names."""
    return {
        "object": "commerce_subscription_item",
        "id": item["id"],
        "instance_id": INSTANCE_ID,
        "status": item["status"],
        "plan_id": item["plan_id"],
        "plan": told_plan(item["plan"]),
        "plan_period": item["interval"],
        "payer_id": item["payer"]["id"],
        "payer": _told_payer(item["payer"]),
        "is_free_trial": item["is_free_trial"],
        "period_start": item["period_start"],
        "period_end": item["period_end"],
        "canceled_at": item["updated_at"] if item["status"] == "canceled" else None,
        "past_due_at": item["updated_at"] if item["status"] == "past_due" else None,
        "ended_at": item["updated_at"] if item["status"] == "ended" else None,
        "created_at": item["created_at"],
        "updated_at": item["updated_at"],
        "seats": item.get("seats"),
    }


def told_subscription(subscription: Json, items: Sequence[Json]) -> Json:
    """A subscription as the Backend API answers with it: without its payer, and with another name for the items."""
    return {
        "object": "commerce_subscription",
        "id": subscription["id"],
        "instance_id": INSTANCE_ID,
        "status": subscription["status"],
        "payer_id": subscription["payer_id"],
        "created_at": subscription["created_at"],
        "updated_at": subscription["updated_at"],
        "active_at": subscription["active_at"],
        "past_due_at": subscription["past_due_at"],
        "subscription_items": [told_item(each) for each in items],
        "eligible_for_free_trial": False,
    }


def told_attempt(attempt: Json) -> Json:
    """A Clerk BillingPaymentAttempt: one item, and neither the date of billing nor the reason of a failure."""
    item = attempt["subscription_items"][0]
    total = attempt["totals"]["grand_total"]
    return {
        "object": "commerce_payment",
        "id": attempt["id"],
        "payment_id": attempt["payment_id"],
        "instance_id": INSTANCE_ID,
        "charge_type": attempt["charge_type"],
        "payee_id": attempt["payee"]["id"],
        "payee": attempt["payee"],
        "payer_id": attempt["payer"]["id"],
        "payer": _told_payer(attempt["payer"]),
        "subscription_item_id": item["id"],
        "subscription_item": {"object": "commerce_subscription_item", "id": item["id"], "status": item["status"]},
        "amount": total,
        "totals": None,
        "payment_method_id": "cpm_2Local",
        "payment_method": {"object": "commerce_payment_method", "id": "cpm_2Local", "payment_type": "card"},
        "statement_id": attempt["statement_id"],
        "gateway_external_id": None,
        "gateway_external_url": None,
        "status": attempt["status"],
        "paid_at": attempt["paid_at"],
        "failed_at": attempt["failed_at"],
        "created_at": attempt["created_at"],
        "updated_at": attempt["updated_at"],
    }


def told_statement(statement_id: str, attempts: Sequence[Json]) -> Json:
    """A Clerk BillingStatement of one payer. `attempts`: at least one, the newest first."""
    total = money(sum(each["totals"]["grand_total"]["amount"] for each in attempts if each["status"] == "paid"))
    moment = attempts[-1]["created_at"]
    return {
        "object": "commerce_statement",
        "id": statement_id,
        "instance_id": INSTANCE_ID,
        "timestamp": moment,
        "payer": _told_payer(attempts[0]["payer"]),
        "status": "open",
        "totals": {"grand_total": total, "subtotal": total, "base_fee": total, "tax_total": money(0)},
        "groups": [
            {
                "object": "commerce_statement_group",
                "timestamp": moment,
                "items": [told_attempt(each) for each in attempts],
            }
        ],
    }


def told_plan(plan: Json | None) -> Json | None:
    """The plan of an item as the Backend API answers with it."""
    if plan is None:
        return None
    known = PLANS.get(plan["slug"])
    return plan_of_api(known) if known else {"object": "commerce_plan", "id": plan["id"], "slug": plan["slug"]}


def plan_of_api(plan: Plan) -> Json:
    """A Clerk CommercePlan."""
    return {
        "object": "commerce_plan",
        "id": plan.id,
        "name": plan.name,
        "fee": money(plan.price("month")),
        "annual_monthly_fee": None,
        "annual_fee": money(plan.price("annual")),
        "description": None,
        "product_id": "cprod_2Local",
        "is_default": plan.amount == 0,
        "is_recurring": plan.amount > 0,
        "publicly_visible": True,
        "has_base_fee": plan.amount > 0,
        "for_payer_type": plan.payer_type,
        "slug": plan.slug,
        "avatar_url": None,
        "features": [feature(slug) for slug in plan.features],
        "free_trial_enabled": False,
        "free_trial_days": None,
    }


def feature(slug: str) -> Json:
    """A Clerk Feature."""
    return {
        "object": "feature",
        "id": f"cfeat_2Local{slug.title()}",
        "name": slug.title(),
        "description": None,
        "slug": slug,
        "avatar_url": None,
    }


def _told_payer(payer: Json) -> Json:
    """A payer as the Backend API answers with it: the other id is null."""
    return {
        "object": "commerce_payer",
        "id": payer["id"],
        "instance_id": INSTANCE_ID,
        "user_id": payer["user_id"] or None,
        "organization_id": payer["organization_id"] or None,
    }
