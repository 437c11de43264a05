"""Single objects, read again from Clerk: present, gone, or unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.pages import Item, Page
from clerk_supabase.errors import GoneFromClerk
from clerk_supabase.model.kinds import ReadKind

Held = tuple[str, str | None, str | None]
"""Id of an object whose repair was not made; id of the user, for a membership; id of the organization, for a
membership, an invitation or a domain."""


def read_again(clerk: Clerk, kind: ReadKind, held: Sequence[Held]) -> Iterator[Item]:
    """The present state of objects in Clerk, at most 100; without objects that are gone or have an unknown parent."""
    ids = [object_id for object_id, _, _ in held]
    if kind == "user":
        yield from clerk.users_by_id(ids).items
        return
    if kind == "organization":
        yield from clerk.organizations_by_id(ids).items
        return
    by_organization: dict[str, list[Held]] = {}
    for each in held:
        if each[2] is not None:
            by_organization.setdefault(each[2], []).append(each)
    for org_id, children in by_organization.items():
        yield from (item for item in _children(clerk, kind, org_id, children) if item.id in ids)


def _children(clerk: Clerk, kind: ReadKind, org_id: str, held: Sequence[Held]) -> Iterator[Item]:
    try:
        yield from _CHILDREN[kind].of_organization(clerk, org_id, held)
    except GoneFromClerk:
        return


def child_gone_at(clerk: Clerk, kind: ReadKind, object_id: str, user_id: str | None, org_id: str | None) -> int | None:
    """The moment at which Clerk answered that there is no such object; None: Clerk has the object, or nobody knows.

    Clerk has no request for a single membership or domain, so the whole list of the user or organization is read.
    """
    child = _CHILDREN[kind]
    parent_id = user_id if child.is_listed_by_user else org_id
    return None if parent_id is None else child.gone_at(clerk, parent_id, object_id)


@dataclass(frozen=True, slots=True)
class _Child:
    """The questions to Clerk about the objects of a kind that has parents."""

    of_organization: Callable[[Clerk, str, Sequence[Held]], Iterable[Item]]
    """Reads some objects of an organization again. Raises GoneFromClerk."""
    gone_at: Callable[[Clerk, str, str], int | None]
    """See child_gone_at: the id of the parent, then that of the object."""
    is_listed_by_user: bool = False
    """True: `gone_at` takes the id of the user rather than that of the organization."""


def _memberships(clerk: Clerk, org_id: str, held: Sequence[Held]) -> Iterator[Item]:
    user_ids = [user_id for _, user_id, _ in held if user_id is not None]
    return _items(clerk.memberships_of_organization(org_id, user_ids))


def _invitations(clerk: Clerk, org_id: str, held: Sequence[Held]) -> Iterator[Item]:
    found = (clerk.invitation(org_id, object_id).value for object_id, _, _ in held)
    return (item for item in found if item is not None)


def _invitation_gone_at(clerk: Clerk, org_id: str, invitation_id: str) -> int | None:
    found = clerk.invitation(org_id, invitation_id)
    return found.observed_at or None if found.value is None else None


def _items(pages: Iterator[Page]) -> Iterator[Item]:
    return (item for page in pages for item in page.items)


def _absent_at(pages: Iterator[Page], object_id: str) -> int | None:
    """The moment of a complete list without this object; None: the list is incomplete or has the object.

    If the parent is gone from Clerk, the moment of that answer.
    """
    ids: set[str] = set()
    told: list[int] = []
    observed_at = 0
    try:
        for page in pages:
            if page.odd or not (page.joins and page.is_new) or page.total_count is None:
                return None
            ids |= {item.id for item in page.items}
            told.append(page.total_count)
            observed_at = observed_at or page.observed_at
    except GoneFromClerk as parent_gone:
        return parent_gone.observed_at or None
    is_complete = bool(told) and len(ids) >= max(told)
    return observed_at or None if is_complete and object_id not in ids else None


_CHILDREN: Final[Mapping[ReadKind, _Child]] = MappingProxyType(
    {
        "membership": _Child(
            _memberships,
            lambda clerk, user_id, object_id: _absent_at(clerk.memberships_of_user(user_id), object_id),
            is_listed_by_user=True,
        ),
        "invitation": _Child(_invitations, _invitation_gone_at),
        "domain": _Child(
            lambda clerk, org_id, _: _items(clerk.domains_of_organization(org_id)),
            lambda clerk, org_id, object_id: _absent_at(clerk.domains_of_organization(org_id), object_id),
        ),
    }
)
