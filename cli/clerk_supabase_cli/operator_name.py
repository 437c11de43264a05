"""The name of the operator, as it is recorded beside what the operator did."""

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
