"""`clerk-supabase publish`: tables whose changes Supabase Realtime sends, and what each subscriber hears."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import click
import psycopg

from clerk_supabase_cli.adopt.supabase_auth.callers import callers
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection, DatabaseFailed, advice_on_name, open_database
from clerk_supabase_cli.operate.install.mirror import mirror_schema
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import counted, print_json, printable, say

_LOCK_SECONDS: Final = 2.0
_PUBLICATION: Final = "select p.puballtables from pg_publication as p where p.pubname = 'supabase_realtime'"
_PUBLISHED: Final = """
    select format('%I.%I', t.schemaname, t.tablename) from pg_publication_tables as t
    where t.pubname = 'supabase_realtime' order by 1
"""
_TABLE: Final = """
    select
        format('%%I.%%I', n.nspname, c.relname), quote_ident(n.nspname), c.relkind = 'r' and c.relpersistence = 'p',
        clerk_sync.is_schema_of_app(n.nspname), c.relrowsecurity, c.relreplident::text, key.columns,
        coalesce(has_table_privilege('authenticated', c.oid, 'select') or key.is_readable, false),
        exists (
            select from pg_publication_rel as r inner join pg_publication as p on p.oid = r.prpubid
            where p.pubname = 'supabase_realtime' and r.prrelid = c.oid
        ),
        exists (select from pg_policy as p where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*')),
        not coalesce(has_schema_privilege(to_regrole('supabase_realtime_admin')::oid, n.oid, 'usage'), true)
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    cross join lateral (
        select
            string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns,
            bool_and(has_column_privilege('authenticated', c.oid, a.attnum, 'select')) as is_readable
        from pg_index as i
        inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
        where i.indrelid = c.oid and i.indisprimary
    ) as key
    where c.oid = %s::regclass
"""

# As callers() spells a table.
_NAMES: Final = "select t.name::regclass::text from unnest(%s::text[]) as t (name)"


class NotPublished(Failure):
    """The publication stays unchanged, for the reasons in the message."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, with the facts that decide about the messages to subscribers."""

    name: str
    schema: str
    is_ordinary: bool
    is_the_apps: bool
    """False for the tables of clerk_sync, of Supabase and of Postgres."""
    has_security: bool
    identity: str
    """Postgres's letter of the replica identity: d, f, i or n."""
    key: str | None
    """Columns of the primary key."""
    is_readable: bool
    """True if signed-in users may read the primary key."""
    is_published: bool
    has_policy: bool
    """True if a policy for reading exists."""
    needs_usage: bool
    """True if the role of Realtime lacks the right to use the schema."""

    def obstacles(self) -> Iterator[str]:
        """The reasons against publishing the table, each with what to do."""
        if not self.is_the_apps:
            # No advice below may follow: such a table must not be granted to users.
            yield "is no table of your app: users of the API may not read its rows, so publish no such table"
            return
        if not self.is_ordinary:
            yield "is no ordinary table: Realtime sends the changes of ordinary tables, so publish these"
            return
        if not self.has_security:
            yield (
                "has no row-level security, so every subscriber would hear every row: "
                f"clerk-supabase secure {self.name} user, or organization"
            )
        if self.key is None:
            yield f"has no primary key, which Realtime needs: alter table {self.name} add primary key (...)"
        elif not self.is_readable:
            yield f"may not be read by signed-in users (401): grant select on {self.name} to authenticated"
        if self.identity == "n":
            yield f"has no replica identity, and would reject updates: alter table {self.name} replica identity default"

    def notes(self, mirror: str) -> Iterator[str]:
        """Messages to subscribers that no policy decides about."""
        key = f"with the primary key ({self.key})" if self.key else "without a primary key"
        yield f"a delete goes to every subscriber, whatever the policies say, {key}"
        if self.identity == "f":
            yield (
                "replica identity full: each update also sends the old values, to whoever may read the new row: "
                f"alter table {self.name} replica identity default"
            )
        if not self.has_policy:
            yield "no policy lets anybody read a row: nobody will hear of inserts and updates"
        if self.name == f"{mirror}.users_public":
            yield "Realtime asks the policies once per subscriber and change: only for a small number of users"


@click.command("publish")
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option("--write", is_flag=True, help="Change the publication; without this option, only print the statements.")
@click.option("--remove", is_flag=True, help="Take the tables out of the publication.")
@database_url_option
@json_option
def publish_command(*, tables: tuple[str, ...], write: bool, remove: bool, database_url: str, as_json: bool) -> None:
    """Let Supabase Realtime send the changes of each TABLE. A TABLE is clerk.users, or one protected by `secure`.

    Prints the statements and what every subscriber will hear; --write runs the statements. Safe to run twice. Without
    a TABLE, lists the published tables.

    Rejects a table without row-level security or primary key, a table whose policy fails with Clerk's token (22P02:
    such a policy stops the messages of all), and every table of clerk_sync.

    \b
    Examples:
      clerk-supabase publish public.tasks
      clerk-supabase publish public.tasks clerk.users --write
    """
    if not tables and (write or remove):
        raise click.UsageError("give each TABLE, such as clerk.users")
    with open_database(database_url) as connection:
        _check_database(connection, may_be_all=not tables)
        mirror = mirror_schema(connection)
        found = _read(connection, tables or [name for (name,) in connection.execute(_PUBLISHED)])
        statements = _statements(found, remove=remove) if tables else []
        if tables:
            in_turns(
                connection,
                database_url,
                lambda: _change(connection, [] if remove else found, statements),
                lock_seconds=_LOCK_SECONDS,
                is_trial=not write,
                report=lambda words: say(words, err=True),
            )
    notes = {} if remove else {table.name: list(table.notes(mirror)) for table in found}
    if as_json:
        print_json({"changed": write and bool(statements), "statements": statements, "tables": notes})
        return
    _print(statements, notes, is_list=not tables)
    if tables and not statements:
        say("nothing to do: all is as asked", err=True)
    elif tables and write:
        say(f"the publication is changed: {counted(len(statements), 'statement')}", err=True)
    elif tables:
        say("nothing was changed: add --write", err=True)


def _check_database(connection: Connection, *, may_be_all: bool) -> None:
    """Raises an error for a database without migrations or without Realtime, and for a publication of all tables."""
    if connection.execute("select to_regnamespace('clerk_sync') is null").fetchall() == [(True,)]:
        raise DatabaseFailed("clerk_sync is missing; run: clerk-supabase migrate")
    found = connection.execute(_PUBLICATION).fetchone()
    if found is None:
        raise NotPublished(
            "there is no publication supabase_realtime: connect to a database of Supabase, or: "
            "create publication supabase_realtime"
        )
    if found[0] and not may_be_all:
        raise NotPublished(
            "supabase_realtime publishes all tables, those of clerk_sync too: drop publication supabase_realtime; "
            "create publication supabase_realtime; then run this command for the tables that users need"
        )


def _read(connection: Connection, names: Sequence[str]) -> list[Table]:
    found = []
    for name in names:
        try:
            rows = connection.execute(_TABLE, [name]).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidName, psycopg.errors.InvalidSchemaName) as error:
            raise NotPublished(f"{error.diag.message_primary}: {advice_on_name(name, 'clerk.users')}") from error
        if not rows:
            # Postgres takes a number for the id of a table.
            raise NotPublished(f"there is no table {printable(name)}: {advice_on_name(name, 'clerk.users')}")
        found += [Table(*row) for row in rows]
    return list({table.name: table for table in found}.values())


