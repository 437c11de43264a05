"""GET /users and GET /users/count: their filters, orders and pages.

Source: https://github.com/clerk/openapi-specs (bapi/2026-05-12).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final, Literal

from clerk_supabase_cli.standin.backend.rejections import integer, limit_of, not_found, unprocessable
from clerk_supabase_cli.standin.faults import Request
from clerk_supabase_cli.standin.population import Entry, Population
from clerk_supabase_cli.standin.samples import Json

MOST_VALUES: Final = 100
_FOREVER: Final = 1 << 62
_ORDERS: Final = (
    "created_at",
    "updated_at",
    "email_address",
    "web3wallet",
    "first_name",
    "last_name",
    "phone_number",
    "username",
    "last_active_at",
    "last_sign_in_at",
)

LostCursor = Literal["not_found", "unprocessable", "empty", "ignored"]
"""The answers to a cursor whose user is gone. Clerk's documents do not mention this case."""

IdsOfMembers = Callable[[str], set[str]]


def _texts(objects: str, name: str) -> Callable[[Json], Iterable[str]]:
    return lambda user: (str(each.get(name)).lower() for each in user.get(objects) or ())


# The user's value to compare, by the name of the parameter.
_VALUES: Final[Mapping[str, Callable[[Json], Iterable[str]]]] = MappingProxyType(
    {
        "user_id": lambda user: (str(user.get("id")),),
        "external_id": lambda user: (str(user.get("external_id")),),
        "email_address": _texts("email_addresses", "email_address"),
        "phone_number": _texts("phone_numbers", "phone_number"),
        "web3_wallet": _texts("web3_wallets", "web3_wallet"),
        "username": lambda user: (str(user.get("username")).lower(),),
        "banned": lambda user: (str(bool(user.get("banned"))).lower(),),
    }
)
_EITHER_WAY: Final = ("user_id", "external_id")
_MOMENTS: Final = ("last_active_at", "last_sign_in_at")

_FILTERS: Final = (
    *_VALUES,
    *(f"{name}_{side}" for name in ("created_at", *_MOMENTS) for side in ("after", "before")),
    "organization_id",
    "query",
)
COUNT_PARAMETERS: Final = frozenset(_FILTERS)
LIST_PARAMETERS: Final = frozenset({*_FILTERS, "limit", "offset", "starting_after", "order_by"})
"""The parameters of Clerk's understood here; any other parameter is rejected like one unknown to Clerk."""


def count(users: Population, request: Request, *, inclusive: bool, members_of: IdsOfMembers) -> int:
    """The number of users that match the filters."""
    start, end = _created(request, inclusive=inclusive)
    accepts = _filter(request, members_of)
    if accepts is None:
        return users.count(start, end)
    return sum(accepts(users[entry.id]) for entry in _candidates(users, request, start, end))


def page(
    users: Population, request: Request, *, inclusive: bool, lost_cursor: LostCursor, members_of: IdsOfMembers
) -> list[bytes]:
    """The objects of a page. Raises Rejection."""
    limit, offset = limit_of(request), integer(request, "offset", 0, least=0)
    order, descending = _order(request)
    start, end = _created(request, inclusive=inclusive)
    accepts = _filter(request, members_of)
    after = None
    if cursor := request.value("starting_after"):
        if order != "created_at" or offset > 0:
            raise unprocessable("starting_after", "only with the order of creation, and not with an offset")
        if cursor in users:
            after = users.entry(cursor)
        else:
            _reject_lost_cursor(lost_cursor)
            if lost_cursor == "empty":
                return []
    if order == "created_at" and not request.values("user_id"):
        found = (users.newest_first if descending else users.oldest_first)(start, end, after)
    else:
        found = _in_other_order(users, request, order, descending=descending)
        found = (entry for entry in found if start <= users.entry(entry.id).moment < end)
    if accepts is not None:
        found = (entry for entry in found if accepts(users[entry.id]))
    return [users.json(entry.id) for entry in islice(found, offset, offset + limit)]


def _reject_lost_cursor(lost_cursor: LostCursor) -> None:
    if lost_cursor == "not_found":
        raise not_found()
    if lost_cursor == "unprocessable":
        raise unprocessable("starting_after", "no such user")


