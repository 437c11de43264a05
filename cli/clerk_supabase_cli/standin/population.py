"""Millions of users without millions of objects: user number i is computed from i; only changed users are stored."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, MutableMapping
from functools import cache
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json

BEGINNING: Final = 1_700_000_000_000
_DIGITS: Final = 26
_CREATED, _UPDATED = 1_111_111_111_111, 2_222_222_222_222
_UPDATED_AFTER: Final = 7
_NAMES: Final = (b"Ada", b"Grace", b"Alan", b"Edsger", b"Barbara", b"Radia", b"Margaret")


class Entry(NamedTuple):
    """A user's place in an order, by time and then by id."""

    moment: int
    id: str


class Population(MutableMapping[str, Json]):
    """Clerk's users by id: the first `size` are computed on demand, and changed or added users are stored."""

    def __init__(self, size: int = 0, *, start: int = BEGINNING, step: int = 1_000, same_moment: int = 1) -> None:
        """A moment every `step` milliseconds from `start` on, each with `same_moment` new users."""
        self._size = size
        self._start = start
        self._step = step
        self._same_moment = same_moment
        self._others: dict[str, Json] = {}
        self._moments: dict[str, int] = {}
        self._order: list[Entry] = []
        self._hidden: list[int] = []
        self._by_change: list[Entry] | None = None

    # As a mapping

    def __getitem__(self, user_id: str) -> Json:
        if (user := self._others.get(user_id)) is not None:
            return user
        return msgspec.json.decode(self.json(user_id), type=dict[str, Any])

    def __setitem__(self, user_id: str, user: Json) -> None:
        moment = user.get("created_at")
        if not isinstance(moment, int):
            # Clerk knows the time of a user's creation even if an answer has none, or a wrong one.
            moment = self._moment(user_id)
        self._forget(user_id)
        self._moments[user_id] = moment
        insort(self._order, Entry(moment, user_id))
        self._others[user_id] = user

    def __delitem__(self, user_id: str) -> None:
        if user_id not in self:
            raise KeyError(user_id)
        self._forget(user_id)
        self._others.pop(user_id, None)

    def __iter__(self) -> Iterator[str]:
        yield from (self.id(number) for number in self._numbers(range(self._size)))
        yield from self._others

    def __len__(self) -> int:
        return self._size - len(self._hidden) + len(self._others)

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._others or self._made_up(user_id) is not None

    # As Clerk lists them

    def json(self, user_id: str) -> bytes:
        """The user in the form sent by Clerk. Raises KeyError."""
        user = self._others.get(user_id)
        if user is not None:
            return msgspec.json.encode(user)
        number = self._made_up(user_id)
        if number is None:
            raise KeyError(user_id)
        created_at = self._created_at(number)
        templates = _templates()
        return templates[number % len(templates)] % {
            b"digits": b"%0*d" % (_DIGITS, number),
            b"name": _NAMES[number % len(_NAMES)],
            b"created_at": created_at,
            b"updated_at": created_at + _UPDATED_AFTER,
        }

    def count(self, start: int, end: int) -> int:
        """The number of users created from `start` on and before `end`."""
        numbers = self._range(start, end)
        hidden = bisect_left(self._hidden, numbers.stop) - bisect_left(self._hidden, numbers.start)
        others = bisect_left(self._order, Entry(end, "")) - bisect_left(self._order, Entry(start, ""))
        return len(numbers) - hidden + max(0, others)

    def entry(self, user_id: str) -> Entry:
        """The user's place in the order of creation. Raises KeyError."""
        if user_id not in self:
            raise KeyError(user_id)
        return Entry(self._moment(user_id), user_id)

    def oldest_first(self, start: int, end: int, after: Entry | None = None) -> Iterator[Entry]:
        """The users created from `start` on and before `end` who come after a place, in order of creation."""
        numbers, first = self._range(start, end), Entry(start, "")
        if after is not None and after >= first:
            numbers = range(max(numbers.start, self._first_after(after)), numbers.stop)
            first = after
        place = bisect_right(self._order, first) if first is after else bisect_left(self._order, first)
        others = islice(self._order, place, max(place, bisect_left(self._order, Entry(end, ""))))
        return merge(self._entries(numbers), others)

    def newest_first(self, start: int, end: int, after: Entry | None = None) -> Iterator[Entry]:
        """The users created from `start` on and before `end` who come before a place, newest first."""
        numbers, stop = self._range(start, end), bisect_left(self._order, Entry(end, ""))
        if after is not None:
            numbers = range(numbers.start, min(numbers.stop, self._first_not_before(after)))
            stop = min(stop, bisect_left(self._order, after))
        begin = bisect_left(self._order, Entry(start, ""))
        others = (self._order[place] for place in range(stop - 1, begin - 1, -1))
        return merge(self._entries(numbers[::-1]), others, reverse=True)

    def latest_change_first(self) -> Iterator[Entry]:
        """All users, by the time of the last change, latest first."""
        if self._by_change is None:
            self._by_change = sorted(
                (Entry(_updated_at(user), key) for key, user in self._others.items()), reverse=True
            )
        made_up = (
            Entry(self._created_at(number) + _UPDATED_AFTER, self.id(number))
            for number in self._numbers(range(self._size)[::-1])
        )
        return merge(made_up, self._by_change, reverse=True)

    # Numbers

    def id(self, number: int) -> str:
        """The id of the user with this number."""
        return f"user_{number:0{_DIGITS}}"

    def _number(self, user_id: object) -> int | None:
        digits = user_id.removeprefix("user_") if isinstance(user_id, str) else ""
        if len(digits) != _DIGITS or not digits.isdecimal() or int(digits) >= self._size:
            return None
        return int(digits)

    def _made_up(self, user_id: object) -> int | None:
        number = self._number(user_id)
        return None if number is None or self._is_hidden(number) else number

    def _is_hidden(self, number: int) -> bool:
        place = bisect_left(self._hidden, number)
        return place < len(self._hidden) and self._hidden[place] == number

    def _created_at(self, number: int) -> int:
        return self._start + number // self._same_moment * self._step

    def _moment(self, user_id: str) -> int:
        number = self._number(user_id)
        known = self._moments.get(user_id)
        if known is not None or number is None:
            return known or 0
        return self._created_at(number)

    def _range(self, start: int, end: int) -> range:
        """The numbers created from `start` on and before `end`, hidden or not."""
        first, last = (
            min(self._size, max(0, -((self._start - moment) // self._step)) * self._same_moment)
            for moment in (start, end)
        )
        return range(first, max(first, last))

    def _first_not_before(self, entry: Entry) -> int:
        numbers = self._range(entry.moment, entry.moment + 1)
        return next((number for number in numbers if self.id(number) >= entry.id), numbers.stop)

    def _first_after(self, entry: Entry) -> int:
        number = self._first_not_before(entry)
        is_itself = number < self._size and Entry(self._created_at(number), self.id(number)) == entry
        return number + is_itself

    def _numbers(self, numbers: range) -> Iterator[int]:
        return (number for number in numbers if not self._is_hidden(number)) if self._hidden else iter(numbers)

    def _entries(self, numbers: range) -> Iterator[Entry]:
        return (Entry(self._created_at(number), self.id(number)) for number in self._numbers(numbers))

    def _forget(self, user_id: str) -> None:
        """Removes the user from every order."""
        self._by_change = None
        number = self._made_up(user_id)
        if number is not None:
            insort(self._hidden, number)
        moment = self._moments.pop(user_id, None)
        if moment is not None:
            del self._order[bisect_left(self._order, Entry(moment, user_id))]


def _updated_at(user: Json) -> int:
    value = user.get("updated_at")
    return value if isinstance(value, int) else 0


@cache
def _templates() -> tuple[bytes, ...]:
    """Users that differ in facts that matter to a mirror, with gaps for the computed values."""
    made = {"created_at": _CREATED, "updated_at": _UPDATED}
    address = samples.email_address("idn_work", "%(digits)s@work.example.test", _CREATED, status="unverified")
    phone = samples.phone_number("idn_phone", "+15550100", _CREATED)
    google = samples.google_account(10_000_000_000, "%(digits)s@google.example.test", _CREATED)
    old_google = samples.google_account_before_2025(10_000_000_001, "%(digits)s@google.example.test", _CREATED)
    enterprise = samples.enterprise_account(10_000_000_002, "%(digits)s@enterprise.example.test", _CREATED)
    wallet = samples.web3_wallet("idn_wallet", "0x%(digits)s", _CREATED)
    kinds: tuple[Json, ...] = (
        {},
        {"username": "u%(digits)s", "external_accounts": [google]},
        {"public_metadata": {"plan": "pro", "seats": 3}, "unsafe_metadata": {"theme": "dark"}},
        {"external_id": "%(digits)s", "last_sign_in_at": _CREATED, "external_accounts": [old_google]},
        {"email_addresses": [], "primary_email_address_id": None, "phone_numbers": [phone]},
        {"banned": True, "deprovisioned": True, "locale": None, "enterprise_accounts": [enterprise]},
        {
            "email_addresses": [address],
            "primary_email_address_id": "idn_work",
            "web3_wallets": [wallet],
            "primary_web3_wallet_id": "idn_wallet",
        },
    )
    return tuple(
        json.dumps(samples.user("user_%(digits)s", **made, first_name="%(name)s", **kind), separators=(",", ":"))
        .replace(str(_CREATED + 600_000), "%(created_at)d")
        .replace(str(_CREATED), "%(created_at)d")
        .replace(str(_UPDATED), "%(updated_at)d")
        .encode()
        for kind in kinds
    )