def _statements(tables: Sequence[Table], *, remove: bool) -> list[str]:
    if remove:
        return [f"alter publication supabase_realtime drop table {each.name}" for each in tables if each.is_published]
    schemas = dict.fromkeys(each.schema for each in tables if each.needs_usage)
    return [
        *(f"grant usage on schema {schema} to supabase_realtime_admin" for schema in schemas),
        *(f"alter publication supabase_realtime add table {each.name}" for each in tables if not each.is_published),
    ]


def _change(connection: Connection, published: Sequence[Table], statements: Sequence[str]) -> None:
    """Runs the statements. Raises NotPublished for tables that Realtime could not send, or would send to everybody."""
    obstacles = [f"{table.name} {words}" for table in published for words in table.obstacles()]
    if obstacles:
        raise NotPublished("nothing was changed: " + printable("; ".join(obstacles)))
    try:
        for statement in statements:
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotPublished(f"nothing was changed: {error.diag.message_primary}; sign in as postgres") from error
    # The search for failing policies looks at published tables.
    failing = {*callers(connection).realtime}
    names = [name for (name,) in connection.execute(_NAMES, [[each.name for each in published]])]
    if bad := [name for name in names if name in failing]:
        raise NotPublished(
            f"nothing was changed: a policy of {printable(', '.join(bad))} fails with Clerk's token (22P02), and would "
            "stop the messages of all subscribers: docs/migrate-from-supabase-auth.md"
        )


def _print(statements: Sequence[str], notes: dict[str, list[str]], *, is_list: bool) -> None:
    for statement in statements:
        say(f"{printable(statement)};", as_it_is=True)
    for table, words in notes.items():
        for each in words:
            say(f"-- {printable(table)}: {printable(each)}", as_it_is=True)
    if is_list and not notes:
        say("no table is published")
