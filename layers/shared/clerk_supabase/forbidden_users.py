"""The users who were answered 403 a moment ago, so that their next tokens cost no request to Clerk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REMEMBERED_MS: Final = 60_000
"""As long as a session token lives, and as a lifted ban goes unnoticed where no webhook tells of it."""
UNKNOWN_TO_CLERK_MS: Final = 5_000
"""As long for a user whom Clerk's API does not know: somebody who has just signed up may not be everywhere yet."""
MOST_USERS: Final = 10_000
"""The oldest is forgotten first: nobody fills the memory of the function."""


class ForbiddenUsers:
    """Remembers the ids of users for a short time each. One environment of the function has one, and one thread."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        """*clock_ms*: the time of day. A frozen environment may not count its own monotonic time."""
        self._clock_ms = clock_ms
        self._added: dict[str, tuple[int, int]] = {}
        """When each was answered, and for how long that counts; the oldest first."""

    def add(self, user_id: str, for_ms: int) -> None:
        """Remembers a user from now on, for so many milliseconds."""
        self._added.pop(user_id, None)
        self._added[user_id] = self._clock_ms(), for_ms
        if len(self._added) > MOST_USERS:
            del self._added[next(iter(self._added))]

    def __contains__(self, user_id: str) -> bool:
        """Tells whether the user is still remembered. Asking does not make it longer."""
        added_at, for_ms = self._added.get(user_id, (0, 0))
        # A clock that was set back must not lock anybody out for longer.
        return 0 <= self._clock_ms() - added_at < for_ms
