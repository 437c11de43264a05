"""Users who got the answer 403, or whose role Clerk did not confirm, a moment ago: their tokens ask Clerk nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REMEMBERED_MS: Final = 60_000
"""The life of a session token. Without a webhook, a lifted ban goes unnoticed for as long."""
UNKNOWN_TO_CLERK_MS: Final = 5_000
"""The time for a user unknown to Clerk's API, which may lag behind a sign-up."""
MOST_USERS: Final = 10_000
"""The oldest entry is forgotten first, so no flood of users fills the memory of the function."""


class ForbiddenUsers:
    """Remembers the ids of users, or of users in a role, for a short time.

    Each environment of the function has its own, and one thread.
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        """*clock_ms*: the time of day. A frozen environment may not count its own monotonic time."""
        self._clock_ms = clock_ms
        self._added: dict[str, tuple[int, int]] = {}
        """The moment of the answer and its lifetime, by user, oldest first."""

    def add(self, user_id: str, for_ms: int) -> None:
        """Remembers a user from now on, for so many milliseconds."""
        self._added.pop(user_id, None)
        self._added[user_id] = self._clock_ms(), for_ms
        if len(self._added) > MOST_USERS:
            del self._added[next(iter(self._added))]

    def __contains__(self, user_id: str) -> bool:
        """Tells whether the user is still remembered. The question does not prolong the time."""
        added_at, for_ms = self._added.get(user_id, (0, 0))
        # A clock set back must not lock a user out for longer.
        return 0 <= self._clock_ms() - added_at < for_ms
