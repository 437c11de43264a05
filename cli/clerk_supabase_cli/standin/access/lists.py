"""The orders and filters of the lists of Clerk's Backend API, for kinds whose objects are listed alike.

Source: https://github.com/clerk/openapi-specs (bapi/2026-05-12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from clerk_supabase.model.facts import Kind
from clerk_supabase_cli.standin.backend.rejections import unprocessable
from clerk_supabase_cli.standin.faults import Request
from clerk_supabase_cli.standin.samples import Json

Filter = Callable[[Json, Sequence[str]], bool]
WAITLIST_STATUSES: Final = ("pending", "invited", "rejected", "completed")


@dataclass(frozen=True, slots=True)
class Listing:
    """The parameters of a list, besides the pages."""

    orders: Sequence[str] = ("created_at",)
    filters: Mapping[str, Filter] = field(default_factory=dict)

    def filtered(self, objects: Iterable[Json], request: Request) -> list[Json]:
        """The objects that the request asks for. Raises Rejection for an unknown status."""
        found = list(objects)
        for name, fits in self.filters.items():
            if values := request.values(name):
                found = [each for each in found if fits(each, values)]
        return found


def _of_text(*names: str) -> Filter:
    """Objects with the text in any of these fields."""
    return lambda each, values: any(values[0].lower() in str(each.get(name)).lower() for name in names)


def _of_status(each: Json, values: Sequence[str]) -> bool:
    if any(value not in WAITLIST_STATUSES for value in values):
        raise unprocessable("status", f"must be one of {', '.join(WAITLIST_STATUSES)}")
    return each["status"] in values


_NAMED: Final = Listing(("created_at", "name", "key"), {"query": _of_text("id", "name", "key")})
LISTINGS: Final[Mapping[Kind, Listing]] = MappingProxyType(
    {
        "permission": _NAMED,
        "role": _NAMED,
        "waitlist_entry": Listing(
            ("created_at", "email_address", "invited_at"),
            {"query": _of_text("id", "email_address"), "status": _of_status},
        ),
    }
)
"""The lists by kind; any other kind has the order of creation and no filter."""


def sessions_asked_for(sessions: Iterable[Json], request: Request) -> list[Json]:
    """The sessions of a user or of a client, newest first. Raises Rejection for a request that names neither."""
    wanted = {name: request.value(name) for name in ("user_id", "client_id", "status") if request.value(name)}
    if not wanted.keys() & {"user_id", "client_id"}:
        raise unprocessable("user_id", "user_id or client_id is required")
    found = [each for each in sessions if all(each.get(name) == value for name, value in wanted.items())]
    return sorted(found, key=lambda each: (each["created_at"], each["id"]), reverse=True)
