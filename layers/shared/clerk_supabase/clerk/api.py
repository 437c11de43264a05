"""The part of Clerk's Backend API that reconcile, session and the command read.

Source: https://github.com/clerk/openapi-specs (bapi/2026-05-12).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from urllib.parse import quote

from clerk_supabase.clerk.http import ClerkHttp, Parameters
from clerk_supabase.clerk.pages import (
    Instance,
    Item,
    Look,
    Page,
    objects_inside,
    read_array,
    read_count,
    read_envelope,
    read_instance,
    read_object,
)
from clerk_supabase.clerk.walk import PAGE_SIZE, Stretch, Window, by_creation, by_offset
from clerk_supabase.errors import ContradictoryAnswer, GoneFromClerk, WrongInstance
from clerk_supabase.model.facts import Facts, Kind, ListKind
from clerk_supabase.model.found_kinds import FACTS

MOST_IDS: Final = 100
"""The largest number of ids in one request."""

_USERS: Final = "/users"
# Of the same page of a list that grows; beyond, the overlap of two pages has to do.
_MOST_READS: Final = 3

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Clerk:
    """Reads one instance of Clerk. Cheap to make: the connections and the rate limit belong to `http`.

    Each method raises OutOfTime at the deadline, ClerkUnavailable when Clerk cannot be reached or understood, and a
    ClerkRejected when a retry does not help, in addition to the errors in its own docstring.
    """

    http: ClerkHttp
    deadline: float = math.inf
    """The moment to give up, by the monotonic clock."""

    # Users

    def users(self, window: Window) -> Iterator[Stretch]:
        """Every user created in a window, oldest first, in stretches of about a page."""
        return by_creation(self._users_created, window)

    def users_newest_change_first(self) -> Iterator[Page]:
        """Users by the time of their last change. Changes during the walk make the list repeat or miss users.

        Stop as early as possible: Clerk's answers get slower with the offset.
        """
        return by_offset(lambda offset: self._users([*_page_at(offset), ("order_by", "-updated_at")]))

    def user(self, user_id: str) -> Look[Item | None]:
        """A user; None: Clerk says that there is no such user."""
        return self.one(f"/users/{in_path(user_id)}", user_id)

    def users_count(self, window: Window) -> Look[int]:
        """The number of users created in a window.

        Clerk does not document on which side it counts a user created exactly at an end of the window: choose ends
        without a user created at the same millisecond or at the millisecond before.
        """
        return self._look("/users/count", _created_in(window), read_count)

    # Lists of the whole instance

    def oldest_first(self, kind: ListKind) -> Iterator[Page]:
        """Every object of a kind, oldest first, in overlapping pages."""
        return by_offset(lambda offset: self.page_at(kind, offset))

    def newest_first(self, kind: ListKind) -> Iterator[Page]:
        """Every object of a kind, newest first, in overlapping pages. Stop as early as possible."""
        facts = FACTS[kind]
        order: Parameters = [] if facts.is_listed_newest_first else [("order_by", "-created_at")]
        parameters = [*facts.list_filters, *order]
        return by_offset(lambda offset: self._get(facts.list_path, [*parameters, *_page_at(offset)], read_envelope))

    def page_at(self, kind: ListKind, offset: int, size: int = PAGE_SIZE) -> Page:
        """A page of the objects of a kind, oldest first."""
        facts = FACTS[kind]
        if facts.is_listed_newest_first:
            return self._page_from_the_end(facts, offset, size)
        parameters: Parameters = [("order_by", "+created_at"), ("limit", size), ("offset", offset)]
        return self._get(facts.list_path, [*facts.list_filters, *parameters], read_envelope)

    def enclosed(self, kind: Kind) -> Iterator[Page]:
        """Every object of a kind that stands in other objects. The newest of these other objects come first."""
        facts = FACTS[kind]
        return (objects_inside(page, facts.enclosed_in) for page in self.listed(facts.enclosing_path))

    # Organizations

    def organization(self, org_id: str) -> Look[Item | None]:
        """An organization; None: Clerk says that there is no such organization."""
        return self.one(f"/organizations/{in_path(org_id)}", org_id)

    # Memberships

    def memberships_of_organization(self, org_id: str, user_ids: Sequence[str] = ()) -> Iterator[Page]:
        """The memberships of an organization, or of 1 to 100 of its members. Raises GoneFromClerk."""
        filters = _ids("user_id", user_ids) if user_ids else []
        return self._list(f"/organizations/{in_path(org_id)}/memberships", filters)

    def memberships_of_user(self, user_id: str) -> Iterator[Page]:
        """The memberships of a user. Raises GoneFromClerk."""
        return self.listed(f"/users/{in_path(user_id)}/organization_memberships")

    def membership(self, org_id: str, user_id: str) -> Item | None:
        """The membership of one user in one organization, in one request; None: Clerk lists no such membership.

        Raises GoneFromClerk for an unknown organization, and ContradictoryAnswer for several or unreadable memberships.
        """
        parameters: Parameters = [("user_id", user_id), ("limit", 2)]
        page = self._get(f"/organizations/{in_path(org_id)}/memberships", parameters, read_envelope)
        if page.odd or len(page.items) > 1:
            raise ContradictoryAnswer("Clerk answered with several or unreadable memberships of one user")
        return page.items[0] if page.items else None

    # Objects of any kind, by the paths of its facts

    def one(self, path: str, object_id: str) -> Look[Item | None]:
        """The object at a path; None: Clerk says that there is no such object. Raises ContradictoryAnswer."""
        try:
            found = self._look(path, (), read_object)
        except GoneFromClerk as gone:
            return Look(None, gone.observed_at)
        if found.value.id != object_id:
            raise ContradictoryAnswer("Clerk answered with another object than the request named")
        return Look(found.value, found.observed_at)

    def of_parent(self, path: str) -> Look[Item]:
        """The only object of a parent, at a path. Raises GoneFromClerk."""
        return self._look(path, (), read_object)

    def listed(self, path: str, parameters: Parameters = ()) -> Iterator[Page]:
        """A list in overlapping pages, with no other parameters. Raises GoneFromClerk."""
        return by_offset(lambda offset: self._get(path, [*parameters, *_page_at(offset)], read_envelope))

    def by_ids(self, path: str, parameters: Parameters, ids: Collection[str]) -> Page:
        """The existing objects among 1 to 100 ids, in any order; `parameters` name the ids.

        Raises ContradictoryAnswer for an answer with other or unreadable objects.
        """
        page = self._get(path, [*parameters, ("limit", len(ids))], read_array if path == _USERS else read_envelope)
        if page.odd or not {item.id for item in page.items} <= set(ids):
            # With such an answer, existing objects would look gone.
            raise ContradictoryAnswer("Clerk answered with other objects than the request named, or with odd objects")
        return page

    # The instance

    def instance(self) -> Look[Instance]:
        """The instance of the secret key."""
        return self._look("/instance", (), read_instance)

    def check_instance(self, expected: str) -> None:
        """Raises WrongInstance for a secret key of another instance than the expected id."""
        found = self.instance().value
        if found.id != expected:
            raise WrongInstance(
                f"the secret key belongs to {found.id} ({found.environment_type}), the database mirrors {expected}: "
                "put the secret key of that instance into the secret"
            )

    # Requests

    def _users_created(self, window: Window, cursor: str | None) -> Page:
        parameters = [*_created_in(window), ("order_by", "+created_at"), ("limit", PAGE_SIZE)]
        return self._users(parameters if cursor is None else [*parameters, ("starting_after", cursor)])

    def _users(self, parameters: Parameters) -> Page:
        return self._get(_USERS, parameters, read_array)

    def _page_from_the_end(self, facts: Facts, offset: int, size: int) -> Page:
        """A page, oldest first, of a list that Clerk gives newest first.

        An offset from the end depends on the length of the list: a list that grew meanwhile is asked again.
        """

        def read(limit: int, start: int) -> Page:
            return self._get(facts.list_path, [*facts.list_filters, ("limit", limit), ("offset", start)], read_envelope)

        page = read(1, 0)
        for _ in range(_MOST_READS):
            total = page.total_count or 0
            limit = min(size, total - offset)
            if limit <= 0:
                return replace(page, items=[], odd=[], size=0)
            page = read(limit, total - offset - limit)
            if page.size > limit:
                raise ContradictoryAnswer("Clerk listed more objects than the request asked for")
            if page.total_count == total:
                break
        return replace(page, items=page.items[::-1])

    def _list(self, path: str, filters: Parameters = ()) -> Iterator[Page]:
        return self.listed(path, [*filters, ("order_by", "+created_at")])

    def _look(self, path: str, parameters: Parameters, read: Callable[[bytes, int], Read]) -> Look[Read]:
        return Look(*self.http.get(path, parameters, read=read, deadline=self.deadline))

    def _get(self, path: str, parameters: Parameters, read: Callable[[bytes, int], Read]) -> Read:
        return self._look(path, parameters, read).value


def _page_at(offset: int) -> list[tuple[str, str | int]]:
    return [("limit", PAGE_SIZE), ("offset", offset)]


def _created_in(window: Window) -> list[tuple[str, str | int]]:
    """The parameters of a window, with a margin: Clerk does not document whether its bounds are part of the window."""
    bounds: list[tuple[str, str | int]] = []
    if window.start > 0:
        bounds.append(("created_at_after", window.start - 1))
    if window.end is not None:
        bounds.append(("created_at_before", window.end))
    return bounds


def _ids(name: str, ids: Sequence[str]) -> list[tuple[str, str | int]]:
    if not 0 < len(ids) <= MOST_IDS:
        raise ValueError(f"Clerk can be asked for 1 to {MOST_IDS} ids at once, not {len(ids)}")
    return [(name, each) for each in ids]


def in_path(object_id: str) -> str:
    """An id as a part of a path. Raises ValueError for an id that would become another path."""
    if not object_id.strip("."):
        raise ValueError(f"not an id: {object_id!r}")
    return quote(object_id, safe="")
