"""Random ways for webhooks to reach the sync function: order, repetitions, batches and accidents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from random import Random
from typing import Final

import msgspec

from clerk_supabase.aws.queue import Message
from clerk_supabase.model.envelope import Envelope
from clerk_supabase_cli.simulator.orders.poison import Poison, random_poison
from clerk_supabase_cli.simulator.outages import Outage, random_outages
from clerk_supabase_cli.standin.worlds import World

_RECEIVED_AT: Final = 1_750_000_000_000
# Cut connections are rare, so that workers do not spend their time on reconnecting.
_FATES: Final = {"acknowledged": 84, "received_twice": 3, "forgotten": 12, "cut_off": 1}
# Shares of schedules. An outage affects all schedules of its round; about every third round has an outage.
_POISONED: Final = 0.06
_OUT: Final = 1 / 250
# The number of sends before the retry function is killed; None: no kill.
_RETRY_SENDS: Final = (None, 0, 1, 3)


class Fate(Enum):
    """The fate of a batch at its first delivery to a worker."""

    acknowledged = auto()
    received_twice = auto()
    """A second worker receives the batch while the first is at work."""
    forgotten = auto()
    """The worker dies between its commit and its answer: SQS delivers the batch again."""
    cut_off = auto()
    """A connection to Postgres is cut while the worker is at work."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of a single delivery to a worker, and their accidents."""

    messages: tuple[Message, ...]
    fate: Fate = Fate.acknowledged
    outages: tuple[Outage, ...] = ()
    """Outages that begin at the delivery, or later."""
    retry_sends: int | None = None
    """The number of sends after the delivery before the retry function is killed; None: no kill."""

    @property
    def has_accidents(self) -> bool:
        """Tells whether anything happens besides the delivery."""
        return self != Batch(self.messages)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The events of a small world, and a way for them to arrive. Seed and number repeat a schedule."""

    number: int
    world: World
    delivered: tuple[Envelope, ...]
    """The events that arrive at least once, in their original order."""
    batches: tuple[Batch, ...]
    poison: tuple[Poison, ...] = ()
    """Events that arrive among the others, and must be parked."""

    @property
    def is_complete(self) -> bool:
        """Tells whether no event was lost on the way."""
        return len(self.delivered) == len(self.world.events)

    def in_outages_of(self, schedules: Iterable[Schedule]) -> Iterator[tuple[Batch, ...]]:
        """Variants of its batches: for each outage of the schedules and each batch, the outage strikes this batch.

        Its own outages are included: with several workers, an outage strikes more than its own batch.
        """
        calm = [replace(batch, outages=(), retry_sends=None) for batch in self.batches]
        for striking in (batch for schedule in schedules for batch in schedule.batches if batch.outages):
            for number, own in enumerate(calm):
                struck = replace(own, outages=striking.outages, retry_sends=striking.retry_sends)
                yield *calm[:number], struck, *calm[number + 1 :]


def random_schedule(seed: object, number: int) -> Schedule:
    """Draws the schedule with this number; no other schedule shares its users and organizations."""
    chance = Random(f"{seed} {number}")  # noqa: S311 - to be repeated, not to be secret
    world = World(chance, f"{number:07}")
    world.live(chance.choice((3, 10, 10, 30)))
    lost = chance.choice((0.0, 0.0, 0.1, 0.5))
    schedule = schedule_of(chance, world, lost=lost, number=number)
    batches = list(schedule.batches)
    poison = tuple(_poison(chance, world))
    _mix_in(chance, poison, batches)
    if batches and chance.random() < _OUT:
        struck = chance.randrange(len(batches))
        outages, retry_sends = tuple(random_outages(chance)), chance.choice(_RETRY_SENDS)
        batches[struck] = replace(batches[struck], outages=outages, retry_sends=retry_sends)
    return replace(schedule, batches=tuple(batches), poison=poison)


def schedule_of(
    chance: Random, world: World, first: int = 0, lost: float = 0.0, received_at: int = _RECEIVED_AT, *, number: int = 0
) -> Schedule:
    """Draws a way for the events of a world to arrive, from number `first` on; the share `lost` is lost for good."""
    envelopes = list(_envelopes(world, received_at))[first:]
    delivered = tuple(envelope for envelope in envelopes if chance.random() >= lost)
    batches = tuple(_batches(chance, list(_arrivals(chance, delivered))))
    return Schedule(number, world, delivered, batches)


def interleave(chance: Random, schedules: Iterable[Schedule]) -> list[Batch]:
    """Mixes the batches of all schedules into an order of arrival.

    Batches of the same schedule stay near each other, so that several workers are busy with the same users. Some
    neighbours are joined, so that a batch spans several schedules.
    """
    line = [
        (start + chance.uniform(0, spread), batch)
        for start, schedule in enumerate(schedules)
        for spread in [chance.choice((0.5, 2, 20))]
        for batch in schedule.batches
    ]
    line.sort(key=lambda placed: placed[0])
    return list(_joined(chance, [batch for _, batch in line]))


def _envelopes(world: World, received_at: int) -> Iterator[Envelope]:
    for number, event in enumerate(world.events):
        yield Envelope(f"msg_{world.name}_{number}", msgspec.json.encode(event), received_at)


def _arrivals(chance: Random, envelopes: Iterable[Envelope]) -> Iterator[Message]:
    """Every envelope, once or more often: roughly in order, roughly in reverse, or shuffled."""
    disorder = chance.choice((0.0, 3.0, 1000.0, 1000.0))
    direction = chance.choice((1, 1, -1))
    copies = [
        (direction * place + chance.uniform(0, disorder), envelope)
        for place, envelope in enumerate(envelopes)
        for _ in range(chance.choice((1, 1, 1, 2, 3)))
    ]
    copies.sort(key=lambda placed: placed[0])
    for number, (_, envelope) in enumerate(copies):
        yield Message(f"{envelope.svix_id}_{number}", envelope)


def _batches(chance: Random, messages: list[Message]) -> Iterator[Batch]:
    largest = chance.choice((1, 3, 10, 10, 30))
    while messages:
        size = chance.randint(1, largest)
        fate = Fate[chance.choices(list(_FATES), list(_FATES.values()))[0]]
        yield Batch(tuple(messages[:size]), fate)
        del messages[:size]


def _poison(chance: Random, world: World) -> Iterator[Poison]:
    if chance.random() < _POISONED:
        for number in range(chance.choice((1, 1, 3))):
            yield random_poison(chance, world.name, number)


def _mix_in(chance: Random, poison: Iterable[Poison], batches: list[Batch]) -> None:
    """Inserts each poisonous event at random positions of random batches, once or more often."""
    for each in poison:
        for copy in range(chance.choice((1, 1, 2))):
            if not batches:
                batches.append(Batch(()))
            number = chance.randrange(len(batches))
            messages = list(batches[number].messages)
            messages.insert(chance.randint(0, len(messages)), Message(f"{each.envelope.svix_id}_{copy}", each.envelope))
            batches[number] = replace(batches[number], messages=tuple(messages))


def _joined(chance: Random, batches: list[Batch]) -> Iterator[Batch]:
    waiting: Batch | None = None
    for batch in batches:
        if waiting is None:
            waiting = batch
        elif chance.random() < 0.3:
            waiting = _join(waiting, batch)
        else:
            yield waiting
            waiting = batch
    if waiting is not None:
        yield waiting


def _join(first: Batch, second: Batch) -> Batch:
    retry_sends = first.retry_sends if second.retry_sends is None else second.retry_sends
    return Batch(
        first.messages + second.messages,
        max(first.fate, second.fate, key=_severity),
        first.outages + second.outages,
        retry_sends,
    )


def _severity(fate: Fate) -> int:
    return fate.value
