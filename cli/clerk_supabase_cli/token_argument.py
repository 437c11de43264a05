"""A token in the argument of a command."""

from __future__ import annotations

import sys


def token_of(given: str) -> str:
    """The given token, or for `-` a token from standard input, also with a pasted `Bearer` before it."""
    # Bytes outside UTF-8 are rejected later: no token has any.
    text = sys.stdin.buffer.read().decode(errors="replace") if given == "-" else given
    return text.strip().removeprefix("Bearer ")
