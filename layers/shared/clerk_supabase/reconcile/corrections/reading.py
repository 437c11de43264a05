"""Repairs of objects that are read again from Clerk: each alone, or together in the object that brings them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from clerk_supabase.clerk.api import Clerk, in_path
from clerk_supabase.clerk.lookups import Held, read_again
from clerk_supabase.errors import GoneFromClerk, OrganizationsUnavailable
from clerk_supabase.model.facts import Kind, ReadKind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.reconcile.repairs import Repair

_PAYER_FIELDS: Final = {"user": "user_id", "organization": "organization_id"}


def repairs_by_reading(clerk: Clerk, run_id: int, kind: ReadKind, held: Sequence[Held]) -> list[Repair]:
    """Repairs with the present state of objects in Clerk; none of an object that is gone or has an unknown parent."""
    if FACTS[kind].carrier:
        return list(_by_carrier(clerk, run_id, kind, held))
    return [Repair(run_id, kind, item.id, item.observed_at, item.json()) for item in read_again(clerk, kind, held)]


def _by_carrier(clerk: Clerk, run_id: int, kind: ReadKind, held: Sequence[Held]) -> Iterator[Repair]:
    """A repair for each parent of the objects: one request each."""
    carrier = FACTS[FACTS[kind].carrier]
    by_parent: dict[tuple[Kind, str], list[str]] = {}
    for object_id, user_id, org_id in held:
        for parent_kind, parent_id in (("user", user_id), ("organization", org_id)):
            if parent_id:
                by_parent.setdefault((parent_kind, parent_id), []).append(object_id)
    for (parent_kind, parent_id), ids in by_parent.items():
        try:
            item = clerk.of_parent(carrier.paths_of_parents[parent_kind].format(id=in_path(parent_id))).value
        except (GoneFromClerk, OrganizationsUnavailable):
            continue
        json = _with_payer(item.json(), _PAYER_FIELDS[parent_kind], parent_id)
        yield Repair(run_id, carrier.kind, item.id, item.observed_at, json, brings=tuple(ids))


def _with_payer(json: bytes, field: str, parent_id: str) -> bytes:
    """An answer of Clerk with the payer that the request named. Clerk's answer names only the payer's id in Billing."""
    return b'{"payer":%s,%s' % (msgspec.json.encode({field: parent_id}), json.strip().removeprefix(b"{"))
