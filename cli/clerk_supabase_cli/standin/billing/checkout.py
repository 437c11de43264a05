"""A payer of a made-up world takes a plan, or goes back to the default plan: the objects and Clerk's events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clerk_supabase_cli.standin.billing import objects
from clerk_supabase_cli.standin.billing.life import OVER, Billing
from clerk_supabase_cli.standin.samples import Json


@dataclass(slots=True)
class Checkout:
    """The checkout of one world. A new plan counts at once, and the plan before ends at once."""

    billing: Billing
    tick: Callable[[], int]
    new_id: Callable[[str], str]
    send: Callable[[str, Json], object]

    def take(self, payer_id: str, plan: objects.Plan, default: objects.Plan) -> None:
        """Subscribes a user or an organization to *plan*; *default*: the plan with which each payer begins.

        Changes nothing for a payer who has the plan already.
        """
        subscription = self.billing.subscription_of(payer_id) or self._begin(payer_id, default)
        present = [each for each in self.billing.items_of(subscription["id"]) if each["status"] not in OVER]
        if [each["plan_id"] for each in present if each["status"] == "active"] == [plan.id]:
            return
        ended = [each for each in present if each["plan_id"] != plan.id]
        item = self._item(subscription, plan)
        self._put(item, "active")
        for each in ended:
            self._put(each | {"status": "ended", "updated_at": self.tick()}, "ended")
        if plan.amount:
            self._pay(subscription, item)
        self._tell(subscription, "updated")

    def _begin(self, payer_id: str, default: objects.Plan) -> Json:
        """Makes a payer, whose subscription begins with the default plan."""
        named = {"org_id" if payer_id.startswith("org_") else "user_id": payer_id}
        payer = objects.payer(self.new_id("cpayer"), **named)
        now = self.tick()
        subscription = objects.subscription(self.new_id("csub"), payer, [], created_at=now, updated_at=now)
        self.billing.subscriptions[subscription["id"]] = subscription
        self._put(self._item(subscription, default), "active")
        return self._tell(subscription, "created")

    def _item(self, subscription: Json, plan: objects.Plan) -> Json:
        """An active item. The item of a default plan keeps its id for ever; every other plan gets a new item."""
        now = self.tick()
        items = self.billing.items_of(subscription["id"])
        former = next((each for each in items if each["plan_id"] == plan.id and not plan.amount), None)
        if former is not None:
            return former | {"status": "active", "period_start": now, "updated_at": now}
        return objects.item(
            self.new_id("subi"),
            plan,
            payer=subscription["payer"],
            subscription_id=subscription["id"],
            created_at=now,
            updated_at=now,
        )

    def _put(self, item: Json, verb: str) -> None:
        self.billing.items[item["id"]] = item
        self.send(f"subscriptionItem.{verb}", item)

    def _pay(self, subscription: Json, item: Json) -> None:
        now = self.tick()
        attempt = objects.attempt(self.new_id("cpa"), subscription["payer"], [item], created_at=now, updated_at=now)
        self.send("paymentAttempt.created", attempt)
        later = self.tick()
        self.billing.attempts[attempt["id"]] = attempt | {"status": "paid", "paid_at": later, "updated_at": later}
        self.send("paymentAttempt.updated", self.billing.attempts[attempt["id"]])

    def _tell(self, subscription: Json, verb: str) -> Json:
        fresh = {"status": "active", "past_due_at": None, "updated_at": self.tick()}
        found = self.billing.subscriptions[subscription["id"]] | fresh
        self.billing.subscriptions[found["id"]] = found
        items = [objects.inner_item(each) for each in self.billing.items_of(found["id"])]
        self.send(f"subscription.{verb}", found | {"items": items})
        return found
