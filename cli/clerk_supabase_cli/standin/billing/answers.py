"""Answers of Clerk's Backend API about Billing, computed from the subscriptions of a made-up world.

Source: https://github.com/clerk/openapi-specs (bapi/2026-05-12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from clerk_supabase_cli.standin.backend.rejections import integer, limit_of, not_found, unprocessable
from clerk_supabase_cli.standin.billing import objects
from clerk_supabase_cli.standin.billing.life import Billing
from clerk_supabase_cli.standin.faults import Elements, Request
from clerk_supabase_cli.standin.samples import Json

ITEMS_PARAMETERS: Final = frozenset({"limit", "offset", "include_free", "status", "payer_type", "plan_id", "query"})
PLANS_PARAMETERS: Final = frozenset({"limit", "offset", "payer_type"})
STATEMENTS_PARAMETERS: Final = frozenset({"limit", "offset", "paginated"})
_STATUSES: Final = ("active", "ended", "past_due", "upcoming", "free_trial")
_PAYERS: Final = ("user", "org")
_FLAGS: Final = ("", "true", "false")

Alter = Callable[[Elements], Elements]


def items(billing: Billing, request: Request, alter: Alter) -> bytes:
    """The items of all payers, the newest first; items of default plans only on request."""
    found = list(billing.items.values())
    if _choice(request, "include_free", _FLAGS) != "true":
        found = [each for each in found if not _is_free(each)]
    if status := _choice(request, "status", ("", *_STATUSES)):
        found = [each for each in found if each["status"] == status or (status == "free_trial" and _is_trial(each))]
    if payer_type := _choice(request, "payer_type", ("", *_PAYERS)):
        found = [each for each in found if bool(each["payer"]["user_id"]) == (payer_type == "user")]
    if plan_id := request.value("plan_id"):
        found = [each for each in found if each["plan_id"] == plan_id]
    if text := request.value("query").lower():
        found = [each for each in found if text in str(each["payer"]).lower()]
    return _page([objects.told_item(each) for each in _newest_first(found)], request, alter)


def plans(found: Iterable[Json], request: Request, alter: Alter) -> bytes:
    """The plans of the instance, with their features, the newest first."""
    payer_type = _choice(request, "payer_type", ("", *_PAYERS))
    asked = [plan for plan in found if payer_type in ("", plan["for_payer_type"])]
    return _page(asked[::-1], request, alter)


def subscription(billing: Billing, parent_id: str, alter: Alter) -> bytes:
    """The subscription of a user or an organization, with the items. Raises Rejection without a subscription."""
    found = billing.subscription_of(parent_id)
    if found is None:
        raise not_found()
    told = objects.told_subscription(found, _newest_first(billing.items_of(found["id"])))
    return b"".join(alter([msgspec.json.encode(told)]))


def statements(billing: Billing, request: Request, alter: Alter) -> bytes:
    """The statements of all payers, the newest first, each with its payment attempts."""
    found = [objects.told_statement(*each) for each in _statements(billing).items()]
    found.sort(key=lambda each: (each["timestamp"], each["id"]), reverse=True)
    return _page(found, request, alter)


def statement(billing: Billing, statement_id: str, alter: Alter) -> bytes:
    """A statement. Raises Rejection for an unknown id."""
    told = objects.told_statement(statement_id, _attempts_of(billing, statement_id))
    return b"".join(alter([msgspec.json.encode(told)]))


def attempts_of_statement(billing: Billing, request: Request, statement_id: str, alter: Alter) -> bytes:
    """The payment attempts of a statement, the newest first. Raises Rejection for an unknown id."""
    found = _attempts_of(billing, statement_id)
    return _page([objects.told_attempt(each) for each in found], request, alter)


def _attempts_of(billing: Billing, statement_id: str) -> list[Json]:
    found = _statements(billing).get(statement_id)
    if found is None:
        raise not_found()
    return found


def _statements(billing: Billing) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for each in _newest_first(billing.attempts.values()):
        found.setdefault(each["statement_id"], []).append(each)
    return found


def _choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.value(name)
    if value not in choices:
        raise unprocessable(name, f"must be one of {', '.join(filter(None, choices))}")
    return value


def _is_free(item: Json) -> bool:
    return item["plan"] is not None and item["plan"]["amount"] == 0


def _is_trial(item: Json) -> bool:
    return item["status"] == "active" and bool(item["is_free_trial"])


def _newest_first(found: Iterable[Json]) -> list[Json]:
    return sorted(found, key=lambda each: (each["created_at"], each["id"]), reverse=True)


def _page(found: list[Json], request: Request, alter: Alter) -> bytes:
    limit, offset = limit_of(request), integer(request, "offset", 0, least=0)
    elements = alter([msgspec.json.encode(each) for each in found[offset : offset + limit]])
    return b'{"data":[%s],"total_count":%d}' % (b",".join(elements), len(found))
