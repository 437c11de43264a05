"""The catalogue of all steps of an episode, by name, and scripts of steps drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Final

from clerk_supabase_cli.simulator import fed_table
from clerk_supabase_cli.simulator.episodes.happenings import app, by_hand, comparisons, life, operator, webhooks
from clerk_supabase_cli.simulator.episodes.stage import Stage

Act = Callable[[Stage, Random], object]

# The factor for steps of a group asked for by name.
_WANTED: Final = 5
# The share of scripts with a rare step.
_SHARE_OF_RARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a script. Its random choices depend on its seed and on the state of the stage."""

    what: str
    seed: int
    is_beside: bool = False
    """True: the step happens at the same time as the step before."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step."""

    act: Act
    weight: int
    """0: a rare step, see _insert_rare()."""
    group: str
    """The name for switching steps on or off together."""
    may_be_beside: bool = False


def random_script(chance: Random, only: Collection[str] = ()) -> tuple[Step, ...]:
    """Draws steps at random, from all groups or from the named groups; Clerk and its webhooks always take part."""
    kinds = {name: kind for name, kind in KINDS.items() if not only or kind.group in {*only, "life"}}
    weights = [kind.weight * (_WANTED if kind.group in only else 1) for kind in kinds.values()]
    names = chance.choices(list(kinds), weights, k=chance.choice((6, 10, 16)))
    are_beside = "beside" in only or (not only and chance.random() < 0.4)
    script = [Step("Clerk lives", chance.getrandbits(32)), Step("webhooks", chance.getrandbits(32))]
    for name in names:
        is_beside = are_beside and chance.random() < 0.5 and kinds[name].may_be_beside
        is_beside = is_beside and KINDS[script[-1].what].may_be_beside
        script.append(Step(name, chance.getrandbits(32), is_beside))
    _insert_rare(script, only)
    return tuple(script)


def _insert_rare(script: list[Step], only: Collection[str]) -> None:
    """Insert steps without a weight, drawn apart: no other draw depends on whether there are such steps."""
    apart = Random(f"rare {script[0].seed}")  # noqa: S311 - repeatable on purpose
    rare = [name for name, kind in KINDS.items() if not kind.weight and (not only or kind.group in only)]
    if not rare or (not only and apart.random() >= _SHARE_OF_RARE):
        return
    for _ in range(2 if only else 1):
        places = [place for place in range(2, len(script)) if not script[place].is_beside]
        places.append(len(script))
        script.insert(apart.choice(places), Step(apart.choice(rare), apart.getrandbits(32)))


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "Clerk lives": Kind(life.live, 8, "life"),
        "a crowd joins": Kind(life.crowd, 1, "crowd"),
        "many are invited": Kind(life.invite_many, 1, "invited"),
        "updated_at goes backwards": Kind(life.set_back, 2, "clock"),
        "an invitation is to run out": Kind(life.run_out, 1, "expiry"),
        "delete told by mistake": Kind(life.mislead, 1, "mislead"),
        "webhooks": Kind(webhooks.arrive, 8, "life", may_be_beside=True),
        "redeliveries": Kind(webhooks.redeliveries, 2, "life", may_be_beside=True),
        "webhooks, some lost": Kind(partial(webhooks.arrive, lost=0.3), 3, "lost", may_be_beside=True),
        "message moved by hand": Kind(webhooks.moved_by_hand, 1, "moved"),
        "webhooks lost": Kind(webhooks.no_webhooks, 1, "lost"),
        "run": Kind(comparisons.run, 4, "run", may_be_beside=True),
        "run, API lags": Kind(comparisons.lagging_run, 3, "lag"),
        "run, lists leave out": Kind(comparisons.short_run, 2, "short"),
        "run, API empties a field": Kind(comparisons.emptying_run, 1, "emptied"),
        "run, API refuses": Kind(comparisons.refused_run, 2, "refused"),
        "quick run, API says nothing": Kind(comparisons.quick_run_refused, 1, "quick"),
        "API loses objects": Kind(comparisons.lie, 2, "lie"),
        "API loses a crowd": Kind(comparisons.lose_crowd, 1, "lost crowd"),
        "API finds them": Kind(comparisons.end_of_lie, 1, "lie"),
        "delete told late": Kind(comparisons.delete_told_late, 2, "undo"),
        "undo": Kind(operator.undo, 3, "undo", may_be_beside=True),
        "resync": Kind(operator.resync, 2, "resync", may_be_beside=True),
        "housekeeping": Kind(operator.housekeeping, 2, "housekeeping", may_be_beside=True),
        "replay": Kind(webhooks.replay, 1, "replay"),
        "row edited": Kind(by_hand.edit, 1, "edit"),
        "row hidden": Kind(by_hand.hide, 1, "hide"),
        "row shown": Kind(by_hand.show, 2, "show"),
        "row removed": Kind(by_hand.remove, 1, "remove"),
        "organization removed": Kind(by_hand.remove_organization, 1, "organization"),
        "row restored": Kind(by_hand.restore, 1, "restore"),
        "key changed": Kind(by_hand.change_key, 1, "key"),
        "table truncated": Kind(by_hand.truncate, 1, "table"),
        "table copied": Kind(by_hand.save_table, 1, "table"),
        "table restored from the copy": Kind(by_hand.restore_table, 2, "table"),
        "profile edited": Kind(by_hand.edit_profile, 1, "profile"),
        "app refuses": Kind(app.refuses, 2, "refuse"),
        "app keeps deleted rows": Kind(app.keeps, 1, "keep"),
        "app is in the way": Kind(app.is_in_the_way, 2, "obstacle"),
        "app rewrites": Kind(app.rewrites, 1, "rewrite"),
        "app skips": Kind(app.skips, 0, "skip"),
        "app alters": Kind(app.alters, 0, "alter"),
        "app is slow": Kind(app.is_slow, 1, "slow"),
        "app locks a row": Kind(app.locks, 2, "lock"),
        "app relents": Kind(app.relents, 1, "relents"),
        "a table follows the mirror": Kind(fed_table.begin, 1, "feed"),
        "fed table fails": Kind(fed_table.fails, 1, "feed"),
        "fed table is locked": Kind(fed_table.locks, 1, "feed"),
        "old handler writes": Kind(fed_table.writes_late, 1, "feed"),
        "replica is saved": Kind(app.replicate, 1, "failover"),
        "failover": Kind(app.fail_over, 1, "failover"),
    }
)
GROUPS: Final = frozenset({kind.group for kind in KINDS.values()} | {"beside"})
"""The groups to which a search can be restricted. `beside`: steps may happen side by side."""
