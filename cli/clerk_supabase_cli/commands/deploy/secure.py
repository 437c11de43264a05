"""`clerk-supabase secure`: row-level security for a table of the app, with its statements."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final, Literal

import click
import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection, DatabaseFailed, open_database
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say

Owner = Literal["user", "organization"]

_SECURE: Final = """
select clerk_sync.secure(
    %(table)s::regclass, %(owner)s,
    write_roles => %(write_roles)s, delete_roles => %(delete_roles)s, replace_policies => %(replace_policies)s
)
"""
_NAME: Final = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace where c.oid = %(table)s::regclass
"""
_OPENINGS: Final = """
select verdict, found, todo from clerk_sync.openings(%(table)s::regclass)
"""
# A name as typed by a person: without SQL's quotes around upper case and blanks.
_MEANT: Final = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and clerk_sync.is_schema_of_app(n.nspname)
and lower(replace(%(table)s, '"', '')) in (lower(c.relname), lower(n.nspname || '.' || c.relname))
order by 1 limit 1
"""

_MIGRATE: Final = "clerk_sync.secure() is missing; run: clerk-supabase migrate"


class NotSecured(Failure):
    """The table stays unchanged, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A way around the policies to the table's rows, certain or possible, with advice."""

    verdict: Literal["warn", "note"]
    """Never `fail`: secure() refuses the table then."""
    found: str
    todo: str


@dataclass(frozen=True, slots=True)
class Secured:
    """A table, the statements for its protection, and the warnings for a person."""

    table: str
    statements: list[str]
    findings: list[Opening]


@click.command("secure")
@click.argument("table")
@click.argument("owner", type=click.Choice(["user", "organization"]))
@click.option(
    "--write-role",
    "write_roles",
    multiple=True,
    metavar="org:ROLE",
    help="Role that may write; by default all members may.",
)
@click.option(
    "--delete-role",
    "delete_roles",
    multiple=True,
    metavar="org:ROLE",
    help="Role that may delete; by default the roles that may write.",
)
@click.option("--read-only", is_flag=True, help="No member may write, only your servers.")
@click.option("--replace-policies", is_flag=True, help="Drop existing policies that would allow more.")
@click.option("--dry-run", is_flag=True, help="Only print the SQL and the findings; locks the table for that moment.")
@click.option(
    "--lock-timeout",
    "lock_seconds",
    type=click.FloatRange(0.1, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time to block other sessions; retried a few times.",
)
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
    lock_seconds: float,
    database_url: str,
    as_json: bool,
) -> None:
    """Protect TABLE: each row belongs to an organization, or to a user, and only this user sees and writes the row.

    A missing column user_id or organization_id is added, and Postgres fills the column when a signed-in user inserts.
    Existing rows have no owner until you set one. Safe to run twice.

    Refuses a table whose rows are visible in another way, such as a view that reads as its owner, and says what to do.
    Functions that mention the table are listed as comments behind the statements, for you to check.
    """
    if read_only and (write_roles or delete_roles):
        raise click.UsageError("--read-only and roles that write contradict each other")
    if owner == "user" and (read_only or write_roles or delete_roles):
        raise click.UsageError("roles are of organizations: the rows of a user are written by that user")
    options: dict[str, object] = {
        "table": table,
        "owner": owner,
        "write_roles": [] if read_only else list(write_roles) or None,
        "delete_roles": list(delete_roles) or None,
        "replace_policies": replace_policies,
    }
    with open_database(database_url) as connection:
        secured = in_turns(
            connection,
            database_url,
            lambda: _secure(connection, options),
            lock_seconds=lock_seconds,
            is_trial=dry_run,
            report=lambda words: say(words, err=True),
        )
    if as_json:
        _print_json(secured, owner, changed=not dry_run)
        return
    for statement in secured.statements:
        say(f"{printable(statement)};")
    for opening in secured.findings:
        say(f"-- {opening.verdict}: {printable(opening.found)}: {printable(opening.todo)}")
    if not dry_run:
        say(f"{printable(secured.table)} is secured: {len(secured.statements)} statements", err=True)


def _secure(connection: Connection, options: dict[str, object]) -> Secured:
    try:
        with connection.transaction():
            statements = [statement for (statement,) in connection.execute(_SECURE, options)]
            findings = [Opening(*row) for row in connection.execute(_OPENINGS, options)]
            [(name,)] = connection.execute(_NAME, options).fetchall()
            return Secured(name, statements, findings)
    except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue) as error:
        raise NotSecured(str(error.diag.message_primary)) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidName, psycopg.errors.InvalidSchemaName) as error:
        if _lacks_migrations(connection):
            raise DatabaseFailed(_MIGRATE) from error
        meant = connection.execute(_MEANT, options).fetchone()
        advice = "spell it schema.table, as in public.tasks" if meant is None else f"type {shlex.quote(meant[0])}"
        raise NotSecured(f"{error.diag.message_primary}: {advice}") from error
    except psycopg.errors.UndefinedFunction as error:
        raise DatabaseFailed(_MIGRATE) from error


def _lacks_migrations(connection: Connection) -> bool:
    [(schema,)] = connection.execute("select to_regnamespace('clerk_sync')").fetchall()
    return schema is None


def _print_json(secured: Secured, owner: Owner, *, changed: bool) -> None:
    print_json(
        {
            "table": secured.table,
            "owner": owner,
            "changed": changed,
            "statements": secured.statements,
            "findings": secured.findings,
        }
    )
