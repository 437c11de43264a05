"""Millions of memberships: number i is computed from i, and only changes and removals are stored."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Iterator, MutableMapping
from functools import cache
from typing import Any, Final

import msgspec

from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json

_DIGITS: Final = 26
_CREATED: Final = 1_111_111_111_111


class Members(MutableMapping[str, Json]):
    """Memberships by id, in order of creation: user number i is a member of a single organization."""

    def __init__(self, size: int, *, organizations: int, start: int, step: int) -> None:
        """A membership every `step` milliseconds from `start` on; added memberships must be newer than all these."""
        self._size = size
        self._organizations = organizations
        self._start = start
        self._step = step
        self._others: dict[str, Json] = {}
        self._added: list[str] = []
        self._hidden: list[int] = []

    @staticmethod
    def id(number: int) -> str:
        """The id of membership number i."""
        return f"orgmem_{number:0{_DIGITS}}"

    def created_at(self, number: int) -> int:
        """The moment at which membership number i began."""
        return self._start + number * self._step

    def organization(self, number: int) -> str:
        """The id of the organization of membership number i."""
        return f"org_{number % self._organizations:0{_DIGITS}}"

    def page(self, offset: int, limit: int, *, descending: bool) -> list[bytes]:
        """A page of Clerk's list, in order of creation."""
        total = len(self)
        places = range(offset, min(total, offset + limit))
        return [self._json(self._at(total - 1 - place if descending else place)) for place in places]

    def _at(self, place: int) -> str:
        """The id at a place of the order of creation."""
        made_up = self._size - len(self._hidden)
        if place >= made_up:
            return self._added[place - made_up]
        number = place
        while (hidden := bisect_left(self._hidden, number + 1)) != number - place:
            number = place + hidden
        return self.id(number)

    def _json(self, membership_id: str) -> bytes:
        other = self._others.get(membership_id)
        if other is not None:
            return msgspec.json.encode(other)
        number = self._number(membership_id)
        if number is None:
            raise KeyError(membership_id)
        made = {b"digits": b"%0*d" % (_DIGITS, number), b"created_at": self.created_at(number)}
        return _template() % (made | {b"organization": self.organization(number).encode()})

    def _number(self, membership_id: object) -> int | None:
        digits = membership_id.removeprefix("orgmem_") if isinstance(membership_id, str) else ""
        if len(digits) != _DIGITS or not digits.isdecimal() or int(digits) >= self._size:
            return None
        place = bisect_left(self._hidden, int(digits))
        return None if place < len(self._hidden) and self._hidden[place] == int(digits) else int(digits)

    # As a mapping

    def __getitem__(self, membership_id: str) -> Json:
        return msgspec.json.decode(self._json(membership_id), type=dict[str, Any])

    def __setitem__(self, membership_id: str, membership: Json) -> None:
        if membership_id not in self:
            self._added.append(membership_id)
        self._others[membership_id] = membership

    def __delitem__(self, membership_id: str) -> None:
        number = self._number(membership_id)
        if number is not None:
            insort(self._hidden, number)
        else:
            self._added.remove(membership_id)
        self._others.pop(membership_id, None)

    def __iter__(self) -> Iterator[str]:
        return (self._at(place) for place in range(len(self)))

    def __len__(self) -> int:
        return self._size - len(self._hidden) + len(self._added)

    def __contains__(self, membership_id: object) -> bool:
        return membership_id in self._others or self._number(membership_id) is not None


@cache
def _template() -> bytes:
    """A membership with gaps for the computed values."""
    made = {"created_at": _CREATED, "updated_at": _CREATED}
    org = samples.organization("%(organization)s", **made) | {"slug": None}
    user = samples.user("user_%(digits)s", **made)
    membership = samples.membership("orgmem_%(digits)s", org, user, **made)
    return json.dumps(membership, separators=(",", ":")).replace(str(_CREATED), "%(created_at)d").encode()
