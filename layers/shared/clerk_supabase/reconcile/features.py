"""Features that are switched off in Clerk, such as organizations: Clerk's answers about the lists have to agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clerk_supabase.errors import BillingUnavailable, ClerkRejected, DomainsUnavailable, OrganizationsUnavailable
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, FACTS, KIND_NAMES, LIST_KINDS

_ALL: Final = (*LIST_KINDS, *ENCLOSED_KINDS)
_OF_ORGANIZATIONS: Final = tuple(
    kind
    for kind in LIST_KINDS
    # Without organizations, users still have subscription items.
    if "organization" in FACTS[kind].parents.values() and not FACTS[kind].carrier
)
_OF_BILLING: Final = tuple(
    kind for kind in _ALL if "billing" in (FACTS[kind].list_path or FACTS[kind].enclosing_path).split("/")
)

CONTRADICTED: Final = "other answers of Clerk contradict that"


@dataclass(frozen=True, slots=True)
class _Feature:
    error: type[ClerkRejected]
    """Clerk's answer to a request for a list that needs the feature."""
    kinds: Sequence[Kind]
    """The kinds whose lists may need the feature."""
    deciding: Sequence[Kind]
    """The feature is off if Clerk refuses the lists of all these kinds with this answer."""
    sentence: str


_FEATURES: Final = (
    _Feature(
        OrganizationsUnavailable,
        _ALL,
        ("organization",),
        "organizations are switched off in Clerk: organizations and their objects were not compared",
    ),
    _Feature(
        DomainsUnavailable,
        ("domain",),
        ("domain",),
        "verified domains are switched off in Clerk: domains were not compared",
    ),
    _Feature(
        BillingUnavailable,
        _OF_BILLING,
        _OF_BILLING,
        "Billing is switched off in Clerk: plans, subscriptions, their items and payment attempts were not compared",
    ),
)


@dataclass
class Features:
    """The lists that Clerk has given or refused in a run."""

    given: set[Kind] = field(default_factory=set)
    """The kinds of which Clerk has given a page."""
    _refused: dict[Kind, ClerkRejected] = field(default_factory=dict)

    def refuse(self, kind: Kind, error: ClerkRejected) -> None:
        """Note Clerk's answer to a request for a list. Without organizations, their objects have no list, either."""
        self._refused[kind] = error
        if kind == "organization" and self.is_off(kind):
            self._refused |= dict.fromkeys(_OF_ORGANIZATIONS, error)

    def is_refused(self, kind: Kind) -> bool:
        """Tell whether Clerk refuses the list."""
        return kind in self._refused

    def is_off(self, kind: Kind) -> bool:
        """Tell whether a feature that the list needs is switched off."""
        return self._off(kind) is not None

    def switched_off(self) -> Sequence[Kind]:
        """The kinds of the lists that need a feature that is switched off."""
        return [kind for kind in self._refused if self.is_off(kind)]

    def sentences(self) -> Sequence[str]:
        """A sentence for each feature that is switched off."""
        return list(dict.fromkeys(feature.sentence for feature in map(self._off, self._refused) if feature))

    def doubts(self) -> Mapping[Kind, str]:
        """The reasons why lists were not compared, by kind. A feature that is switched off is no such reason."""
        return {
            kind: f"{KIND_NAMES[kind]} were not compared ({error}{f'; {CONTRADICTED}' if _feature(error) else ''})"
            for kind, error in self._refused.items()
            if not self.is_off(kind)
        }

    def _off(self, kind: Kind) -> _Feature | None:
        feature = _feature(self._refused.get(kind))
        if feature is None or kind not in feature.kinds:
            return None
        is_off = all(
            isinstance(self._refused.get(each), feature.error) and each not in self.given
            for each in {kind, *feature.deciding}
        )
        return feature if is_off else None


def _feature(error: ClerkRejected | None) -> _Feature | None:
    return next((feature for feature in _FEATURES if isinstance(error, feature.error)), None)
