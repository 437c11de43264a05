"""All types of Clerk's webhooks, the decision about each type, and what repairs a kind after lost events.

Sources: https://github.com/clerk/openapi-specs (webhooks/2025-04-15), and for `subscriptionItem.created` the types in
https://github.com/clerk/javascript (packages/backend/src/api/resources/Webhooks.ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, READ_KINDS, SYNCED_TYPES

VERBS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "user": ("created", "updated", "deleted"),
        "organization": ("created", "updated", "deleted"),
        "organizationMembership": ("created", "updated", "deleted"),
        "organizationInvitation": ("created", "accepted", "revoked"),
        "organizationDomain": ("created", "updated", "deleted"),
        "permission": ("created", "updated", "deleted"),
        "role": ("created", "updated", "deleted"),
        "subscription": ("created", "updated", "active", "pastDue"),
        "subscriptionItem": (
            *("created", "updated", "active", "canceled", "upcoming", "ended", "abandoned", "incomplete", "pastDue"),
            "freeTrialEnding",
        ),
        "paymentAttempt": ("created", "updated"),
        "waitlistEntry": ("created", "updated"),
        "session": ("created", "pending", "ended", "removed", "revoked"),
        "email": ("created",),
        "sms": ("created",),
    }
)
"""Verbs of Clerk's events, by the first word of the types."""

NAMED_ELSEWHERE: Final = frozenset({"subscriptionItem.expired"})
"""Types that Clerk names in https://github.com/clerk/skills alone, and does not describe."""

CLERKS_TYPES: Final = tuple(f"{family}.{verb}" for family, verbs in VERBS.items() for verb in verbs)
"""All types of Clerk's webhooks."""

_ONE_TIME_CODES: Final = "has one-time codes and links to sign in; an app can keep the rest: docs/sync-another-type.md"
NOT_MIRRORED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "email": _ONE_TIME_CODES,
        "sms": _ONE_TIME_CODES,
    }
)
"""Reasons why events become no row, by the first word of the types."""

OF_LOST_EVENTS: Final = ("it never arrived", "its last change did not arrive")
"""Likely causes that blame a lost event."""
COMES_BY_COMPARISONS: Final = "comparisons bring it, as Clerk sends no event about it"
"""The likely cause instead, for a kind that Clerk only lists."""

_REPLAY: Final = "replay the messages of the outage: Clerk's dashboard, Webhooks, the endpoint, Replay"


def becomes(event_type: str) -> str | None:
    """The table of the rows that a type of Clerk's becomes, or the reason why not; None without a decision."""
    meaning = SYNCED_TYPES.get(event_type)
    if meaning is not None:
        return FACTS[meaning.kind].relation("clerk")
    return NOT_MIRRORED.get(event_type.partition(".")[0])


def is_compared(kind: Kind) -> bool:
    """Tells whether reconcile compares a kind; True for a kind that only the database knows."""
    return kind in READ_KINDS or kind not in FACTS


def compared_with(kind: Kind) -> str | None:
    """The plural of the objects with which runs compare this kind, which Clerk does not list; None without such."""
    carried = next((each for each, facts in FACTS.items() if facts.carrier == kind), None)
    return plural(carried) if carried else (FACTS[kind].enclosing or None if kind in FACTS else None)


def why_not_compared(kind: Kind) -> str:
    """Some words about a kind without a list in Clerk: `no list in Clerk`, or the kind that is compared instead."""
    other = compared_with(kind)
    return f"with {other}" if other else "no list in Clerk"


def what_heals(kind: Kind) -> str:
    """The repair of the rows of a kind that reconcile does not compare, after lost events."""
    return FACTS[kind].healed_by or _REPLAY


def is_only_listed(kind: Kind) -> bool:
    """Tells whether Clerk sends no events about a kind, so that comparisons alone write its rows."""
    return kind in FACTS and not FACTS[kind].verbs


def how_it_comes(kind: Kind) -> str:
    """Words about a kind that Clerk sends no events about; empty for any other kind."""
    return "; Clerk sends no events about them: full and quick runs write the rows" if is_only_listed(kind) else ""


def cause_in_words(kind: Kind, cause: str) -> str:
    """The likely cause of a difference, as a comparison recorded the cause, unless it blames an event that Clerk
    never sends."""
    return COMES_BY_COMPARISONS if is_only_listed(kind) and cause in OF_LOST_EVENTS else cause


def in_words(kind: str) -> str:
    """The name of one object of a kind, for people; the name of an app's table stays as it is."""
    return kind if "." in kind else kind.replace("_", " ")


def plural(kind: Kind) -> str:
    """The name of a kind's objects."""
    return FACTS[kind].plural if kind in FACTS else f"{kind}s"
