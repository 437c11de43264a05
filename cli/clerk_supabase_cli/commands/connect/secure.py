"""`clerk-supabase secure`: row-level security for a table of the app, with its statements."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, get_args

import click
import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection, DatabaseFailed, advice_on_name, open_database
from clerk_supabase_cli.operate.known_plans import doubts_about
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.options import (
    check_entitlement,
    database_url_option,
    entitlement_options,
    json_option,
    lock_timeout_option,
)
from clerk_supabase_cli.printing import counted, print_json, printable, say

Owner = Literal["user", "organization", "user-or-organization"]
Audience = Literal["everybody", "organizations", "nobody"]

_SECURE: Final = """
select clerk_sync.secure(
    %(table)s::regclass, %(owner)s,
    write_roles => %(write_roles)s, delete_roles => %(delete_roles)s, replace_policies => %(replace_policies)s,
    owner_column => %(column)s, organization_column => %(organization_column)s, through => %(through)s,
    plan => %(plan)s, feature => %(feature)s, from_mirror => %(from_mirror)s
)
"""
_CHANGE: Final = r"""
select
    c.was, c.becomes, c.rows_of_nobody,
    array(
        select p.polname::text from pg_policy as p
        where p.polrelid = %(table)s::regclass and p.polpermissive and p.polname not like 'clerk\_sync\_%%'
        order by 1
    ),
    clerk_sync.present_entitlements(%(table)s::regclass),
    clerk_sync.entitlements_asked(%(plan)s, %(feature)s, %(from_mirror)s)
from clerk_sync.ownership_change(
    %(table)s::regclass, %(owner)s, %(column)s, %(organization_column)s, %(through)s
) as c
"""
_WHOLE_NAME: Final = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace where c.oid = %(table)s::regclass
"""
_VISIBILITY: Final = "select visible_to from clerk_sync.profile_visibility"
_SET_VISIBILITY: Final = "select clerk_sync.set_profile_visibility(%s)"
_THROUGH: Final = re.compile(r"\s*(?P<table>.+?)\s*\([^()]*\)\s*", re.DOTALL)
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
class Change:
    """The owners of a table before and after, counted before anything changes."""

    was: str | None
    """Kind and column of the owners; None for a table that is not secured."""
    becomes: str
    rows_of_nobody: int
    """Number of rows that no user of the API will see."""
    dropped_policies: list[str]
    """Names of the app's own policies, dropped with --replace-policies."""
    asked: list[str]
    """Plans and features for which the policies ask before: `feature org:reports`."""
    asks: list[str]
    """Plans and features for which the policies will ask."""

    def needs_consent(self) -> bool:
        """Tells whether rows that somebody sees may vanish for that person, or open without a plan or a feature."""
        is_turned = self.was is not None and self.was != self.becomes
        is_opened = not set(self.asked) <= set(self.asks)
        return is_turned or is_opened or bool(self.dropped_policies and self.rows_of_nobody)

    def words(self, table: str) -> str:
        """The change in one or two sentences; empty if there is nothing to say."""
        said = []
        if self.was is not None and self.was != self.becomes:
            said.append(f"The owner of each row of {table} is the {self.was}; the owner will be the {self.becomes}.")
        if self.was is not None and self.asked != self.asks:
            before, after = (", ".join(each) or "no plan and no feature" for each in (self.asked, self.asks))
            said.append(f"The policies of {table} ask for {before}; they will ask for {after}.")
        if self.rows_of_nobody:
            rows = counted(self.rows_of_nobody, "row")
            said.append(f"{rows} of {table} will belong to nobody: no user sees them until you set their owner.")
        return " ".join(said)


@dataclass(frozen=True, slots=True)
class Secured:
    """A table, the statements for its protection, and the warnings for a person."""

    table: str
    statements: list[str]
    findings: list[Opening]


