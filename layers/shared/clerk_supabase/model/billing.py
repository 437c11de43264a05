"""Clerk's Billing: plans, subscriptions, their items, and payment attempts, with the rows of their tables.

Clerk calls Billing a beta. So an odd value of a field is null, and no status is unknown. A column stays as it is when
an object does not name its field: webhooks and Clerk's Backend API send an object in different forms.
Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final

from pydantic import BeforeValidator, ValidationInfo, field_validator

from clerk_supabase.model.clerk_object import (
    EMPTY_LIST,
    ClerkObject,
    Columns,
    Lenient,
    Loss,
    Moment,
    Name,
    OptionalId,
    TolerantObject,
    Whole,
    YesOrNo,
    timestamp,
)
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.organizations import EmbeddedOrganization
from clerk_supabase.model.users import User

_DIGITS: Final = re.compile("[0-9]{1,18}", re.ASCII)
_NO_SEATS: Final = 0


def _number_of_seats(value: object) -> int | None:
    """The number of seats; None: any number. So a quantity that cannot be read is no seat at all, and never None."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if value is None or (type(value) is int and 0 <= value < 2**63) else _NO_SEATS


def _seats(value: object) -> object:
    return value if value is None or isinstance(value, dict | Lenient) else {"quantity": value}


class Payer(Lenient):
    """The ids of a payer. The names, the e-mail address and the picture are the user's or the organization's.

    Clerk fills one of the two ids. A payer that names both is the organization, and its user id is an odd value.
    """

    id: OptionalId = None
    organization_id: OptionalId = None
    user_id: OptionalId = None

    @field_validator("user_id")
    @classmethod
    def _is_the_only_id(cls, user_id: str | None, info: ValidationInfo) -> str | None:
        if user_id and info.data.get("organization_id"):
            raise ValueError("the payer is an organization")
        return user_id


class Money(Lenient):
    """An amount in the smallest unit of its currency."""

    amount: Whole = None
    currency: Name = None


MoneyOrNone = Annotated[Money | None, Loss.odd]


class _PlanOfItem(Lenient):
    """The plan of an item: with one price in a webhook, with a price for each period in the Backend API."""

    id: OptionalId = None
    slug: Name = None
    name: Name = None
    amount: Whole = None
    currency: Name = None
    fee: MoneyOrNone = None
    annual_fee: MoneyOrNone = None

    def names_one_price(self) -> bool:
        """Tells whether the plan is of a webhook. The Backend API may leave the prices of a plan out."""
        return "amount" in self.model_fields_set

    def price(self, period: str | None) -> Money:
        """The price for one period."""
        return (self.annual_fee if period == "annual" else self.fee) or Money(
            amount=self.amount, currency=self.currency
        )


class Seats(Lenient):
    """The seats of an item of an organization; without a quantity, any number."""

    quantity: Annotated[int | None, BeforeValidator(_number_of_seats)] = None


class _OfPayer(TolerantObject):
    """An object of a payer, which is a user or an organization."""

    status: Name = None
    payer_id: OptionalId = None
    payer: Annotated[Payer | None, Loss.odd] = None

    def of_payer(self) -> Columns:
        """The columns of the payer, as far as they are known."""
        payer = self.payer or Payer()
        named = _known({"payer_id": self.payer_id or payer.id})
        if payer.user_id or payer.organization_id:
            return {**named, "clerk_user_id": payer.user_id, "clerk_org_id": payer.organization_id}
        return named

    def parents(self) -> tuple[ClerkObject, ...]:
        """The user or the organization, with the id alone."""
        payer = self.payer or Payer()
        parents: list[ClerkObject] = []
        if payer.user_id:
            parents.append(User.stub(id=payer.user_id, updated_at=0))
        if payer.organization_id:
            parents.append(EmbeddedOrganization(id=payer.organization_id))
        return tuple(parents)


