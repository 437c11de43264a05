"""The `clerk-supabase` command."""

from __future__ import annotations

import io
import itertools
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.version import VERSION
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.found_commands import FoundCommands
from clerk_supabase_cli.printing import printable, say
from clerk_supabase_cli.private_files import PROCESS_VARIABLE

_LIKE_A_CONNECTION_STRING: Final = re.compile(
    r"postgres\w*(\+\w+)?:|://.*@|\bpassword\W*[=:]", re.IGNORECASE | re.DOTALL
)
_DATABASE_OPTIONS: Final = ("--database-url", "--sync-database-url", "--session-database-url")


_SECTIONS: Final = {
    "Set up": "clerk_supabase_cli.commands.deploy",
    "Connect your app": "clerk_supabase_cli.commands.connect",
    "Operate": "clerk_supabase_cli.commands.operate",
    "Try and develop": "clerk_supabase_cli.commands.develop",
}
_ORDER: Final = (
    *("deploy", "setup", "migrate", "doctor", "destroy", "uninstall"),
    *("adopt", "secure", "secure-bucket", "publish", "expose", "types"),
    *("status", "console", "explain", "parked", "reconcile", "resync", "undo", "retention", "switch-instance"),
    *("export", "forget"),
    *("demo", "dev", "clerk", "event", "token", "simulate"),
)
"""The order of use in the help."""


class _Commands(FoundCommands):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rejects arguments that no error, of click's or of a command's, may repeat."""
        _reject_what_cannot_be_seen(args, ctx)
        _reject_misplaced_connection_strings(args, ctx)
        return super().parse_args(ctx, args)


def _reject_what_cannot_be_seen(arguments: Sequence[str], context: click.Context) -> None:
    """Raises UsageError for invisible characters, which nobody types, but a page may hide in a copied text."""
    for number, argument in enumerate(arguments, 1):
        if unseen := sorted({f"U+{ord(each):04X}" for each in argument if not each.isprintable()}):
            # Not quoted: the argument may be a secret.
            words = f"Argument {number} holds characters that cannot be seen: {', '.join(unseen)}"
            raise click.UsageError(words, context)


def _reject_misplaced_connection_strings(arguments: Sequence[str], context: click.Context) -> None:
    """Raises UsageError for a connection string in a wrong place."""
    for before, argument in itertools.pairwise(["", *arguments]):
        is_its_value = before in _DATABASE_OPTIONS or argument.partition("=")[0] in _DATABASE_OPTIONS
        if _LIKE_A_CONNECTION_STRING.search(argument) and not is_its_value:
            raise click.UsageError(
                f"A connection string is only taken by {_DATABASE_OPTIONS[0]}, or better from DATABASE_URL.", context
            )


@click.group(cls=_Commands, packages=_SECTIONS, order=_ORDER, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="%(prog)s %(version)s")
def commands() -> None:
    """Keep a Supabase Postgres true to Clerk.

    Most commands read DATABASE_URL, the owner's connection string, and CLERK_SUPABASE_STACK, the name of the stack.

    \b
    Examples:
      clerk-supabase deploy
      clerk-supabase status
      clerk-supabase explain user_2abc
    """


def main() -> None:
    """Runs the command; a failure with a known cause is shown as a line, not as a traceback."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        # An answer in another encoding is a wrong answer, and no fault of the command.
        sys.stdin.reconfigure(errors="backslashreplace")
    try:
        _run()
    except SystemExit as ended:
        if ended.code and PROCESS_VARIABLE in os.environ:
            # Loaded for such a shell only: most of it is of use to `dev` alone.
            from clerk_supabase_cli.local.dev.running import hint_about_variables  # noqa: PLC0415

            if hint := hint_about_variables():
                say(hint, err=True)
        raise


def _run() -> None:
    try:
        commands(prog_name="clerk-supabase")
    except Failure as error:
        # Only our own messages have several lines: messages that end with the last lines of a log.
        say(f"clerk-supabase: {error if error.has_lines else printable(str(error))}", err=True)
        sys.exit(1)
    except ClerkSupabaseError as error:
        say(f"clerk-supabase: {printable(str(error))}", err=True)
        sys.exit(1)
    except Exception:  # noqa: BLE001 - a mistake of ours, whose message may repeat foreign text
        say(traceback.format_exc(), err=True, as_it_is=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