def _in_other_order(users: Population, request: Request, order: str, *, descending: bool) -> Iterator[Entry]:
    if order == "updated_at" and descending and not request.values("user_id"):
        return users.latest_change_first()
    return _sorted(users, _candidates(users, request, 0, _FOREVER), order, descending=descending)


def _order(request: Request) -> tuple[str, bool]:
    value = request.value("order_by", "-created_at")
    name = value[1:] if value[:1] in "+-" else value
    if name not in _ORDERS:
        raise unprocessable("order_by", "not an order")
    return name, value.startswith("-")


def _created(request: Request, *, inclusive: bool) -> tuple[int, int]:
    """The first moment of creation in the filter, and the first moment after the filter."""
    after, before = (integer(request, f"created_at_{side}", None, least=0) for side in ("after", "before"))
    start = 0 if after is None else after if inclusive else after + 1
    end = _FOREVER if before is None else before + 1 if inclusive else before
    return start, max(start, end)


def _candidates(users: Population, request: Request, start: int, end: int) -> Iterator[Entry]:
    wanted = [value.removeprefix("+") for value in request.values("user_id") if not value.startswith("-")]
    if not wanted:
        return users.oldest_first(start, end)
    entries = sorted({users.entry(each) for each in wanted if each in users})
    return (entry for entry in entries if start <= entry.moment < end)


def _sorted(users: Population, entries: Iterable[Entry], order: str, *, descending: bool) -> Iterator[Entry]:
    def key(entry: Entry) -> tuple[int, str, str]:
        user = users[entry.id]
        value = next(iter(_VALUES[order](user)), "") if order in _VALUES else user.get(order) or ""
        return (value, "", entry.id) if isinstance(value, int) else (0, str(value), entry.id)

    return iter(sorted(entries, key=key, reverse=descending))


def _filter(request: Request, members_of: IdsOfMembers) -> Callable[[Json], bool] | None:
    """A test of users by the filters except the time of creation; None without such filters."""
    tests: list[Callable[[Json], bool]] = []
    for name, values_of in _VALUES.items():
        if asked := request.values(name):
            tests.append(_values_test(name, asked, values_of))
    for name in _MOMENTS:
        tests += _moment_tests(request, name)
    for org_id in request.values("organization_id"):
        tests.append(_membership_test(members_of(org_id)))
    if text := request.value("query").lower():
        tests.append(lambda user: any(text in value for value in _searched(user)))
    if not tests:
        return None
    return lambda user: all(test(user) for test in tests)


def _values_test(name: str, asked: list[str], values_of: Callable[[Json], Iterable[str]]) -> Callable[[Json], bool]:
    if len(asked) > MOST_VALUES:
        raise unprocessable(name, f"at most {MOST_VALUES} values")
    if name not in _EITHER_WAY:
        wanted = {value.lower() for value in asked}
        return lambda user: not wanted.isdisjoint(values_of(user))
    included = {value.removeprefix("+") for value in asked if not value.startswith("-")}
    excluded = {value[1:] for value in asked if value.startswith("-")}
    return lambda user: (
        (not included or not included.isdisjoint(values_of(user))) and excluded.isdisjoint(values_of(user))
    )


def _membership_test(members: Container[str]) -> Callable[[Json], bool]:
    return lambda user: user["id"] in members


def _moment_tests(request: Request, name: str) -> Iterator[Callable[[Json], bool]]:
    for suffix, sign in (("after", 1), ("before", -1)):
        bound = integer(request, f"{name}_{suffix}", None, least=0)
        if bound is not None:
            yield _moment_test(name, bound, sign)


def _moment_test(name: str, bound: int, sign: int) -> Callable[[Json], bool]:
    return lambda user: (user.get(name) or 0) * sign > bound * sign


def _searched(user: Json) -> Iterator[str]:
    for name in ("id", "external_id", "username", "first_name", "last_name"):
        yield str(user.get(name) or "").lower()
    yield from _VALUES["email_address"](user)
    yield from _VALUES["phone_number"](user)
