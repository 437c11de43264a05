"""The subscriptions of a made-up world: their state, and random changes with Clerk's events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.standin.billing import objects
from clerk_supabase_cli.standin.samples import Json

KINDS: Final[tuple[Kind, ...]] = ("subscription", "subscription_item", "payment_attempt")
EVENTS: Final = frozenset(FACTS[kind].event for kind in KINDS)
"""The families of the events about these kinds."""
OVER: Final = frozenset({"ended", "abandoned", "expired"})
"""The statuses of an item that is over."""


@dataclass(slots=True)
class Billing:
    """Subscriptions without their items, items, and payment attempts, each by id, in the form of their own events."""

    subscriptions: dict[str, Json] = field(default_factory=dict)
    items: dict[str, Json] = field(default_factory=dict)
    attempts: dict[str, Json] = field(default_factory=dict)

    def objects(self) -> dict[Kind, dict[str, Json]]:
        """The present objects, by kind and id."""
        return dict(zip(KINDS, (self.subscriptions, self.items, self.attempts), strict=True))

    def subscription_of(self, parent_id: str) -> Json | None:
        """The subscription of a user or an organization."""
        return next((each for each in self.subscriptions.values() if parent_of(each) == parent_id), None)

    def items_of(self, subscription_id: str) -> list[Json]:
        """The items of a subscription."""
        return [each for each in self.items.values() if each["subscription_id"] == subscription_id]

    def children_of(self, ids: Collection[str]) -> set[str]:
        """Ids of the objects of these users and organizations."""
        return {key for of_kind in self.objects().values() for key, each in of_kind.items() if parent_of(each) in ids}

    def drop(self, ids: Collection[str]) -> None:
        """Removes objects. Clerk sends no event about the end of a subscription."""
        for of_kind in self.objects().values():
            for key in of_kind.keys() & {*ids}:
                del of_kind[key]

    def copy(self, without: Collection[str] = ()) -> Billing:
        """A copy of the state; *without*: ids of objects to leave out."""
        every = self.objects().values()
        return Billing(*({key: each for key, each in of_kind.items() if key not in without} for of_kind in every))

    def learn(self, kind: Kind, data: Json) -> None:
        """Changes the state as an event of Clerk's says."""
        if kind == "payment_attempt":
            self.attempts[data["id"]] = data
            return
        if kind == "subscription":
            self.subscriptions[data["id"]] = data | {"items": []}
            whole = {"payer": data["payer"], "subscription_id": data["id"]}
            self._learn_items([each | whole for each in data["items"]])
            return
        self._learn_items([data])
        if data["subscription_id"] not in self.subscriptions:
            made = {"created_at": data["created_at"], "updated_at": data["updated_at"]}
            found = objects.subscription(data["subscription_id"], data["payer"], [], **made)
            self.subscriptions[found["id"]] = found

    def _learn_items(self, items: list[Json]) -> None:
        for each in items:
            known = self.items.get(each["id"])
            if known is None or known["updated_at"] <= each["updated_at"]:
                self.items[each["id"]] = each


def parent_of(billed: Json) -> str:
    """The id of the user or of the organization that pays."""
    payer = billed["payer"]
    return str(payer["user_id"] or payer["organization_id"])


