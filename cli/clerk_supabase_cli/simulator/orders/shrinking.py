"""Shrinks a schedule with a wrong end, so that a person can read the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, groupby
from random import Random

from clerk_supabase.aws.queue import Message
from clerk_supabase.model.envelope import Envelope
from clerk_supabase_cli.simulator.orders.schedules import Batch, Schedule
from clerk_supabase_cli.standin.worlds import World

StillWrong = Callable[[Sequence[Batch]], bool]


def shrink(
    schedule: Schedule, ends_wrong: Callable[[Schedule], bool], struck: Iterable[Sequence[Batch]] = ()
) -> tuple[Batch, ...]:
    """The fewest messages and accidents with a wrong end; empty if the schedule ends right without other schedules.

    Tries first each message in its own batch, without accidents. *struck*: variants of the batches, with the
    outages of the whole round.
    """
    tries = count(1)

    def still_wrong(batches: Sequence[Batch]) -> bool:
        # A database remembers every entity, so each try gets a world with a new name: rows of an earlier try could
        # cause a wrong end, too.
        return ends_wrong(_renamed(schedule, batches, f"{schedule.world.name}try{next(tries)}"))

    alone = [Batch((message,)) for batch in schedule.batches for message in batch.messages]
    for batches in (alone, schedule.batches, *struck):
        if still_wrong(batches):
            return tuple(_with_fewest_accidents(_with_fewest_messages(batches, still_wrong), still_wrong))
    return ()


def describe(batches: Sequence[Batch]) -> Iterator[str]:
    """A line for each message, in the order of arrival, and a line for the accidents of its batch."""
    for number, batch in enumerate(batches, start=1):
        for message in batch.messages:
            yield f"{number}. {message.envelope.svix_id}: {message.envelope.body.decode()}"
        if batch.has_accidents:
            yield f"{number}. {batch.fate.name}, {batch.outages}, retry killed after sends: {batch.retry_sends}"


def _with_fewest_messages(batches: Sequence[Batch], still_wrong: StillWrong) -> Sequence[Batch]:
    messages = [(number, message) for number, batch in enumerate(batches) for message in batch.messages]

    def made_of(kept: Sequence[tuple[int, Message]]) -> list[Batch]:
        return [
            replace(batches[number], messages=tuple(message for _, message in of_batch))
            for number, of_batch in groupby(kept, key=lambda placed: placed[0])
        ]

    size = max(1, len(messages) // 2)
    while size:
        for start in range(0, len(messages), size):
            fewer = messages[:start] + messages[start + size :]
            if fewer and still_wrong(made_of(fewer)):
                messages = fewer
                break
        else:
            size //= 2
    return made_of(messages)


def _with_fewest_accidents(batches: Sequence[Batch], still_wrong: StillWrong) -> Sequence[Batch]:
    for number, batch in enumerate(batches):
        calmer = [*batches[:number], Batch(batch.messages), *batches[number + 1 :]]
        if batch.has_accidents and still_wrong(calmer):
            batches = calmer
    return batches


def _renamed(schedule: Schedule, batches: Sequence[Batch], name: str) -> Schedule:
    old = schedule.world.name

    def rename(envelope: Envelope) -> Envelope:
        body = envelope.body.replace(f"_{old}x".encode(), f"_{name}x".encode())
        return replace(envelope, svix_id=envelope.svix_id.replace(f"_{old}_", f"_{name}_"), body=body)

    def rename_all(batch: Batch) -> Batch:
        messages = (replace(message, envelope=rename(message.envelope)) for message in batch.messages)
        return replace(batch, messages=tuple(messages))

    kept = {message.envelope.svix_id for batch in batches for message in batch.messages}
    delivered = tuple(rename(envelope) for envelope in schedule.delivered if envelope.svix_id in kept)
    poison = tuple(
        replace(each, envelope=rename(each.envelope)) for each in schedule.poison if each.envelope.svix_id in kept
    )
    # An empty world: the objects in the end are known only for a whole schedule.
    nothing = World(Random(0), name)  # noqa: S311 - nothing is drawn from it: the world stays empty
    return Schedule(schedule.number, nothing, delivered, tuple(map(rename_all, batches)), poison)
