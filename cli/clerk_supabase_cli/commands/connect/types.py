"""`clerk-supabase types`: the mirror's tables for TypeScript, Drizzle and Prisma, read from the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.typings.drizzle import drizzle
from clerk_supabase_cli.operate.typings.mirror import Mirror, read_mirror
from clerk_supabase_cli.operate.typings.prisma import prisma
from clerk_supabase_cli.operate.typings.typescript import typescript
from clerk_supabase_cli.options import database_url_option
from clerk_supabase_cli.printing import say
from clerk_supabase_cli.whole_files import write_whole

_LANGUAGES: Final[Mapping[str, Callable[[Mirror], str]]] = {
    "typescript": typescript,
    "drizzle": drizzle,
    "prisma": prisma,
}


class NotWritten(Failure):
    """The file is not written, for the reason in the message."""


@click.command("types")
@click.option("--typescript", "language", flag_value="typescript", help="The type Database of supabase-js.")
@click.option("--drizzle", "language", flag_value="drizzle", help="Tables of Drizzle.")
@click.option("--prisma", "language", flag_value="prisma", help="Models of Prisma.")
@click.option("--schema", metavar="NAME", help="Schema of the mirror; by default as the migrations recorded it.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write this file, as a whole or not at all, instead of printing.",
)
@database_url_option
def types_command(*, language: str | None, schema: str | None, output: Path | None, database_url: str) -> None:
    """Print the mirror's tables as source code. The columns that your app added are printed, too.

    The head of the output names the settings that keep `drizzle-kit` and `prisma migrate` away from these tables.
    Changes nothing in the database.

    \b
    Examples:
      clerk-supabase types --typescript > clerk.ts
      clerk-supabase types --drizzle > clerk.schema.ts
    """
    if language is None:
        raise click.UsageError("Name the language: --typescript, --drizzle or --prisma.")
    with open_database(database_url) as connection:
        mirror = read_mirror(connection, schema)
    code = _LANGUAGES[language](mirror).rstrip("\n")
    if output is None:
        say(code, as_it_is=True)
        return
    try:
        write_whole(output, f"{code}\n")
    except OSError as error:
        raise NotWritten(f"{output} cannot be written: {error.strerror}") from None