class SubscriptionItem(_OfPayer):
    """Clerk's subscription item: one plan of a payer.

    A webhook about the item names its subscription and its payer, and so does the subscription around an item. Clerk's
    list of items names no subscription.
    """

    kind: ClassVar[Kind] = "subscription_item"

    subscription_id: OptionalId = None
    plan_id: OptionalId = None
    plan: Annotated[_PlanOfItem | None, Loss.odd] = None
    interval: Name = None
    plan_period: Name = None
    is_free_trial: YesOrNo = False
    seats: Annotated[Seats | None, BeforeValidator(_seats)] = None
    period_start: Moment = None
    period_end: Moment = None

    def columns(self) -> Columns:
        """The row of the table subscription_items."""
        period = self.interval or self.plan_period
        return {
            "clerk_subscription_item_id": self.id,
            **_known({"clerk_subscription_id": self.subscription_id}),
            **self.of_payer(),
            "status": self.status,
            **self._of_plan(period),
            "plan_period": period,
            "is_free_trial": self.is_free_trial,
            "is_seat_based": self.seats is not None,
            "seats": self.seats and self.seats.quantity,
            "period_start": timestamp(self.period_start),
            "period_end": timestamp(self.period_end),
            **_known({"created_at": timestamp(self.created_at)}),
        }

    def _of_plan(self, period: str | None) -> Columns:
        if "plan" not in self.model_fields_set:
            return _known({"plan_id": self.plan_id})
        plan = self.plan or _PlanOfItem()
        price = plan.price(period)
        priced = {"amount": price.amount, "currency": price.currency}
        # A price that is kept beside another plan, or beside none, would depend on the order of the events.
        return {
            "plan_id": self.plan_id or plan.id,
            "plan_slug": plan.slug,
            "plan_name": plan.name,
            **(priced if self.plan is None or plan.names_one_price() else _known(priced)),
        }


class _EmbeddedItem(SubscriptionItem):
    """An item inside a subscription. Without a version or a status, the item is left to events about itself."""


_Items = Annotated[list[_EmbeddedItem], EMPTY_LIST, Loss.odd]


class Subscription(_OfPayer):
    """Clerk's subscription. Each payer has one for life, and Clerk sends no event about its end."""

    kind: ClassVar[Kind] = "subscription"

    active_at: Moment = None
    past_due_at: Moment = None
    canceled_at: Moment = None
    ended_at: Moment = None
    items: _Items = []
    # The name of `items` in the Backend API.
    subscription_items: _Items = []

    def columns(self) -> Columns:
        """The row of the table subscriptions. The Backend API tells neither canceled_at nor ended_at."""
        ends = {"canceled_at": timestamp(self.canceled_at), "ended_at": timestamp(self.ended_at)}
        return {
            "clerk_subscription_id": self.id,
            **self.of_payer(),
            "status": self.status,
            "active_at": timestamp(self.active_at),
            "past_due_at": timestamp(self.past_due_at),
            **{name: value for name, value in ends.items() if name in self.model_fields_set},
            **_known({"created_at": timestamp(self.created_at)}),
        }

    def companions(self) -> tuple[ClerkObject, ...]:
        """The items, which take the subscription and the payer from here. A missing item proves nothing."""
        payer_id = self.payer_id or (self.payer and self.payer.id)
        of_parent = {"subscription_id": self.id, "payer": self.payer, "payer_id": payer_id}
        items = (*self.items, *self.subscription_items)
        usable = (each for each in items if each.updated_at > 0 and each.status is not None)
        return tuple(each.model_copy(update=of_parent) for each in usable)


class _Feature(Lenient):
    slug: Name = None


