"""What a command fails with when its message says all there is to know."""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """Is shown as one line, without a traceback: it says what is wrong and what to do."""

    has_lines: ClassVar[bool] = False
    """Tells whether its message ends with lines of a log of this machine."""