@click.command("secure")
@click.argument("table", required=False)
@click.argument("owner", type=click.Choice(get_args(Owner)), required=False)
@click.option("--column", metavar="NAME", help="Column of the owner, instead of user_id or organization_id.")
@click.option("--organization-column", metavar="NAME", help="For user-or-organization: column of the organization.")
@click.option(
    "--through",
    metavar="TABLE(KEY, COLUMN)",
    help="Your own table: the owner's column holds its KEY, and its COLUMN holds Clerk's id.",
)
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
@entitlement_options
@click.option("--replace-policies", is_flag=True, help="Drop existing policies that would allow more.")
@click.option(
    "--profiles",
    type=click.Choice(get_args(Audience)),
    help="Without TABLE: who sees a user's profile in users_public, apart from the user.",
)
@click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")
@click.option("--dry-run", is_flag=True, help="Only print the SQL and the findings; locks the table for that moment.")
@lock_timeout_option
@database_url_option
@json_option
def secure_command(
    *,
    table: str | None,
    owner: Owner | None,
    column: str | None,
    organization_column: str | None,
    through: str | None,
    write_roles: tuple[str, ...],
    delete_roles: tuple[str, ...],
    read_only: bool,
    plan: str | None,
    feature: str | None,
    from_mirror: bool,
    replace_policies: bool,
    profiles: Audience | None,
    yes: bool,
    dry_run: bool,
    lock_seconds: float,
    database_url: str,
    as_json: bool,
) -> None:
    """Protect a table: each row belongs to a user or an organization. OWNER says which, or both.

    A missing column user_id or organization_id is added, and Postgres fills the column when a signed-in user inserts.
    Existing rows have no owner until you set one. Safe to run twice. Asks before the rows of a table change owners.

    Rejects a table whose rows are visible in another way, such as a view that reads as its owner, and says what to do.
    Functions that mention the table are listed as comments behind the statements, for you to check.

    \b
    Examples:
      clerk-supabase secure public.tasks user
      clerk-supabase secure public.documents organization --dry-run
      clerk-supabase secure public.reports organization --feature org:reports
    """
    if profiles is not None:
        if table is not None:
            raise click.UsageError("--profiles is about users_public: give no TABLE")
        _show_profiles_to(profiles, database_url, dry_run=dry_run, as_json=as_json)
        return
    if table is None or owner is None:
        raise click.UsageError("give the TABLE and its owner: user, organization or user-or-organization")
    check_entitlement(plan, feature, from_mirror=from_mirror)
    _check_roles(owner, read_only=read_only, has_roles=bool(write_roles or delete_roles))
    with open_database(database_url) as connection:
        options: dict[str, object] = {
            "table": table,
            "owner": owner,
            "column": column,
            "organization_column": organization_column,
            "through": through,
            "write_roles": [] if read_only else list(write_roles) or None,
            "delete_roles": list(delete_roles) or None,
            "replace_policies": replace_policies,
            "plan": plan,
            "feature": feature,
            "from_mirror": from_mirror,
        }
        if through is not None:
            _check_through(connection, through)
        change = _change(connection, options)
        for doubt in doubts_about(connection, plan, feature, from_mirror=from_mirror):
            say(printable(f"warn: {doubt}"), err=True)
        _announce(change, table, may_ask=not (yes or dry_run), as_json=as_json)
        secured = in_turns(
            connection,
            database_url,
            lambda: _secure(connection, options),
            lock_seconds=lock_seconds,
            is_trial=dry_run,
            report=lambda words: say(words, err=True),
        )
    if as_json:
        _print_json(secured, owner, change, changed=not dry_run)
    else:
        _print(secured, changed=not dry_run)


def _check_roles(owner: Owner, *, read_only: bool, has_roles: bool) -> None:
    """Raises UsageError for options of roles that make no sense together."""
    if read_only and has_roles:
        raise click.UsageError("--read-only and roles that write contradict each other")
    if owner == "user" and (read_only or has_roles):
        raise click.UsageError("roles are of organizations: the rows of a user are written by that user")


def _show_profiles_to(audience: Audience, url: str, *, dry_run: bool, as_json: bool) -> None:
    """Sets who sees the profiles of others, and prints the setting before and after."""
    with open_database(url) as connection:
        try:
            before = connection.execute(_VISIBILITY).fetchone()
            if not dry_run:
                connection.execute(_SET_VISIBILITY, [audience])
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
            raise DatabaseFailed(_MIGRATE) from error
    was = before[0] if before else None
    if as_json:
        print_json({"profiles": audience, "was": was, "changed": not dry_run and was != audience})
        return
    say(f"select clerk_sync.set_profile_visibility('{audience}');", as_it_is=True)
    say(f"profiles {'would be' if dry_run else 'are'} visible to: {audience} (before: {was})", err=True)


