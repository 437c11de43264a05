"""The version of the layer, the command, the template and the database: one number, written here as a constant.

Reading the version from the metadata of a package would cost 20 ms at each cold start. `make version` writes the number
into all other places.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "1.0.0"
"""Semantic version of this project: see docs/upgrade.md."""
MAJOR: Final = 1
"""First number of the version. A database of another major version makes the functions wait."""
USER_AGENT: Final = f"clerk-supabase-sync/{VERSION}"
"""Name of this project in requests over HTTP."""
