"""The kinds of this project: tests with samples of each kind know no sample of a kind that an app has added."""

from __future__ import annotations

import re

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, KINDS, SYNCED_TYPES

APPS: frozenset[Kind] = frozenset(kind for kind, facts in FACTS.items() if facts.write_order > 9000)
"""The kinds that an app has added, as docs/sync-another-type.md says."""
OURS: tuple[Kind, ...] = tuple(kind for kind in FACTS if kind not in APPS)
LATER: tuple[Kind, ...] = tuple(
    kind for kind in OURS if kind not in {"user", "organization", "membership", "invitation", "domain"}
)
"""The kinds of this project besides users and the objects of organizations: tests use the samples of their events."""
ALWAYS_SYNCED: tuple[str, ...] = tuple(
    name for name, meaning in SYNCED_TYPES.items() if not FACTS[meaning.kind].parameter
)
"""The event types that a stack with the usual parameters syncs."""
OUR_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in APPS)
"""The kinds of this project and private metadata, which has no events of its own."""
OUR_TYPES: frozenset[str] = frozenset(name for name, meaning in SYNCED_TYPES.items() if meaning.kind in OURS)
"""The event types of these kinds."""


_GENERATED = (
    re.compile(rf"clerk_sync\.(?:write|fill|differing|hide|audit|row)_(?:{'|'.join(APPS)})\b") if APPS else None
)


def is_made_for_the_app(name: str) -> bool:
    """Tells whether register() has made this function or type for a kind that an app has added."""
    return _GENERATED is not None and _GENERATED.match(name) is not None
