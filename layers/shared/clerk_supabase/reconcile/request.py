"""The request for a run, and the event of the reconcile function: {"mode": "full" | "quick", "dry_run": false, ...}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec

Mode = Literal["full", "quick"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a run."""

    mode: Mode
    dry_run: bool = False
    """Report, and repair nothing."""
    versions_only: bool = False
    """Trust Clerk's updated_at: a row edited by hand is not found."""
    allow_deletes: int | None = None
    """The most deletes of a kind, in place of the brake's limit."""
    allow_emptied: int | None = None
    """The most rows of a kind in which a column may lose its value, in place of the brake's limit."""


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
