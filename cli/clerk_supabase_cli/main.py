"""The `clerk-supabase` command."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import click

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.printing import printable, say

_COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "demo": "demo_command:demo_command",
        "dev": "dev_command:dev_command",
        "doctor": "doctor.command:doctor_command",
        "event": "event_command:event_command",
        "explain": "explain_command:explain_command",
        "export": "export_command:export_command",
        "forget": "forget_command:forget_command",
        "migrate": "migrate_command:migrate_command",
        "parked": "parked_commands:parked_commands",
        "reconcile": "reconcile_commands:reconcile_commands",
        "resync": "reconcile_commands:resync_command",
        "retention": "retention_command:retention_command",
        "secure": "secure_command:secure_command",
        "setup": "setup_command:setup_command",
        "simulate": "simulate_command:simulate_command",
        "status": "status_command:status_command",
        "token": "token_commands:token_commands",
        "undo": "reconcile_commands:undo_command",
    }
)
"""Where each is, within this package."""


_LIKE_A_CONNECTION_STRING: Final = re.compile(
    r"postgres\w*(\+\w+)?:|://.*@|\bpassword\W*[=:]", re.IGNORECASE | re.DOTALL
)
_DATABASE_OPTIONS: Final = ("--database-url", "--sync-database-url", "--session-database-url")


class _Commands(click.Group):
    """Loads a command on demand: the load of all commands takes longer than most commands work."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuses arguments that must not be repeated in an error of click's or of a command's."""
        _refuse_what_cannot_be_seen(args, ctx)
        _refuse_misplaced_connection_strings(args, ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click hands it over
        """All there are, by name."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click hands it over
        """The command, or None for an unknown name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"clerk_supabase_cli.{module}"), name)
        return command


def _refuse_what_cannot_be_seen(arguments: Sequence[str], context: click.Context) -> None:
    """Raises UsageError for invisible characters, which nobody types, but a page may hide in a copied text."""
    for number, argument in enumerate(arguments, 1):
        if unseen := sorted({f"U+{ord(each):04X}" for each in argument if not each.isprintable()}):
            # Not quoted: the argument may be a secret.
            words = f"Argument {number} holds characters that cannot be seen: {', '.join(unseen)}"
            raise click.UsageError(words, context)


def _refuse_misplaced_connection_strings(arguments: Sequence[str], context: click.Context) -> None:
    """Raises UsageError for a connection string in a wrong place."""
    for before, argument in itertools.pairwise(["", *arguments]):
        is_its_value = before in _DATABASE_OPTIONS or argument.partition("=")[0] in _DATABASE_OPTIONS
        if _LIKE_A_CONNECTION_STRING.search(argument) and not is_its_value:
            raise click.UsageError(
                f"A connection string is only taken by {_DATABASE_OPTIONS[0]}, or better from DATABASE_URL.", context
            )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Keeps a Supabase Postgres true to Clerk: developer's and operator's commands."""


def main() -> None:
    """Runs the command; a failure with a known cause is one line, not a traceback."""
    try:
        commands(prog_name="clerk-supabase")
    except Failure as error:
        # Only our own messages have several lines: messages that end with the last lines of a log.
        say(f"clerk-supabase: {error if error.has_lines else printable(str(error))}", err=True)
        sys.exit(1)
    except ClerkSupabaseError as error:
        say(f"clerk-supabase: {printable(str(error))}", err=True)
        sys.exit(1)
    except Exception:  # noqa: BLE001 - a mistake of ours, whose message may repeat what others wrote
        say(traceback.format_exc(), err=True)
        sys.exit(1)
