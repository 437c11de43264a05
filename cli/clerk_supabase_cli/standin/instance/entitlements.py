"""Plans and features of the payers in a made-up instance, as session tokens name them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from clerk_supabase_cli.standin.rejections import unprocessable

_SLUG: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(slots=True)
class Entitlements:
    """One plan and some features of each payer, a user or an organization."""

    _plans: dict[str, str] = field(default_factory=dict)
    _features: dict[str, list[str]] = field(default_factory=dict)

    def give(self, payer_id: str, plan: str, features: list[str]) -> None:
        """Sets the plan and the features of a payer; an empty text is no plan. Raises Rejection for a bad slug."""
        for name, slug in [("plan", plan), *(("features", each) for each in features)]:
            if ":" in slug:
                raise unprocessable(name, f"names no scope, as the payer is the scope: {slug.rpartition(':')[2]}")
            if slug and not _SLUG.fullmatch(slug):
                raise unprocessable(name, "must be a slug: lower-case letters, digits, - and _")
        self._plans[payer_id] = plan
        self._features[payer_id] = [each for each in features if each]

    def plans_of(self, payer_id: str) -> list[str]:
        """The plan of a payer as `pla` spells it, such as `o:team`; an empty list without a plan."""
        plan = self._plans.get(payer_id)
        return [_spelled(payer_id, plan)] if plan else []

    def features_of(self, payer_id: str) -> list[str]:
        """The features of a payer as `fea` spells them."""
        return [_spelled(payer_id, each) for each in self._features.get(payer_id, [])]


def _spelled(payer_id: str, slug: str) -> str:
    return f"{'o' if payer_id.startswith('org_') else 'u'}:{slug}"
