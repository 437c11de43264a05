"""A token as an operator gives it to a command."""

from __future__ import annotations

import sys


def token_of(given: str) -> str:
    """The token that was given, or `-` for standard input, as people paste it: also with `Bearer` before it."""
    # Bytes that are no text are no token either.
    text = sys.stdin.buffer.read().decode(errors="replace") if given == "-" else given
    return text.strip().removeprefix("Bearer ")
