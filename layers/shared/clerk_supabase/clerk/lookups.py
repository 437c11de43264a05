"""Single objects, read again from Clerk: present, gone, or unknown. The facts of a kind say what to ask."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from clerk_supabase.clerk.api import MOST_IDS, Clerk, in_path
from clerk_supabase.clerk.http import Parameters
from clerk_supabase.clerk.pages import Item, Look, Page
from clerk_supabase.errors import GoneFromClerk
from clerk_supabase.model.facts import Kind, ReadKind
from clerk_supabase.model.found_kinds import FACTS

Held = tuple[str, str | None, str | None]
"""Id of an object whose repair was not made; id of the user, for a membership; id of the organization, for a
membership, an invitation or a domain."""


def read_again(clerk: Clerk, kind: ReadKind, held: Sequence[Held]) -> Iterator[Item]:
    """The present state of objects in Clerk, at most 100; without objects that are gone or have an unknown parent.

    If Clerk has no request for some objects of a kind, the whole list is read, for any number of objects. Otherwise
    raises ValueError for more than 100.
    """
    ids = {object_id for object_id, *_ in held}
    if not is_read_as_a_list(kind) and len(held) > MOST_IDS:
        raise ValueError(f"Clerk can be asked for {MOST_IDS} objects at once, not {len(held)}")
    if not FACTS[kind].again_path:
        pages = clerk.enclosed(kind) if FACTS[kind].enclosing_path else clerk.oldest_first(kind)
        yield from {item.id: item for page in pages for item in page.items if item.id in ids}.values()
        return
    for question in _questions(FACTS[kind].again_path, held):
        try:
            yield from (item for item in _answer(clerk, question, ids) if item.id in ids)
        except GoneFromClerk:
            continue


def is_read_as_a_list(kind: ReadKind) -> bool:
    """Tells whether Clerk has no request for some objects of a kind, so that the whole list is read for any number."""
    return "{" not in FACTS[kind].again_path


def look_at(clerk: Clerk, kind: ReadKind, object_id: str) -> Look[Item | None]:
    """An object of a kind without parents; None: Clerk says that there is no such object."""
    [question] = _questions(_gone_path(kind), [(object_id, None, None)])
    return clerk.one(question.path, object_id)


def is_proven_by_list(kind: ReadKind) -> bool:
    """Tells whether Clerk reads no single object of a kind, so that only the complete list proves that one is gone."""
    return _gone_path(kind).partition("?")[0] == FACTS[kind].list_path


def absent_from_list(clerk: Clerk, kind: ReadKind, ids: Sequence[str]) -> Mapping[str, int]:
    """The objects among these that the complete list of the instance lacks, each with the moment of the answer."""
    [question] = _questions(_gone_path(kind), [(each, None, None) for each in ids])
    return _absent(clerk.listed(question.path, question.parameters), ids)


def child_gone_at(clerk: Clerk, kind: ReadKind, object_id: str, user_id: str | None, org_id: str | None) -> int | None:
    """The moment at which Clerk answered that there is no such object; None: Clerk has the object, or nobody knows.

    Clerk has no request for a single membership or domain, so the whole list of the user or organization is read.
    """
    for question in _questions(_gone_path(kind), [(object_id, user_id, org_id)]):
        if not question.is_about_one:
            return _absent(clerk.listed(question.path, question.parameters), [object_id]).get(object_id)
        found = clerk.one(question.path, object_id)
        return found.observed_at or None if found.value is None else None
    return None


# The questions that a kind's facts describe


@dataclass(frozen=True, slots=True)
class _Question:
    """A request to Clerk about one object, or about some objects."""

    path: str
    is_about_one: bool
    names_ids: bool
    """True: the request asks for objects by their own ids, so the answer may hold no other object."""
    asked: list[Held] = field(default_factory=list)
    query: str = ""

    @property
    def parameters(self) -> Parameters:
        """The parameters; a parameter with the name of an id is repeated for each id."""
        pairs = [each.split("=", 1) for each in self.query.split("&") if each]
        values = ((name, dict.fromkeys(value.format(**_names(each)) for each in self.asked)) for name, value in pairs)
        return [(name, value) for name, of_name in values for value in of_name]


def _questions(template: str, held: Sequence[Held]) -> Iterable[_Question]:
    """The requests about some objects, one for each path; none about an object without the id that a request names."""
    path, _, query = template.partition("?")
    questions: dict[str, _Question] = {}
    for each in held:
        names = _names(each)
        if any(f"{{{name}}}" in template and value is None for name, value in names.items()):
            continue
        filled = path.format(**{name: in_path(value) for name, value in names.items() if value is not None})
        new = _Question(filled, path.endswith("/{id}"), "={id}" in query, query=query)
        questions.setdefault(filled, new).asked.append(each)
    return questions.values()


def _answer(clerk: Clerk, question: _Question, ids: Collection[str]) -> Iterable[Item]:
    if question.is_about_one:
        found = clerk.one(question.path, question.asked[0][0]).value
        return [] if found is None else [found]
    if question.names_ids:
        return clerk.by_ids(question.path, question.parameters, ids).items
    return chain.from_iterable(page.items for page in clerk.listed(question.path, question.parameters))


def _gone_path(kind: Kind) -> str:
    return FACTS[kind].gone_path or FACTS[kind].again_path


def _names(held: Held) -> dict[str, str | None]:
    object_id, user_id, org_id = held
    return {"id": object_id, "user": user_id, "organization": org_id}


def _absent(pages: Iterator[Page], asked: Collection[str]) -> Mapping[str, int]:
    """The objects that a complete list lacks, with the moment of the list; none, if the list may be incomplete.

    If the parent is gone from Clerk, all objects, with the moment of that answer.
    """
    ids: set[str] = set()
    told: list[int] = []
    observed_at = 0
    try:
        for page in pages:
            if page.odd or not (page.joins and page.is_new) or page.total_count is None:
                return {}
            ids |= {item.id for item in page.items}
            told.append(page.total_count)
            observed_at = observed_at or page.observed_at
    except GoneFromClerk as parent_gone:
        ids, told, observed_at = set(), [0], parent_gone.observed_at
    is_complete = bool(told) and len(ids) >= max(told)
    return dict.fromkeys(set(asked) - ids, observed_at) if is_complete and observed_at else {}
