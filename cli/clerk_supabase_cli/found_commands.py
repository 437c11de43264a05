"""Commands found by the names of their files: a new command is a new file, and no list names it."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

import click


class FoundCommands(click.Group):
    """A group of the commands in the files of one or more packages.

    The file `<name>.py` holds the command `<name>`, as `<name>_command`; an underscore in the name of the file is a
    hyphen in the command. A command is loaded on demand: to load all commands takes longer than the work of most
    commands.
    """

    def __init__(self, *args: Any, packages: Mapping[str, str], order: Sequence[str] = (), **options: Any) -> None:
        """`packages`: by the title of a section of the help, the name of the package with the section's commands.

        `order`: the order of use; commands that `order` does not name come last.
        """
        super().__init__(*args, **options)
        self._packages = packages
        self._order = {name: place for place, name in enumerate(order)}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click hands it over
        """The names of all commands, equal to the names of their files."""
        return [name for package in self._packages.values() for name in self._ordered(package)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, or None for an unknown name."""
        file = cmd_name.replace("-", "_")
        for package in self._packages.values():
            if cmd_name in _names(package):
                command: click.Command = getattr(importlib.import_module(f"{package}.{file}"), f"{file}_command")
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The named command. Raises UsageError for an unknown name, and names the commands that are spelled like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click looks for such names only among commands that are loaded.
            if near := difflib.get_close_matches(args[0], self.list_commands(ctx)):
                advice = f"Did you mean {' or '.join(map(repr, near))}?"
                raise click.UsageError(f"{error.message} {advice}", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands with their one-line help, section by section."""
        column = max(map(len, self.list_commands(ctx)))
        for title, package in self._packages.items():
            found = {name: self.get_command(ctx, name) for name in self._ordered(package)}
            # Never cut: what is too long for a line goes on in the next.
            lines = [
                (name.ljust(column), command.get_short_help_str(1000)) for name, command in found.items() if command
            ]
            with formatter.section(title):
                formatter.write_dl(lines)

    def _ordered(self, package: str) -> list[str]:
        return sorted(_names(package), key=lambda name: (self._order.get(name, len(self._order)), name))


def _names(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(path) if not module.ispkg]
