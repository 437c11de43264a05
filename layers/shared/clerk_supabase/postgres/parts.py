"""Going on in parts: after a failure that may be the fault of one element, the others are tried without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from clerk_supabase.errors import ChangeRefused, DatabaseUnavailable, Retryable, RowUnavailable

Element = TypeVar("Element")
Answer = TypeVar("Answer")

# From the beginning of the first attempt, which may take 15 s, to that of the last part: SyncFunction has 30 s, and
# may have to park some of the messages afterwards.
_SECONDS: Final = 20.0
# What fails sooner has cost no time that the others need.
_AT_ONCE_SECONDS: Final = 1.0
# Each part may take this share of the time that is left, so that some is always left for the next one.
_SHARE: Final = 4
_SHORTEST_SECONDS: Final = 0.1
_NOT_TRIED: Final = "not tried alone: changes beside this one took all the time"


def in_parts(
    elements: Sequence[Element],
    together: Callable[[Sequence[Element], float | None], Sequence[Answer]],
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Answer | ChangeRefused | Retryable]:
    """One answer for each element, in their order: what *together* answers, or why the element failed.

    *together* does all or nothing for some elements, within so many seconds; None: as long as the server allows. What
    fails by ChangeRefused or RowUnavailable is halved until the element is alone. Any other Retryable means that the
    database is unavailable: it is raised when the first attempt says so, and afterwards ends the attempts.
    """
    answers: dict[int, Answer | ChangeRefused | Retryable] = {}
    waiting = [range(len(elements))]
    deadline = monotonic() + _SECONDS
    is_hurried = False
    while waiting:
        part = waiting.pop()
        began = monotonic()
        seconds = max(deadline - began, 0) / _SHARE if is_hurried else None
        try:
            if seconds is not None and seconds < _SHORTEST_SECONDS:
                raise DatabaseUnavailable(_NOT_TRIED)
            answers |= zip(part, together(elements[part.start : part.stop], seconds), strict=True)
        except (ChangeRefused, RowUnavailable) as error:
            took_long = isinstance(error, RowUnavailable) or monotonic() - began > _AT_ONCE_SECONDS
            is_hurried = is_hurried or took_long
            if len(part) == 1:
                answers[part.start] = error
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
        except Retryable as error:
            if len(part) == len(elements):
                raise
            answers |= dict.fromkeys((place for rest in (part, *waiting) for place in rest), error)
            break
    return [answers[place] for place in range(len(elements))]
