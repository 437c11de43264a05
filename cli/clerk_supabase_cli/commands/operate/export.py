"""`clerk-supabase export`: all data about a person, as JSON."""

from __future__ import annotations

from typing import Any

import click

from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.person import apps_rows, find_person, held
from clerk_supabase_cli.options import database_url_option, person_options, require_person
from clerk_supabase_cli.printing import print_json, printable, say


@click.command("export")
@person_options
@database_url_option
def export_command(*, user_id: str | None, addresses: tuple[str, ...], database_url: str) -> None:
    """Print all data about a person as JSON, table by table. Of the app's own tables, the numbers of rows are printed.

    \b
    Examples:
      clerk-supabase export user_2abc > ada.json
      clerk-supabase export --email ada@example.com
    """
    require_person(user_id, addresses)
    with open_database(database_url) as connection:
        person = find_person(connection, user_id, addresses)
        tables: dict[str, list[dict[str, Any]]] = {}
        for row in held(connection, person):
            tables.setdefault(row.place, []).append(
                {"verdict": row.verdict, "kind": row.kind, "id": row.id, "content": row.content}
            )
        apps = apps_rows(connection, person)
    print_json(
        {
            "users": person.users,
            "words": person.words,
            "not_looked_for": person.others,
            "unverified": person.unverified,
            "tables": tables,
            "of_the_app": apps,
        }
    )
    # Not in the JSON alone: an empty answer is easily taken for a complete answer.
    for word, owner in person.others.items():
        said = f"not looked for: {word}, which {owner} has in Clerk; see: clerk-supabase export {owner}"
        say(printable(said), err=True)
    if not tables and not apps and not person.others:
        names = ", ".join((*person.users, *addresses))
        say(printable(f"nothing is held about {names}; is it of this Clerk instance, and spelled right?"), err=True)
