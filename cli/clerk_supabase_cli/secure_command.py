"""`clerk-supabase secure`: row-level security for a table of the app, with the statements that make it."""

from __future__ import annotations

from typing import Final, Literal

import click
import psycopg

from clerk_supabase_cli.database import Connection, DatabaseFailed, open_database
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say

Owner = Literal["user", "organization"]

_SECURE: Final = """
select clerk_sync.secure(
    %(table)s::regclass, %(owner)s,
    write_roles => %(write_roles)s, delete_roles => %(delete_roles)s, replace_policies => %(replace_policies)s
)
"""


class NotSecured(Failure):
    """The table stays as it is, for the reason that the message says."""


@click.command("secure")
@click.argument("table")
@click.argument("owner", type=click.Choice(["user", "organization"]))
@click.option("--write-role", "write_roles", multiple=True, metavar="org:ROLE", help="Who writes; default all members.")
@click.option(
    "--delete-role", "delete_roles", multiple=True, metavar="org:ROLE", help="Who deletes; default who writes."
)
@click.option("--read-only", is_flag=True, help="No member may write; only your servers do.")
@click.option("--replace-policies", is_flag=True, help="Drop policies that are there and would allow more.")
@click.option("--dry-run", is_flag=True, help="Only print the SQL; the table is locked for that moment.")
@database_url_option
@json_option
def secure_command(
    *,
    table: str,
    owner: Owner,
    write_roles: tuple[str, ...],
    delete_roles: tuple[str, ...],
    read_only: bool,
    replace_policies: bool,
    dry_run: bool,
    database_url: str,
    as_json: bool,
) -> None:
    """Protect TABLE: each row belongs to a user, who alone sees and writes it, or to an organization.

    The column user_id or organization_id is added if it is missing, and filled in by itself when a signed-in user
    inserts. Rows that are there belong to nobody until you say to whom. Safe to run twice.
    """
    if read_only and (write_roles or delete_roles):
        raise click.UsageError("--read-only and roles that write contradict each other")
    if owner == "user" and (read_only or write_roles or delete_roles):
        raise click.UsageError("roles are of organizations: the rows of a user are written by that user")
    with open_database(database_url) as connection:
        statements = _secure(
            connection,
            {
                "table": table,
                "owner": owner,
                "write_roles": [] if read_only else list(write_roles) or None,
                "delete_roles": list(delete_roles) or None,
                "replace_policies": replace_policies,
            },
            dry_run=dry_run,
        )
    if as_json:
        print_json({"table": table, "owner": owner, "changed": not dry_run, "statements": statements})
        return
    for statement in statements:
        say(f"{printable(statement)};")
    if not dry_run:
        say(f"{table} is secured: {len(statements)} statements", err=True)


def _secure(connection: Connection, options: dict[str, object], *, dry_run: bool) -> list[str]:
    try:
        with connection.transaction(force_rollback=dry_run):
            return [statement for (statement,) in connection.execute(_SECURE, options)]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidName) as error:
        raise NotSecured(f"{error.diag.message_primary}: spell it schema.table, as in public.tasks") from error
    except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue) as error:
        raise NotSecured(str(error.diag.message_primary)) from error
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        raise DatabaseFailed("clerk_sync.secure() is missing; run: clerk-supabase migrate") from error
