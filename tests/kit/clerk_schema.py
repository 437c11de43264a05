"""Clerk's own description of its objects, and a list of the faults of an object by this description.

`clerk_schema.json` has the names and types of all fields: `optional` may be missing. Its source:
https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

SCHEMA: Final[Mapping[str, Mapping[str, str]]] = json.loads(Path(__file__).with_suffix(".json").read_text())
FAMILIES: Final[Mapping[str, str]] = {
    "user": "User",
    "organization": "Organization",
    "organizationMembership": "OrganizationMembership",
    "organizationInvitation": "OrganizationInvitation",
    "organizationDomain": "OrganizationDomain",
    "role": "Role",
    "permission": "Permission",
    "session": "Session",
    "waitlistEntry": "WaitlistEntry",
    "email": "EmailEventPayload",
    "sms": "SmsEventPayload",
    "subscription": "SubscriptionEventPayload",
    "subscriptionItem": "BillingSubscriptionItemEventPayload",
    "paymentAttempt": "PaymentAttemptEventPayload",
}
"""The objects of events, by the first word of an event's type."""
LISTED: Final[Mapping[str, str]] = {"plan": "CommercePlan"}
"""The objects that Clerk lists and sends no event about, by kind."""
_TYPES: Final[Mapping[str, type]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "int64": int,
    "double": float,
    "object": dict,
}


def faults(sent: object, name: str, place: str = "") -> Iterator[str]:
    """Fields of an object that are missing, null or of another type than Clerk describes: the place and the fault."""
    if not isinstance(sent, dict):
        yield f"{place}: no {name}"
        return
    for field, described in SCHEMA[name].items():
        here = f"{place}.{field}"
        type_name = described.removeprefix("optional ").removesuffix(" or null")
        if field not in sent:
            if not described.startswith("optional "):
                yield f"{here}: missing"
        elif sent[field] is None:
            if not described.endswith(" or null"):
                yield f"{here}: null"
        elif type_name.endswith("[]"):
            yield from _faults_of_list(sent[field], type_name.removesuffix("[]"), here)
        else:
            yield from _faults_of_value(sent[field], type_name, here)


def _faults_of_list(sent: object, type_name: str, here: str) -> Iterator[str]:
    if not isinstance(sent, list):
        yield f"{here}: no list"
        return
    for number, each in enumerate(sent):
        yield from _faults_of_value(each, type_name, f"{here}.{number}")


def _faults_of_value(sent: object, type_name: str, here: str) -> Iterator[str]:
    if type_name in SCHEMA:
        yield from faults(sent, type_name, here)
    elif type(sent) is not _TYPES[type_name]:
        yield f"{here}: no {type_name}"
