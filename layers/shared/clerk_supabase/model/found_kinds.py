"""The kinds of Clerk's objects that are synced: each module of the package `kinds` is a kind, and no list names it.

A module holds the facts about its kind as `FACTS`; its function `model()` returns the model of the objects. Ingest
loads all these modules at each cold start and needs the facts alone, so a module imports what its model needs inside
`model()`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final, cast

from clerk_supabase.model import kinds
from clerk_supabase.model.facts import Facts, Kind, ListKind, ReadKind

if TYPE_CHECKING:
    from clerk_supabase.model.clerk_object import ClerkObject


def _find() -> Mapping[Kind, ModuleType]:
    """The modules of the package in the order of writing."""
    # Not pkgutil, which ingest would load for this one line.
    files = [name.removesuffix(".py") for name in os.listdir(kinds.__path__[0]) if name.endswith(".py")]  # noqa: PTH208 - as above
    # Without __init__, and without copies that an editor or a file system leaves.
    names = [name for name in files if name.isidentifier() and not name.startswith("_")]
    modules = [import_module(f"{kinds.__name__}.{name}") for name in names]
    modules.sort(key=lambda module: cast("Facts", module.FACTS).write_order)
    found = {module.FACTS.kind: module for module in modules}
    if len(found) < len(modules):
        raise ValueError(f"two modules of {kinds.__name__} have the same kind: {', '.join(sorted(names))}")
    return found


_MODULES: Final = _find()

FACTS: Final[Mapping[Kind, Facts]] = MappingProxyType({kind: module.FACTS for kind, module in _MODULES.items()})
"""Facts about each kind that has events, parents before their children."""

KINDS: Final[tuple[Kind, ...]] = (*FACTS, "private_metadata")
LIST_KINDS: Final[tuple[ListKind, ...]] = tuple(kind for kind, facts in FACTS.items() if facts.list_path)
ENCLOSED_KINDS: Final[tuple[Kind, ...]] = tuple(kind for kind, facts in FACTS.items() if facts.enclosing_path)
READ_KINDS: Final[tuple[ReadKind, ...]] = ("user", *LIST_KINDS)

KIND_NAMES: Final[Mapping[Kind, str]] = MappingProxyType({kind: facts.plural for kind, facts in FACTS.items()})
WITH_PRIVATE_METADATA: Final = frozenset(kind for kind, facts in FACTS.items() if facts.keeps_private_metadata)


@functools.cache
def model_of(kind: Kind) -> type[ClerkObject]:
    """The model of a kind's objects. Loads pydantic, and for the first object of a kind the models of its subject."""
    return cast("type[ClerkObject]", _MODULES[kind].model())


@dataclass(frozen=True, slots=True)
class Meaning:
    """Kind of the object of an event, and whether the object is gone."""

    kind: Kind
    is_delete: bool = False


REPAIR_PREFIX: Final = "reconcile."
"""Prefix of the type of an event that reconcile made of an object read from Clerk. No webhook has this prefix."""
_REPAIR_VERBS: Final = ("updated", "deleted")

CANARY_TYPE: Final = "clerk-supabase.canary"
"""Type of an event that `clerk-supabase doctor` signs and sends: sync records the delivery and changes no row."""

SYNCED_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        f"{facts.event}.{verb}": Meaning(kind, is_delete=verb == "deleted")
        for kind, facts in FACTS.items()
        for verb in facts.verbs
    }
)
"""Meanings of the event types that are synced."""

REPAIR_TYPES: Mapping[str, Meaning] = MappingProxyType(
    {
        f"{REPAIR_PREFIX}{facts.event}.{verb}": Meaning(kind, is_delete=verb == "deleted")
        for kind, facts in FACTS.items()
        for verb in _REPAIR_VERBS
        if verb not in facts.verbs
    }
)
"""Meanings of the types of repairs that correspond to no webhook."""
