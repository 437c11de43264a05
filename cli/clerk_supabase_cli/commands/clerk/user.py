"""`clerk-supabase clerk user`: the users of the made-up Clerk instance."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from clerk_supabase_cli.commands.clerk.changes import Command, do, faulty


@click.group("user")
def user_group() -> None:
    """Users: sign up, sign in, change, ban, delete.

    \b
    Examples:
      clerk-supabase clerk user create --first-name Ada
      clerk-supabase clerk user ban user_2abc
    """


_names = (
    click.option("--last-name"),
    click.option("--first-name"),
    click.option(
        "--set",
        "fields",
        multiple=True,
        metavar="FIELD=JSON",
        help="""Any other field of Clerk's user, such as --set 'public_metadata={"plan": "pro"}'; repeatable.""",
    ),
)


def _user_fields(command: Command) -> Command:
    for option in _names:
        command = option(command)
    return command


@user_group.command("create")
@click.option("--id", "user_id", default="", help="Id of the user, user_...; by default a new one.")
@click.option("--email", "email_address", default="", help="Address of the user; by default none.")
@_user_fields
@faulty
def create_user_command(
    user_id: str,
    email_address: str,
    first_name: str | None,
    last_name: str | None,
    fields: tuple[str, ...],
    **how: Any,
) -> None:
    """Sign up a user.

    \b
    Example:
      clerk-supabase clerk user create --email ada@example.test --first-name Ada
    """
    arguments = {"user_id": user_id, "email_address": email_address}
    do("create_user", arguments | _fields(first_name, last_name, fields), **how)


@user_group.command("update")
@click.argument("user_id", metavar="ID")
@_user_fields
@faulty
def update_user_command(
    user_id: str, first_name: str | None, last_name: str | None, fields: tuple[str, ...], **how: Any
) -> None:
    """Change fields of a user.

    \b
    Example:
      clerk-supabase clerk user update user_2abc --first-name Ada
    """
    changes = _fields(first_name, last_name, fields)
    if not changes:
        raise click.UsageError("Say what changes: --first-name, --last-name or --set.")
    do("update_user", {"user_id": user_id} | changes, **how)


def _user_verb(name: str, operation: str, summary: str) -> None:
    @user_group.command(name, help=f"{summary}\n\n\b\nExample:\n  clerk-supabase clerk user {name} user_2abc")
    @click.argument("user_id", metavar="ID")
    @faulty
    def command(user_id: str, **how: Any) -> None:
        do(operation, {"user_id": user_id}, **how)


_user_verb("ban", "ban_user", "Ban a user.")
_user_verb("unban", "unban_user", "Lift the ban of a user.")
_user_verb("lock", "lock_user", "Lock a user, as after too many wrong passwords.")
_user_verb("unlock", "unlock_user", "Unlock a user.")
_user_verb("sign-in", "sign_in", "Sign in a user: only times change.")
_user_verb("delete", "delete_user", "Delete a user with all memberships. The id is never used again.")


def _fields(first_name: str | None, last_name: str | None, fields: tuple[str, ...]) -> dict[str, Any]:
    """The given fields of a user. Raises UsageError."""
    given: dict[str, Any] = {"first_name": first_name, "last_name": last_name}
    found = {name: value for name, value in given.items() if value is not None}
    for field in fields:
        name, sign, value = field.partition("=")
        if not (name and sign):
            raise click.UsageError(f"--set {field}: write FIELD=JSON, such as --set 'username=\"ada\"'.")
        try:
            # Stricter than Python's decoder, as the stand-in is: no NaN.
            found[name] = msgspec.json.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise click.UsageError(f'--set {name}=... needs JSON after the sign, such as true or "text".') from None
    return found
