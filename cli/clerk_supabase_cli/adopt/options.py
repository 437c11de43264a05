"""Options that the steps of `clerk-supabase adopt` share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

DEFAULT_FILE: Final = Path("adopt.toml")

mapping_option = click.option(
    "--mapping",
    "mapping_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The mapping that `adopt inspect` wrote and you have read.",
)