class Plan(TolerantObject):
    """Clerk's plan, which no event names. Clerk tells no times of a plan: the later of two answers is newer.

    An answer without features is one about a plan without features: no feature outlives its removal.
    """

    kind: ClassVar[Kind] = "plan"

    slug: Name = None
    name: Name = None
    description: Name = None
    for_payer_type: Name = None
    is_default: YesOrNo = False
    is_recurring: YesOrNo = False
    publicly_visible: YesOrNo = False
    fee: MoneyOrNone = None
    annual_fee: MoneyOrNone = None
    free_trial_enabled: YesOrNo = False
    free_trial_days: Whole = None
    features: Annotated[list[_Feature], EMPTY_LIST, Loss.odd] = []

    def columns(self) -> Columns:
        """The row of the table plans. The features stand in the order of their slugs: Clerk's order means nothing."""
        monthly, annual = self.fee or Money(), self.annual_fee or Money()
        return {
            "clerk_plan_id": self.id,
            "slug": self.slug,
            "name": self.name,
            "description": self.description,
            "for_payer_type": self.for_payer_type,
            "is_default": self.is_default,
            "is_recurring": self.is_recurring,
            "is_publicly_visible": self.publicly_visible,
            "amount": monthly.amount,
            "annual_amount": annual.amount,
            "currency": monthly.currency or annual.currency,
            "has_free_trial": self.free_trial_enabled,
            "free_trial_days": self.free_trial_days,
            "features": sorted({each.slug for each in self.features if each.slug}),
            "created_at": timestamp(self.created_at),
        }

    def told_by_api(self, observed_at: int) -> tuple[ClerkObject, int]:
        """The plan with a version above 0, the version of objects that only other objects name."""
        return (self if self.updated_at else self.model_copy(update={"updated_at": 1})), observed_at


class _ItemOfPayment(Lenient):
    id: OptionalId = None


class _Totals(Lenient):
    subtotal: MoneyOrNone = None
    tax_total: MoneyOrNone = None
    grand_total: MoneyOrNone = None


class _Failure(Lenient):
    code: Name = None
    decline_code: Name = None


class PaymentAttempt(_OfPayer):
    """Clerk's payment attempt, without the card and the ids of the payment provider. A retry is another attempt."""

    kind: ClassVar[Kind] = "payment_attempt"

    payment_id: OptionalId = None
    statement_id: OptionalId = None
    charge_type: Name = None
    # Clerk's documents call charge_type so.
    type: Name = None
    totals: Annotated[_Totals | None, Loss.odd] = None
    # The grand total in the Backend API, where `totals` may be null.
    amount: MoneyOrNone = None
    failed_reason: Annotated[_Failure | None, Loss.odd] = None
    subscription_items: Annotated[list[_ItemOfPayment], EMPTY_LIST, Loss.odd] = []
    billing_date: Moment = None
    paid_at: Moment = None
    failed_at: Moment = None

    def columns(self) -> Columns:
        """The row of the table payment_attempts. The Backend API tells no failure, no date of billing and one item."""
        totals, failure = self.totals or _Totals(), self.failed_reason or _Failure()
        total = totals.grand_total or self.amount or Money()
        told_by_events: dict[str, Columns] = {
            "billing_date": {"billing_date": timestamp(self.billing_date)},
            "failed_reason": {"failure_code": failure.code, "decline_code": failure.decline_code},
            "subscription_items": {"subscription_item_ids": [each.id for each in self.subscription_items if each.id]},
        }
        amounts = {
            "subtotal": totals.subtotal and totals.subtotal.amount,
            "tax": totals.tax_total and totals.tax_total.amount,
        }
        told = [columns for name, columns in told_by_events.items() if name in self.model_fields_set]
        return {
            "clerk_payment_attempt_id": self.id,
            **self.of_payer(),
            "payment_id": self.payment_id,
            "statement_id": self.statement_id,
            "status": self.status,
            "charge_type": self.charge_type or self.type,
            "amount": total.amount,
            **(_known(amounts) if "amount" in self.model_fields_set else amounts),
            "currency": total.currency,
            **{name: value for columns in told for name, value in columns.items()},
            "paid_at": timestamp(self.paid_at),
            "failed_at": timestamp(self.failed_at),
            "created_at": timestamp(self.created_at),
        }


def _known(columns: Columns) -> Columns:
    """The columns with a value: a column that is left out keeps its value."""
    return {name: value for name, value in columns.items() if value is not None}
