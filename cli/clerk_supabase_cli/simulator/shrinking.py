"""Makes a schedule that ends wrong as small as it gets, so that a person can read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from random import Random

from clerk_supabase.envelope import Envelope
from clerk_supabase.queue import Message
from clerk_supabase_cli.simulator.schedules import Batch, Schedule
from clerk_supabase_cli.simulator.worlds import World


def shrink(schedule: Schedule, ends_wrong: Callable[[Schedule], bool]) -> tuple[Message, ...]:
    """The fewest messages of the schedule, one a batch, that still end wrong; nothing if they need company to do so."""
    messages = tuple(message for batch in schedule.batches for message in batch.messages)
    tries = count(1)

    def still_wrong(kept: Sequence[Message]) -> bool:
        # A database remembers every entity, so each try of each schedule is about a world that no other ever was about:
        # otherwise it might end wrong because of what an earlier one left behind.
        return ends_wrong(_renamed(schedule, kept, f"{schedule.world.name}try{next(tries)}"))

    if not still_wrong(messages):
        return ()
    size = max(1, len(messages) // 2)
    while size:
        for start in range(0, len(messages), size):
            fewer = messages[:start] + messages[start + size :]
            if fewer and still_wrong(fewer):
                messages = fewer
                break
        else:
            size //= 2
    return messages


def describe(messages: Sequence[Message]) -> Iterator[str]:
    """One line a message, in the order of arrival."""
    for number, message in enumerate(messages, start=1):
        yield f"{number}. {message.envelope.svix_id}: {message.envelope.body.decode()}"


def _renamed(schedule: Schedule, kept: Sequence[Message], name: str) -> Schedule:
    old = schedule.world.name

    def rename(envelope: Envelope) -> Envelope:
        body = envelope.body.replace(f"_{old}x".encode(), f"_{name}x".encode())
        return replace(envelope, svix_id=envelope.svix_id.replace(f"_{old}_", f"_{name}_"), body=body)

    wanted = {message.envelope.svix_id for message in kept}
    delivered = tuple(rename(envelope) for envelope in schedule.delivered if envelope.svix_id in wanted)
    batches = tuple(Batch((replace(message, envelope=rename(message.envelope)),)) for message in kept)
    # An empty world: what exists in the end is only known of a schedule as a whole.
    return Schedule(schedule.number, World(Random(0), name), delivered, batches)  # noqa: S311 - makes nothing up
