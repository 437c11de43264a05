"""`clerk-supabase adopt supabase-auth inspect`: users, tables and callers of Supabase Auth, counted."""

from __future__ import annotations

from collections.abc import Iterable

import click

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import see_all_rows
from clerk_supabase_cli.adopt.supabase_auth.callers import Caller, callers
from clerk_supabase_cli.adopt.supabase_auth.census import Census, census
from clerk_supabase_cli.adopt.supabase_auth.remaining import remaining
from clerk_supabase_cli.adopt.supabase_auth.user_columns import Held, held
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import print_json, printable, say


@click.command("inspect")
@database_url_option
@json_option
def inspect_command(*, database_url: str, as_json: bool) -> None:
    """Print how users sign in, which columns hold their uuids, and what calls auth.uid(). Reads only.

    \b
    Example:
      clerk-supabase adopt supabase-auth inspect
    """
    with open_database(database_url) as connection, connection.transaction():
        connection.execute("set transaction read only")
        see_all_rows(connection)
        users = census(connection)
        columns = held(connection)
        found = callers(connection)
        left = remaining(connection)
    if as_json:
        print_json(
            {
                "users": users,
                "columns": columns,
                "callers": found.callers,
                "triggers": found.triggers,
                "realtime": found.realtime,
                "todo": left,
            }
        )
        return
    _print("Users", _of_users(users))
    _print("Columns with uuids of users", (_of_column(each) for each in columns))
    _print("Calls of Supabase Auth", (_of_caller(each) for each in found.callers))
    say("To do, besides the columns above, their policies, defaults and views, which `move` changes")
    for each in left:
        say(f"  {printable(each.what)}: {each.todo}")
    for table in found.realtime:
        say(
            printable(
                f"warning: {table} is published to Realtime, and a policy of it calls auth.uid(): a single subscriber "
                "with Clerk's token breaks the batch of everybody; take the table out of the publication until it is "
                f"moved: alter publication supabase_realtime drop table {table}"
            ),
            err=True,
        )


def _print(title: str, lines: Iterable[str]) -> None:
    say(title)
    for line in [*lines] or ["none"]:
        say(f"  {printable(line)}")
    say()


def _of_users(users: Census) -> Iterable[str]:
    yield f"{users.users} users"
    for what, number in users.passwords.items():
        yield f"{number} with a password, hashed by {what}"
    for provider, number in users.providers.items():
        yield f"{number} with an identity of {provider}"
    for factor, number in users.second_factors.items():
        yield f"{number} with a second factor ({factor}), which they enroll again in Clerk"
    for number, what in (
        (users.phone, "with a confirmed phone number"),
        (users.sso, "of single sign-on: set up the connection in Clerk first"),
        (users.anonymous, "anonymous: not exported"),
        (users.banned, "banned: banned in Clerk, too"),
        (users.deleted, "deleted: not exported"),
        (users.unconfirmed, "without a confirmed address or number: not exported"),
        (users.shared_address, "whose confirmed address is that of another user, too: not exported with it"),
        (
            users.confirmed_without_mail,
            "whose address is confirmed although no mail was ever sent: did the project confirm addresses by itself?",
        ),
    ):
        if number:
            yield f"{number} {what}"


def _of_column(column: Held) -> str:
    if column.found_by == "move":
        return f"{column.column}: the uuids that `move` has kept; drop the column weeks later"
    how = f"by {column.found_by}"
    if column.sampled:
        how += f", {column.matching} of {column.sampled} sampled; move it with --column {column.column}"
    on_delete = f", on delete {column.on_delete}" if column.on_delete else ""
    filled = f"about {column.rows} rows" if column.filled is None else f"{column.filled} of {column.rows} rows"
    return f"{column.column} ({how}{on_delete}): {filled}"


def _of_caller(caller: Caller) -> str:
    where = f" on {caller.table}" if caller.table and caller.kind in ("policy", "trigger", "default") else ""
    through = f" through {', '.join(caller.through)}" if caller.through else ""
    return f"{caller.kind} {caller.name}{where}: {', '.join(caller.calls)}{through}" + (
        " - fails with Clerk's token" if caller.fails else ""
    )
