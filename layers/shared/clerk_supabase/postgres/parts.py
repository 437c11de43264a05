"""Work in parts: after a failure with a single element as its possible cause, the other elements are tried alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from clerk_supabase.errors import ChangeRefused, DatabaseUnavailable, Retryable, RowUnavailable

Element = TypeVar("Element")
Answer = TypeVar("Answer")

# From the start of the first attempt, which may take 15 s, to the start of the last part: SyncFunction has 30 s, and
# may have to park some of the messages afterwards.
_SECONDS: Final = 20.0
# A failure within this time has cost the other elements no time.
_AT_ONCE_SECONDS: Final = 1.0
# A part may take the remaining time divided by this, so some time always remains for the next part.
_SHARE: Final = 4
_SHORTEST_SECONDS: Final = 0.1
_NOT_TRIED: Final = "not tried alone: other changes of the batch took all the time"


def in_parts(
    elements: Sequence[Element],
    together: Callable[[Sequence[Element], float | None], Sequence[Answer]],
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Answer | ChangeRefused | Retryable]:
    """The answers of *together*, in the order of the elements; for an element that failed alone, its error.

    *together* does all or nothing for some elements, within a number of seconds (None: as long as the server allows).
    After ChangeRefused or RowUnavailable, the elements are halved until the faulty element is alone. Any other
    Retryable means an unavailable database: the function raises the error of the first attempt; after a later attempt,
    the error is the answer for all remaining elements.
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
