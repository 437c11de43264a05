"""The plans of a made-up instance, made and changed as in Clerk's dashboard, which sends no event about a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from clerk_supabase_cli.standin.backend.rejections import Rejection, unprocessable
from clerk_supabase_cli.standin.billing.objects import Plan, plan_of_api
from clerk_supabase_cli.standin.instance.live_world import LiveWorld

PayerType = Literal["user", "org"]
PAYER_NAMES: Final = {"user": "users", "org": "organizations"}
"""The payers of a plan in words."""
_SLUG: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(slots=True)
class Plans:
    """The plans of one world."""

    world: LiveWorld

    def all(self) -> Iterator[Plan]:
        """All plans, those of the beginning first. An instance without plans gets these."""
        if not self.world.others["plan"]:
            self.world.sell_plans()
        for each in self.world.others["plan"].values():
            features = tuple(feature["slug"] for feature in each["features"])
            yield Plan(each["slug"], each["name"], each["fee"]["amount"], each["for_payer_type"], features, each["id"])

    def of(self, payer_type: PayerType) -> list[Plan]:
        """The plans for users, or those for organizations."""
        return [plan for plan in self.all() if plan.payer_type == payer_type]

    def default(self, payer_type: PayerType) -> Plan:
        """The plan with which each payer begins."""
        return next(plan for plan in self.of(payer_type) if not plan.amount)

    def wanted(self, payer_type: PayerType, slug: str, features: Sequence[str]) -> Plan:
        """The plan with this slug, or else the cheapest plan with these features, or else the default plan.

        Raises Rejection, with a way out, for an unknown plan and for a feature that the plan lacks.
        """
        _check([slug, *features])
        if slug:
            plan = self._named(payer_type, slug)
            if lacking := [each for each in features if each not in plan.features]:
                have = ", ".join(plan.features) or "no feature"
                raise unprocessable(
                    "features",
                    f"the plan {slug} has {have}, and not {', '.join(lacking)}; to change the plan: "
                    f"{_command('update', plan, (*plan.features, *lacking))}",
                )
            return plan
        if not features:
            return self.default(payer_type)
        having = [plan for plan in self.of(payer_type) if {*features} <= {*plan.features}]
        if not having:
            new = Plan("my-plan", "", 0, payer_type, tuple(features))
            raise unprocessable(
                "features",
                f"no plan for {PAYER_NAMES[payer_type]} has {' and '.join(features)}, and Clerk gives a feature by a "
                f"plan alone; the plans: {self._listed(payer_type)}; to make one: {_command('create', new, features)}",
            )
        return min(having, key=lambda plan: plan.amount)

    def create(self, payer_type: PayerType, slug: str, features: Sequence[str], amount: int) -> Plan:
        """Makes a plan; *amount*: the price of a month in cents. Raises Rejection for a slug in use."""
        _check([slug, *features])
        if not slug or any(plan.slug == slug for plan in self.of(payer_type)):
            raise unprocessable("slug", f"{slug or 'an empty text'} is no new slug of a plan for {payer_type}")
        name = slug.replace("_", " ").replace("-", " ").capitalize()
        return self._put(Plan(slug, name, amount, payer_type, tuple(dict.fromkeys(features)), self.world.ids("cplan")))

    def update(self, payer_type: PayerType, slug: str, features: Sequence[str]) -> Plan:
        """Gives a plan other features. Raises Rejection for an unknown plan."""
        _check(features)
        return self._put(self._named(payer_type, slug)._replace(features=tuple(dict.fromkeys(features))))

    def _put(self, plan: Plan) -> Plan:
        self.world.tick()
        self.world.others["plan"][plan.id] = plan_of_api(plan)
        return plan

    def _named(self, payer_type: PayerType, slug: str) -> Plan:
        for plan in self.of(payer_type):
            if plan.slug == slug:
                return plan
        new = Plan(slug, "", 0, payer_type)
        raise Rejection(
            404,
            "resource_not_found",
            f"there is no plan {slug} for {PAYER_NAMES[payer_type]}: {self._listed(payer_type)}; "
            f"to make one: {_command('create', new, ('...',))}",
        )

    def _listed(self, payer_type: PayerType) -> str:
        return ", ".join(f"{plan.slug} ({', '.join(plan.features) or 'no feature'})" for plan in self.of(payer_type))


def _command(verb: str, plan: Plan, features: Sequence[str]) -> str:
    options = " ".join(f"--feature {each}" for each in features)
    return f"clerk-supabase clerk plan {verb} {plan.slug} --for {plan.payer_type} {options}".rstrip()


def _check(slugs: Sequence[str]) -> None:
    """Raises Rejection for a text that is no slug."""
    for slug in slugs:
        if ":" in slug:
            raise unprocessable("slug", f"names no scope, as the payer is the scope: {slug.rpartition(':')[2]}")
        if slug and not _SLUG.fullmatch(slug):
            raise unprocessable("slug", "must be a slug: lower-case letters, digits, - and _")
