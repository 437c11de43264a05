"""SnapStart: Lambda starts an environment once, keeps a snapshot of its memory, and restores many environments from it.

So an environment that starts for a snapshot reads no secret, opens no connection and draws no random number.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable


def once_started(act: Callable[[], object]) -> None:
    """Calls *act* now, or under SnapStart each time that Lambda has restored the environment, within its limit of 10 s.

    A restored environment first draws a seed of its own: all the others of its snapshot have the same one, and their
    delays would be the same.
    """
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        act()
        return
    # A part of Lambda's runtime for Python.
    from snapshot_restore_py import (  # type: ignore[import-untyped]  # noqa: PLC0415 - most start without
        register_after_restore,
    )

    register_after_restore(random.seed)
    register_after_restore(act)
