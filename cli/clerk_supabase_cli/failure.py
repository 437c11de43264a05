"""The error of commands whose message is enough, without a traceback."""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """An error shown as one line, without a traceback: the fault, and what to do."""

    has_lines: ClassVar[bool] = False
    """Tells whether its message ends with lines of a log of this machine."""
