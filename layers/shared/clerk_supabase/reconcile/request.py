"""The event of the reconcile function: {"mode": "full" | "quick", "dry_run": false, ...}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from clerk_supabase.reconcile.run import Request


def request_of(event: Mapping[str, Any]) -> Request:
    """Read the fields of Request, `mode` at least. Raises ValueError for a wrong or unknown field.

    Otherwise a typing error could turn a dry run into a repair.
    """
    try:
        request = msgspec.convert(event, Request)
    except msgspec.ValidationError as error:
        raise ValueError(f"the event is not a request of reconcile: {error}") from error
    if unknown := sorted(event.keys() - asdict(request).keys()):
        raise ValueError(f"the event has fields that reconcile does not know: {', '.join(unknown)}")
    return request
