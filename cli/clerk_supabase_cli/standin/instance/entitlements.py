"""Plans and features of the payers in a made-up instance, as session tokens name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clerk_supabase_cli.standin.instance.live_world import LiveWorld
from clerk_supabase_cli.standin.samples import Json


@dataclass(slots=True)
class Entitlements:
    """The plans that count now: active, or canceled and paid for a while."""

    world: LiveWorld

    def plans_of(self, payer_id: str) -> list[str]:
        """The plans of a payer as `pla` spells them, such as `o:team`; an empty list without a subscription."""
        return [_spelled(payer_id, plan["slug"]) for plan in self._plans(payer_id)]

    def features_of(self, payer_id: str) -> list[str]:
        """The features of a payer's plans as `fea` spells them."""
        slugs = (each["slug"] for plan in self._plans(payer_id) for each in plan["features"])
        return [_spelled(payer_id, slug) for slug in dict.fromkeys(slugs)]

    def _plans(self, payer_id: str) -> Iterator[Json]:
        subscription = self.world.billing.subscription_of(payer_id)
        for item in self.world.billing.items_of(subscription["id"]) if subscription else ():
            is_paid = item["status"] == "canceled" and (item["period_end"] or 0) > self.world.clock()
            if (item["status"] == "active" or is_paid) and (plan := self.world.others["plan"].get(item["plan_id"])):
                yield plan


def _spelled(payer_id: str, slug: str) -> str:
    return f"{'o' if payer_id.startswith('org_') else 'u'}:{slug}"
