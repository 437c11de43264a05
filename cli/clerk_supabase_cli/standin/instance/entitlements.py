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

    _of_payers: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def give(self, payer_id: str, plan: str, features: list[str]) -> None:
        """Sets the plan and the features of a payer; an empty text is no plan. Raises Rejection for a bad slug."""
        for name, slug in [("plan", plan), *(("features", each) for each in features)]:
            if slug and not _SLUG.fullmatch(slug):
                raise unprocessable(name, "must be a slug: lower-case letters, digits, - and _")
        self._of_payers[payer_id] = plan, [each for each in features if each]

    def in_token(self, user_id: str, organization_id: str | None) -> dict[str, list[str]]:
        """Arguments of Mint.session(): of the active organization or, without an organization, of the user."""
        scope, payer_id = ("o", organization_id) if organization_id else ("u", user_id)
        plan, features = self._of_payers.get(payer_id, ("", []))
        return {
            "plans": [f"{scope}:{plan}"] if plan else [],
            "features": [f"{scope}:{each}" for each in features],
        }
