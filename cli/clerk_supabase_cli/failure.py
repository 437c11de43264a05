"""The error of commands with a message instead of a traceback."""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """An error shown as a line with the fault and advice, without a traceback."""

    has_lines: ClassVar[bool] = False
    """True: the message ends with lines of a log of this machine."""