def _check_through(connection: Connection, through: str) -> None:
    """Raises NotSecured, with what to type, for a table of --through that does not exist."""
    given = _THROUGH.fullmatch(through)
    if given is None:
        raise click.UsageError("--through is spelled 'public.users(id, clerk_user_id)'")
    named = {"table": given["table"]}
    with _explained(connection, named):
        connection.execute(_WHOLE_NAME, named)


def _announce(change: Change, table: str, *, may_ask: bool, as_json: bool) -> None:
    """Prints what a change means for the rows, and asks for a confirmation where rows may vanish for somebody.

    Raises NotSecured for output to a program, which cannot answer.
    """
    if words := change.words(table):
        say(printable(words), err=True)
    if not (may_ask and change.needs_consent()):
        return
    if as_json:
        raise NotSecured(f"nothing was changed: {printable(change.words(table))} Add --yes to confirm")
    click.confirm(f"Secure {printable(table)} all the same?", abort=True, err=True)


def _change(connection: Connection, options: Mapping[str, object]) -> Change:
    with _explained(connection, options), connection.transaction():
        [(was, becomes, rows_of_nobody, policies, asked, asks)] = connection.execute(_CHANGE, options).fetchall()
    return Change(was, becomes, rows_of_nobody, policies if options["replace_policies"] else [], asked, asks)


def _secure(connection: Connection, options: Mapping[str, object]) -> Secured:
    with _explained(connection, options), connection.transaction():
        statements = [statement for (statement,) in connection.execute(_SECURE, options)]
        findings = [Opening(*row) for row in connection.execute(_OPENINGS, options)]
        [(name,)] = connection.execute(_WHOLE_NAME, options).fetchall()
        return Secured(name, statements, findings)


@contextmanager
def _explained(connection: Connection, options: Mapping[str, object]) -> Iterator[None]:
    """Turns errors about the table into one line that says what to type."""
    try:
        yield
    except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue) as error:
        found = str(error.diag.message_primary)
        raise NotSecured(found.replace("call with replace_policies => true", "add --replace-policies")) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidName, psycopg.errors.InvalidSchemaName) as error:
        if _lacks_migrations(connection):
            raise DatabaseFailed(_MIGRATE) from error
        meant = connection.execute(_MEANT, options).fetchone()
        advice = advice_on_name(_missing(error, options)) if meant is None else f"type {shlex.quote(meant[0])}"
        raise NotSecured(f"{error.diag.message_primary}: {advice}") from error
    except psycopg.errors.UndefinedFunction as error:
        raise DatabaseFailed(_MIGRATE) from error


def _missing(error: psycopg.Error, options: Mapping[str, object]) -> str:
    """The name that Postgres did not find: of the table, or of another one in the options."""
    named = str(error.diag.message_primary).split('"')
    is_relation = isinstance(error, psycopg.errors.UndefinedTable) and len(named) > 1
    return named[1] if is_relation else str(options["table"])


def _lacks_migrations(connection: Connection) -> bool:
    [(schema,)] = connection.execute("select to_regnamespace('clerk_sync')").fetchall()
    return schema is None


def _print(secured: Secured, *, changed: bool) -> None:
    for statement in secured.statements:
        say(f"{printable(statement)};", as_it_is=True)
    for opening in secured.findings:
        say(f"-- {opening.verdict}: {printable(opening.found)}: {printable(opening.todo)}", as_it_is=True)
    if changed:
        say(f"{printable(secured.table)} is secured: {counted(len(secured.statements), 'statement')}", err=True)


def _print_json(secured: Secured, owner: Owner, change: Change, *, changed: bool) -> None:
    print_json(
        {
            "table": secured.table,
            "owner": owner,
            "was": change.was,
            "becomes": change.becomes,
            "rows_of_nobody": change.rows_of_nobody,
            "asks": change.asks,
            "changed": changed,
            "statements": secured.statements,
            "findings": secured.findings,
        }
    )
