"""The name of the operator, recorded with each of the operator's actions."""

from __future__ import annotations

import getpass
import os


def operator_name() -> str:
    """The operator's name on their machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have no name.
        return f"user {os.getuid()}"
