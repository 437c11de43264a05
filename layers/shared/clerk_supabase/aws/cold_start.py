"""A cold start without searches for garbage, of which imports leave little: they would take a tenth of the cold start.

Each function imports this module before all others, and calls `ended()` when the function can answer its first event.
"""

from __future__ import annotations

import gc

gc.disable()


def ended() -> None:
    """Searches for garbage from now on, outside the objects of the start, which live as long as the environment."""
    # A second start in one process is only known from tests, whose own objects shall not be left out.
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
