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
    """Trust Clerk's updated_at: what was edited here by hand is not found."""
    allow_deletes: int | None = None
    """So many of a kind, whatever the brake says."""
    allow_emptied: int | None = None
    """In so many rows of a kind a column may lose its value, whatever the brake says."""


def request_of(event: Mapping[str, Any]) -> Request:
    """Read the fields of Request, `mode` at least. Raises ValueError for anything else: a slip must not turn a dry run
    into a repair."""
    try:
        request = msgspec.convert(event, Request)
    except msgspec.ValidationError as error:
        raise ValueError(f"the event is not what reconcile takes: {error}") from error
    if unknown := sorted(event.keys() - asdict(request).keys()):
        raise ValueError(f"the event is not what reconcile takes: {', '.join(unknown)}")
    return request
