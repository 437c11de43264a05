"""The memory of forbidden users: short, and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.tokens.forbidden_users import MOST_USERS, REMEMBERED_MS, UNKNOWN_TO_CLERK_MS, ForbiddenUsers


class Milliseconds:
    """The time of day, which passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now


def test_a_forbidden_user_is_remembered_for_a_minute_however_often_they_sign_in() -> None:
    clock = Milliseconds()
    users = ForbiddenUsers(clock)
    users.add("user_eve", REMEMBERED_MS)
    for _ in range(59):
        clock.now += 1_000
        assert "user_eve" in users
    clock.now += 1_000
    assert "user_eve" not in users
    assert "user_ada" not in users


def test_a_clock_that_is_set_back_forbids_no_user() -> None:
    clock = Milliseconds()
    users = ForbiddenUsers(clock)
    users.add("user_eve", REMEMBERED_MS)
    clock.now -= 3_600_000
    assert "user_eve" not in users


def test_the_oldest_user_makes_room_for_the_newest() -> None:
    users = ForbiddenUsers(Milliseconds())
    for number in range(MOST_USERS):
        users.add(f"user_{number}", REMEMBERED_MS)
    users.add("user_0", REMEMBERED_MS)
    users.add("user_eve", REMEMBERED_MS)
    assert ("user_0" in users, "user_1" in users, "user_2" in users, "user_eve" in users) == (True, False, True, True)
    assert len(users._added) == MOST_USERS


DURATIONS = st.sampled_from([0, UNKNOWN_TO_CLERK_MS, REMEMBERED_MS])


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, REMEMBERED_MS), DURATIONS), max_size=30))
def test_a_user_is_remembered_for_the_time_of_the_latest_addition(steps: list[tuple[str, int, int]]) -> None:
    clock = Milliseconds()
    users = ForbiddenUsers(clock)
    until: dict[str, int] = {}
    for user_id, passed, for_ms in steps:
        clock.now += passed
        if for_ms:
            users.add(user_id, for_ms)
            until[user_id] = clock.now + for_ms
        assert (user_id in users) == (clock.now < until.get(user_id, 0))