@dataclass(slots=True)
class Payer:
    """One payer's next change: a payer subscribes, pays, cancels, falls behind, and returns to the default plan.

    The events of one change share a moment, and come in any order, as Clerk documents none.
    """

    billing: Billing
    chance: Random
    tick: Callable[[], int]
    new_id: Callable[[str], str]
    send: Callable[[str, Json], object]
    _events: list[tuple[str, Json]] = field(default_factory=list)

    def live(self, *, user_id: str = "", org_id: str = "") -> None:
        """Makes a random change that is possible at this moment."""
        subscription = self.billing.subscription_of(user_id or org_id)
        if subscription is None:
            self._begin(objects.payer(self.new_id("cpayer"), user_id=user_id, org_id=org_id))
        else:
            items = self.billing.items_of(subscription["id"])
            [free] = (each for each in items if each["plan"]["amount"] == 0)
            paid = next((each for each in items if each is not free and each["status"] not in OVER), None)
            if paid is None:
                self._subscribe(subscription, free)
            else:
                self._go_on(subscription, free, paid)
        self.chance.shuffle(self._events)
        for event_type, data in self._events:
            self.send(event_type, data)

    def _begin(self, payer: Json) -> None:
        plan = objects.PLANS["free_user" if payer["user_id"] else "free_org"]
        now = self.tick()
        made = {"created_at": now, "updated_at": now}
        subscription = objects.subscription(self.new_id("csub"), payer, [], **made)
        item = objects.item(self.new_id("subi"), plan, payer=payer, subscription_id=subscription["id"], **made)
        self.billing.subscriptions[subscription["id"]] = subscription
        self._put(item, "active")
        self._tell(subscription, "created")

    def _subscribe(self, subscription: Json, free: Json) -> None:
        payer, now = subscription["payer"], self.tick()
        made = {"created_at": now, "updated_at": now}
        is_org = bool(payer["organization_id"])
        item = objects.item(
            self.new_id("subi"),
            objects.PLANS["team" if is_org else "pro"],
            payer=payer,
            subscription_id=subscription["id"],
            status="incomplete",
            interval=self.chance.choice(("month", "annual")),
            **made,
        )
        if is_org:
            item["seats"] = {"quantity": self.chance.choice((None, 5))}
        self._put(item, self.chance.choice(("created", "incomplete")))
        attempt = objects.attempt(self.new_id("cpa"), payer, [item], **made)
        self._pay(attempt, "created")
        if self.chance.random() < 0.2:
            self._change(item, "abandoned")
            self._pay(attempt | {"status": "failed", "failed_at": self.tick(), "updated_at": self.tick()}, "updated")
        else:
            self._change(item, "active", is_free_trial=self.chance.random() < 0.3)
            self._change(free, "ended")
            self._pay(attempt | {"status": "paid", "paid_at": self.tick(), "updated_at": self.tick()}, "updated")
        self._tell(subscription, "updated")

    def _go_on(self, subscription: Json, free: Json, paid: Json) -> None:
        verbs: Mapping[str, Callable[[Json, Json, Json], None]] = {
            "active": self.chance.choice((self._cancel, self._renew, self._fall_behind, self._notify)),
            "past_due": self.chance.choice((self._recover, self._end)),
            "canceled": self.chance.choice((self._end, self._return)),
        }
        verbs[paid["status"]](subscription, free, paid)

    def _cancel(self, subscription: Json, free: Json, paid: Json) -> None:
        self._change(paid, "canceled")
        self._change(free, "upcoming", period_start=paid["period_end"])
        self._tell(subscription, "updated")

    def _return(self, subscription: Json, free: Json, paid: Json) -> None:
        self._change(paid, "active")
        self._change(free, "abandoned")
        self._tell(subscription, "updated")

    def _end(self, subscription: Json, free: Json, paid: Json) -> None:
        self._change(paid, "ended")
        self._change(free, "active")
        self._recovered(subscription)

    def _renew(self, subscription: Json, _: Json, paid: Json) -> None:
        later = paid["period_end"] + objects.MONTH
        self._change(paid, "active", event="updated", period_start=paid["period_end"], period_end=later)
        self._tell(subscription, "updated")

    def _fall_behind(self, subscription: Json, _: Json, paid: Json) -> None:
        self._change(paid, "past_due", event="pastDue")
        self._set(subscription, status="past_due", past_due_at=self.tick())
        self._tell(subscription, "pastDue")

    def _recover(self, subscription: Json, _: Json, paid: Json) -> None:
        self._change(paid, "active")
        self._recovered(subscription)

    def _recovered(self, subscription: Json) -> None:
        was_late = subscription["status"] == "past_due"
        if was_late:
            self._set(subscription, status="active", past_due_at=None, active_at=self.tick())
        self._tell(subscription, "active" if was_late else "updated")

    def _notify(self, _: Json, __: Json, paid: Json) -> None:
        """A notice, with the object as it has been for a while."""
        self.tick()
        self._events.append(("subscriptionItem.freeTrialEnding", paid))

    # Objects and events

    def _change(self, item: Json, status: str, *, event: str = "", **changes: object) -> None:
        changed = self.billing.items[item["id"]] | changes | {"status": status, "updated_at": self.tick()}
        self._put(changed, event or status)

    def _put(self, item: Json, event: str) -> None:
        self.billing.items[item["id"]] = item
        self._events.append((f"subscriptionItem.{event}", item))

    def _set(self, subscription: Json, **changes: object) -> None:
        self.billing.subscriptions[subscription["id"]] = subscription | changes

    def _tell(self, subscription: Json, verb: str) -> None:
        found = self.billing.subscriptions[subscription["id"]] | {"updated_at": self.tick()}
        self.billing.subscriptions[found["id"]] = found
        items = self.billing.items_of(found["id"])
        if self.chance.random() < 0.5:
            # Whether Clerk lists past items is not documented.
            items = [each for each in items if each["status"] not in OVER]
        told = found | {"items": [objects.inner_item(each) for each in items]}
        self._events.append((f"subscription.{verb}", told))

    def _pay(self, attempt: Json, verb: str) -> None:
        self.billing.attempts[attempt["id"]] = attempt
        self._events.append((f"paymentAttempt.{verb}", attempt))
