"""Clerk's API of an episode: its servers lag behind the webhooks, leave objects out, and answer with errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from random import Random
from typing import Final

from clerk_supabase.clerk.walk import PAGE_SIZE
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, FACTS, LIST_KINDS
from clerk_supabase_cli.standin import faults
from clerk_supabase_cli.standin.backend.answers import Alter, Answers
from clerk_supabase_cli.standin.faults import Fault, Request
from clerk_supabase_cli.standin.population import Population
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World

_ENCLOSING: Final = frozenset(FACTS[kind].enclosing_path for kind in ENCLOSED_KINDS)
SHORTENED: Final[tuple[Kind, ...]] = ("user", "organization", "membership", "permission", "role")
"""The kinds whose lists leave objects out."""
_LISTS: Final = tuple(FACTS[kind].list_path or "/users" for kind in SHORTENED)


class Views(Answers):
    """Answers each request from a chosen view of the same world."""

    def __init__(self, world: World, key: str) -> None:
        super().__init__(world, key)
        self.view_for: Callable[[Request], World] = lambda _: world
        """Chooses the view for a request."""

    def body(self, request: Request, alter: Alter | None = None) -> bytes:
        """The body of a successful answer. Raises Rejection instead of any other answer."""
        with self.lock:
            self.world = self.view_for(request)
            return super().body(request, alter)


class History:
    """The states of a world, for servers that lag behind."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._states: list[World] = []
        self.hidden: set[str] = set()
        """Objects of Clerk left out of every answer, together with their children."""
        self.note()

    def note(self) -> None:
        """Records the present state of the world."""
        self._states.append(copy_of(self._world))

    def now(self) -> World:
        """The world as seen by Clerk's newest server."""
        return self._shown(self._world)

    def at(self, moment: int) -> World:
        """The world at a moment; the oldest recorded state, if the moment is even older."""
        past = [state for state in self._states if state.now <= moment]
        return self._shown((past or self._states)[-1 if past else 0])

    def _shown(self, world: World) -> World:
        # Also children from a later time: an answer about a child names its parents.
        return copy_of(world, self.hidden | world.children_of(self.hidden))


def copy_of(world: World, without: Collection[str] = ()) -> World:
    """Copies the present objects of a world, except some, into another world."""
    copied = World(world.chance, world.name, now=world.now)
    copied.billing = world.billing.copy(without)
    copied.users = _population((key, user) for key, user in world.users.items() if key not in without)
    for ours, theirs in (
        (copied.organizations, world.organizations),
        (copied.memberships, world.memberships),
        (copied.invitations, world.invitations),
        (copied.domains, world.domains),
        *((copied.others[kind], objects) for kind, objects in world.others.items()),
    ):
        ours.update({key: each for key, each in theirs.items() if key not in without})
    return copied


def _population(users: Iterable[tuple[str, Json]]) -> Population:
    population = Population()
    for user_id, user in users:
        population[user_id] = user
    return population


def lagging(history: History, now: Callable[[], int], most_ms: int, chance: Random) -> Callable[[Request], World]:
    """Views of several servers, each behind by up to *most_ms*. Statements are never behind, and draw no number."""

    def view(request: Request) -> World:
        if request.path in _ENCLOSING:
            return history.at(now())
        return history.at(now() - chance.choice((0, chance.randint(0, most_ms), most_ms)))

    return view


def short_lists(history: History, chance: Random, *, is_counted: bool) -> tuple[Callable[[Request], World], set[str]]:
    """A view whose lists leave objects out, and the ids of these objects.

    A request by id finds every object; counts agree with the lists, unless `is_counted`.
    """
    world = history.now()
    ids = [object_id for objects in world.objects().values() for object_id in objects]
    left_out = set(chance.sample(sorted(ids), min(len(ids), chance.choice((1, 2, len(ids))))))
    short = copy_of(world, left_out)

    def view(request: Request) -> World:
        is_list = request.path in _LISTS and not request.values("user_id") and not request.values("organization_id")
        return short if is_list or (request.path == "/users/count" and not is_counted) else world

    return view, left_out


REQUIRED: Final = ("email_addresses", "banned", "role", "name", "updated_at")
"""Fields that Clerk always sends, of users or of other objects."""

# Answers without information about objects. A run with such an answer has not compared everything.
REFUSALS: Final[dict[str, Callable[[], Fault]]] = {
    "402": lambda: faults.answering(402, code="unsupported_subscription_plan_features"),
    "403": lambda: faults.answering(403, code="authorization_invalid"),
    "404": lambda: faults.answering(404, code="not_found"),
    "HTML": faults.firewall,
    "no elements": faults.no_elements,
    "no Date": faults.without_date,
    "the same page": lambda: Fault(request=_from_the_start, alter=_a_full_page),
    "called deleted": faults.all_called_deleted,
    "no e-mail addresses": lambda: faults.without_field("email_addresses"),
    "no required fields": lambda: faults.without_field(*REQUIRED),
}


def refusal(name: str, chance: Random) -> Fault:
    """A wrong answer of Clerk. `chance` chooses whether all required fields are missing, or a single one of users."""
    if name == "no required fields" and chance.random() < 0.5:
        return faults.without_field(chance.choice(("banned", "email_addresses", "updated_at")))
    return REFUSALS[name]()


REFUSED_PATHS: Final = ("/users", *(FACTS[kind].list_path for kind in LIST_KINDS))


def _from_the_start(request: Request) -> Request:
    kept = (each for each in request.parameters if each[0] not in {"offset", "starting_after"})
    return replace(request, parameters=tuple(kept))


def _a_full_page(elements: faults.Elements) -> faults.Elements:
    """Repeats the elements until a page is full, so that there always seems to be a next page."""
    return (elements * PAGE_SIZE)[:PAGE_SIZE]
