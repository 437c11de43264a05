"""The users who were answered 403 a moment ago, so that their next tokens cost no request to Clerk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REMEMBERED_MS: Final = 60_000
"""As long as a session token lives, and as a lifted ban goes unnoticed where no webhook tells of it."""
MOST_USERS: Final = 10_000
"""The oldest is forgotten first: nobody fills the memory of the function."""


class ForbiddenUsers:
    """Remembers the ids of users for a minute each. One environment of the function has one, and one thread."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        """*clock_ms*: the time of day. A frozen environment may not count its own monotonic time."""
        self._clock_ms = clock_ms
        self._since: dict[str, int] = {}
        """When each was answered, the oldest first."""

    def add(self, user_id: str) -> None:
        """Remembers a user from now on, for a minute."""
        self._since.pop(user_id, None)
        self._since[user_id] = self._clock_ms()
        if len(self._since) > MOST_USERS:
            del self._since[next(iter(self._since))]

    def __contains__(self, user_id: str) -> bool:
        """Whether the user was added within the last minute. Asking does not make it longer."""
        since = self._since.get(user_id)
        # A clock that was set back must not lock anybody out for longer.
        return since is not None and 0 <= self._clock_ms() - since < REMEMBERED_MS
