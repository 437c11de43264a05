"""`clerk-supabase uninstall`: removes everything of this project from the database, after showing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.setup.supabase_settings import Access
from clerk_supabase_cli.operate.uninstall.exposed import exposed_of, withdraw
from clerk_supabase_cli.operate.uninstall.plan import Removal, Role
from clerk_supabase_cli.operate.uninstall.run import look, remove
from clerk_supabase_cli.options import database_url_option, json_option, management_api_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.project import find_root


@click.command("uninstall")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed, and what is in the way.")
@click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")
@database_url_option
@management_api_option
@json_option
def uninstall_command(*, dry_run: bool, yes: bool, database_url: str, management_api_url: str, as_json: bool) -> None:
    """Remove everything of this project from the database. The schemas, functions, tables, roles and policies are
    shown first.

    The tables of your app stay as they are. A key, policy, default, trigger or view of yours that needs an object of
    this project is printed with the statement that removes it, nothing is changed, and the exit status is 1.

    Supabase's API answers nothing while an exposed schema is missing: with SUPABASE_ACCESS_TOKEN, the command first
    takes the mirror's schema out of the exposed schemas.

    A table protected by `secure` keeps its rows, its columns and row-level security: it is never opened.

    Delete the stack first, because its functions write these tables.

    \b
    Examples:
      clerk-supabase uninstall --dry-run
      clerk-supabase uninstall
    """
    root = find_root()
    with open_database(database_url) as connection:
        found = look(connection, root)
        access = Access("", database_url, management_api_url)
        exposed = exposed_of(access, found.schemas)
        if not as_json:
            _print(found, exposed)
        is_done = not (dry_run or found.stops or found.is_empty)
        roles: Sequence[Role] = found.roles
        if is_done:
            if not yes:
                click.confirm("Remove all this for good?", abort=True, err=True)
            withdraw(access, exposed)
            for name in exposed:
                # Said now: what follows may fail, and then the app's API lacks the schema.
                say(f"took {name} out of the exposed schemas; `clerk-supabase setup` adds it again", err=True)
            roles = remove(connection, database_url, root, lambda words: say(words, err=True))
    if as_json:
        print_json({"removed": is_done, "found": found, "exposed": exposed, "roles": roles})
    elif is_done:
        _print_done(roles)
    if found.stops:
        things = "1 object" if len(found.stops) == 1 else f"{len(found.stops)} objects"
        raise Failure(f"nothing was removed: first remove or move {things}, in this order")


def _print(found: Removal, exposed: Sequence[str]) -> None:
    if found.is_empty:
        say("nothing of this project is in the database")
    for name in exposed:
        say(f"take {name} out of the exposed schemas of Supabase's API")
    for line in [*_removed(found), *_left(found)]:
        say(printable(line))


def _removed(found: Removal) -> Iterator[str]:
    for name in found.schemas:
        yield f"remove the schema {name} with everything in it"
    for name, number in found.rows.items():
        yield f"  {number} {'row' if number == 1 else 'rows'} of {name}"
    for name in found.columns:
        yield f"  with the column {name}, which is yours"
    for table in found.secured:
        yield f"remove the protection of {table.table}: {table.afterwards}"
        yield from (f"  {statement};" for statement in table.statements)
    for statement in found.others:
        yield f"remove what this project made: {statement};"


def _left(found: Removal) -> Iterator[str]:
    for role in found.roles:
        is_kept = role.kept_because
        yield f"keep the role {role.name}: {is_kept}" if is_kept else f"remove the role {role.name}"
    for note in found.notes:
        yield f"note: {note}"
    for stop in found.stops:
        yield f"in the way: {stop.what}"
        yield f"  -> {stop.statement};"


def _print_done(roles: Sequence[Role]) -> None:
    for role in roles:
        if role.kept_because:
            say(printable(f"kept the role {role.name}: {role.kept_because}"))
    say("removed")
