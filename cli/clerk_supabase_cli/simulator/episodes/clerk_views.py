"""Clerk's API of an episode: its servers lag behind the webhooks, leave objects out, and answer with errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from random import Random
from typing import Final

from clerk_supabase.clerk.walk import PAGE_SIZE
from clerk_supabase.model.kinds import FACTS, LIST_KINDS, READ_KINDS
from clerk_supabase_cli.standin import faults
from clerk_supabase_cli.standin.answers import Alter, Answers
from clerk_supabase_cli.standin.faults import Fault, Request
from clerk_supabase_cli.standin.population import Population
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import World

_LISTS: Final = tuple(FACTS[kind].list_path or "/users" for kind in READ_KINDS if FACTS[kind].is_read_by_id)


class Views(Answers):
    """Answers each request out of one of several views of the same world."""

    def __init__(self, world: World, key: str) -> None:
        super().__init__(world, key)
        self.view_for: Callable[[Request], World] = lambda _: world
        """Chooses the view that a request is answered from."""

    def body(self, request: Request, alter: Alter | None = None) -> bytes:
        """The body of a good answer. Raises Refusal for any other."""
        with self.lock:
            self.world = self.view_for(request)
            return super().body(request, alter)


class History:
    """The states of a world, so that a server can lag behind."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._states: list[World] = []
        self.hidden: set[str] = set()
        """Objects that no answer mentions, although Clerk has them."""
        self.note()

    def note(self) -> None:
        """Remembers how the world is now."""
        self._states.append(copy_of(self._world))

    def now(self) -> World:
        """The world as Clerk's newest server has it."""
        return copy_of(self._world, self.hidden)

    def at(self, moment: int) -> World:
        """The world as it was then; the oldest state that is known, if it did not exist yet."""
        past = [state for state in self._states if state.now <= moment]
        return copy_of((past or self._states)[-1 if past else 0], self.hidden)


def copy_of(world: World, without: Collection[str] = ()) -> World:
    """Copy the objects of a world as they are at this moment, but for some, into another world."""
    copied = World(world.chance, world.name, now=world.now)
    copied.users = _population((key, user) for key, user in world.users.items() if key not in without)
    for ours, theirs in (
        (copied.organizations, world.organizations),
        (copied.memberships, world.memberships),
        (copied.invitations, world.invitations),
        (copied.domains, world.domains),
    ):
        ours.update({key: each for key, each in theirs.items() if key not in without})
    return copied


def _population(users: Iterable[tuple[str, Json]]) -> Population:
    population = Population()
    for user_id, user in users:
        population[user_id] = user
    return population


def lagging(history: History, now: Callable[[], int], most_ms: int, chance: Random) -> Callable[[Request], World]:
    """Answers of several servers, each some time behind, up to so many milliseconds."""
    return lambda _: history.at(now() - chance.choice((0, chance.randint(0, most_ms), most_ms)))


def short_lists(history: History, chance: Random, *, is_counted: bool) -> tuple[Callable[[Request], World], set[str]]:
    """Lists that leave objects out. By id nothing is missing; counts agree with the lists, unless `is_counted`.

    Returns the ids that are left out, too.
    """
    world = history.now()
    ids = [object_id for objects in world.objects().values() for object_id in objects]
    left_out = set(chance.sample(sorted(ids), min(len(ids), chance.choice((1, 2, len(ids))))))
    short = copy_of(world, left_out)

    def view(request: Request) -> World:
        is_list = request.path in _LISTS and not request.values("user_id") and not request.values("organization_id")
        return short if is_list or (request.path == "/users/count" and not is_counted) else world

    return view, left_out


# Answers that say nothing about objects. A run that gets one and calls itself complete has not compared everything.
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
    "no required fields": lambda: faults.without_field("email_addresses", "banned", "role", "name", "updated_at"),
}
REFUSED_PATHS: Final = ("/users", *(FACTS[kind].list_path for kind in LIST_KINDS))


def _from_the_start(request: Request) -> Request:
    kept = (each for each in request.parameters if each[0] not in {"offset", "starting_after"})
    return replace(request, parameters=tuple(kept))


def _a_full_page(elements: faults.Elements) -> faults.Elements:
    """Return the same elements again and again, as many as a page has: where there is always a next page."""
    return (elements * PAGE_SIZE)[:PAGE_SIZE]
