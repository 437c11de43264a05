"""What a command fails with when its message says all there is to know."""

from __future__ import annotations


class Failure(Exception):
    """Is shown as one line, without a traceback: it says what is wrong and what to do."""
