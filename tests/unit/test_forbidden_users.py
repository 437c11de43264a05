"""The memory of users who were not let in: short, and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.forbidden_users import MOST_USERS, REMEMBERED_MS, ForbiddenUsers


class Milliseconds:
    """The time of day, which passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now


def test_a_user_is_remembered_for_a_minute_and_not_longer_however_often_somebody_asks() -> None:
    clock = Milliseconds()
    users = ForbiddenUsers(clock)
    users.add("user_eve")
    for _ in range(59):
        clock.now += 1_000
        assert "user_eve" in users
    clock.now += 1_000
    assert "user_eve" not in users
    assert "user_ada" not in users


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    clock = Milliseconds()
    users = ForbiddenUsers(clock)
    users.add("user_eve")
    clock.now -= 3_600_000
    assert "user_eve" not in users


def test_the_oldest_user_makes_room_for_the_newest() -> None:
    users = ForbiddenUsers(Milliseconds())
    for number in range(MOST_USERS):
        users.add(f"user_{number}")
    users.add("user_0")
    users.add("user_eve")
    assert ("user_0" in users, "user_1" in users, "user_2" in users, "user_eve" in users) == (True, False, True, True)
    assert len(users._since) == MOST_USERS


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, REMEMBERED_MS), st.booleans()), max_size=30))
def test_whoever_is_remembered_was_added_within_the_last_minute(steps: list[tuple[str, int, bool]]) -> None:
    clock = Milliseconds()
    users = ForbiddenUsers(clock)
    added: dict[str, int] = {}
    for user_id, passed, is_added in steps:
        clock.now += passed
        if is_added:
            users.add(user_id)
            added[user_id] = clock.now
        assert (user_id in users) == (user_id in added and clock.now - added[user_id] < REMEMBERED_MS)
