"""Repairs of objects that are read again from Clerk: each alone, or together in the object that brings them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from clerk_supabase.clerk.api import Clerk, in_path
from clerk_supabase.clerk.lookups import Held, read_again
from clerk_supabase.clerk.pages import Item
from clerk_supabase.errors import GoneFromClerk, OrganizationsUnavailable, UnusableEvent
from clerk_supabase.model.facts import Kind, ReadKind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.reconcile.corrections.repairs import Repair
from clerk_supabase.reconcile.features import Features

_CARRIER_FIELD: Final = "subscription_id"
"""Field of an object that names its carrier. Clerk's lists leave the field out."""
_PAYER_FIELDS: Final = {"user": "user_id", "organization": "organization_id"}


def repairs_by_reading(
    clerk: Clerk, run_id: int, kind: ReadKind, held: Sequence[Held], features: Features
) -> list[Repair]:
    """Repairs with the present state of objects in Clerk; none of an object that is gone or has an unknown parent."""
    if FACTS[kind].carrier:
        return list(_by_carrier(clerk, run_id, kind, held, features))
    return [Repair(run_id, kind, item.id, item.observed_at, item.json()) for item in read_again(clerk, kind, held)]


def repairs_with_listed(
    clerk: Clerk,
    run_id: int,
    kind: ReadKind,
    held: Sequence[Held],
    *,
    differing: Mapping[str, Item],
    received_at: int,
    features: Features,
) -> Iterator[Repair]:
    """Repairs of objects by their carriers; an object that its carrier lacks is repaired as the list shows the object.

    A carrier that cannot be read is among the repairs, and must not be sent.

    `differing`: the objects of the list whose rows differ, by id. Clerk does not document that a carrier holds all its
    objects, nor that a parent of a listed object has a carrier.
    """
    left = {object_id: differing[object_id] for object_id, *parents in held if object_id in differing and any(parents)}
    for repair in repairs_by_reading(clerk, run_id, kind, held, features):
        inside = _inside(repair, kind, received_at)
        lacking = [each for each in repair.brings if each in left and each not in (inside or ())]
        brought = tuple(each for each in repair.brings if each not in lacking)
        if brought or inside is None:
            yield replace(repair, brings=brought)
        for each in lacking:
            json = _with_first(left[each].json(), _CARRIER_FIELD, repair.id)
            yield Repair(run_id, kind, each, left[each].observed_at, json)
        for each in repair.brings:
            left.pop(each, None)
    for item in left.values():
        yield Repair(run_id, kind, item.id, item.observed_at, item.json())


def _inside(repair: Repair, kind: Kind, received_at: int) -> Collection[str] | None:
    """The ids of the objects that a carrier holds; None if the carrier cannot be read."""
    try:
        changes = repair.changes(received_at, keep_private_metadata=False)
    except UnusableEvent:
        return None
    return {each.id for each in changes.companions if each.kind == kind}


def _by_carrier(
    clerk: Clerk, run_id: int, kind: ReadKind, held: Sequence[Held], features: Features
) -> Iterator[Repair]:
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
        except GoneFromClerk:
            continue
        except OrganizationsUnavailable:
            if not features.is_off("organization"):
                raise
            continue
        json = _with_payer(item.json(), _PAYER_FIELDS[parent_kind], parent_id)
        yield Repair(run_id, carrier.kind, item.id, item.observed_at, json, brings=tuple(ids))


def _with_payer(json: bytes, field: str, parent_id: str) -> bytes:
    """An answer of Clerk with the payer that the request named. Clerk's answer names only the payer's id in Billing."""
    return _with_first(json, "payer", {field: parent_id})


def _with_first(json: bytes, field: str, value: object) -> bytes:
    """An object with one more field before the others."""
    return b"{%s:%s,%s" % (msgspec.json.encode(field), msgspec.json.encode(value), json.strip().removeprefix(b"{"))
