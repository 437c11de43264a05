"""A schedule that fails is made small, and its tries do not disturb each other."""

from __future__ import annotations

from collections.abc import Callable

from clerk_supabase_cli.simulator.orders.schedules import Schedule, random_schedule
from clerk_supabase_cli.simulator.orders.shrinking import shrink


def test_only_the_messages_that_are_needed_stay() -> None:
    schedule = long_schedule(1)
    first, last = arrivals(schedule)[0], arrivals(schedule)[-1]

    smallest = shrink(schedule, contains(first, last))
    assert [message.envelope.svix_id for batch in smallest for message in batch.messages] == [first, last]


def test_nothing_is_left_of_a_schedule_that_ends_well_by_itself() -> None:
    assert shrink(long_schedule(1), lambda _: False) == ()


def test_no_try_finds_data_of_another_try_in_the_database() -> None:
    worlds: list[str] = []
    for number in (1, 2):
        schedule = long_schedule(number)
        worlds.append(schedule.world.name)

        def ends_wrong(tried: Schedule) -> bool:
            worlds.append(tried.world.name)
            assert all(f"_{tried.world.name}x".encode() in each.body for each in tried.delivered)
            return True

        shrink(schedule, ends_wrong)
    assert len(set(worlds)) == len(worlds)


def long_schedule(number: int) -> Schedule:
    """A schedule with many messages, the first and last of which are not copies of each other."""
    numbers = range(number * 1_000, number * 1_000 + 1_000)
    schedules = (random_schedule("long", each) for each in numbers)
    return next(each for each in schedules if len(set(arrivals(each))) > 10 and arrivals(each)[0] != arrivals(each)[-1])


def arrivals(schedule: Schedule) -> list[str]:
    """The svix ids of the messages, in the order of arrival."""
    return [message.envelope.svix_id for batch in schedule.batches for message in batch.messages]


def contains(*svix_ids: str) -> Callable[[Schedule], bool]:
    """Ends wrong when all of these arrive. Each try has other names, the same numbers."""
    wanted = {svix_id.rpartition("_")[2] for svix_id in svix_ids}
    return lambda schedule: wanted <= {svix_id.rpartition("_")[2] for svix_id in arrivals(schedule)}
