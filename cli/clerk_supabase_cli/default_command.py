"""A group of commands that does something when none of them is named: `token TOKEN` beside `token mint`."""

from __future__ import annotations

from typing import Final

import click


class GroupWithDefault(click.Group):
    """Takes its arguments as those of one command unless they begin with the name of another."""

    default: Final = "verify"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Names the command that is meant."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)
