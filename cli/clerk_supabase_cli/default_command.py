"""A group of commands with a default: `token TOKEN` beside `token mint`."""

from __future__ import annotations

from typing import Final

import click


class GroupWithDefault(click.Group):
    """A group that passes its arguments to the default command, unless the first names a command."""

    default: Final = "verify"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Adds the name of the default command if no command is named."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)
