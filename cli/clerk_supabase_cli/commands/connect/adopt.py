"""`clerk-supabase adopt`: the way in for an app with users and tables of its own, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from clerk_supabase_cli.commands.adopt.supabase_auth import supabase_auth_command
from clerk_supabase_cli.found_commands import FoundCommands

_OPTION: Final = "--from"
_SOURCE: Final = "supabase-auth"
_STEPS: Final[Mapping[str, str]] = {"inspect": "inspect", "export": "export", "link": "link", "switch": "move"}
"""Steps with `--from supabase-auth`, and the commands of `adopt supabase-auth` that they stand for."""
_ORDER: Final = ("inspect", "compare", "link", "switch", "undo", "supabase-auth")


class _Steps(FoundCommands):
    """The steps, and `STEP --from supabase-auth` for steps of `supabase-auth`, which have options of their own."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        step, *rest = args
        sources = _taken(rest)
        if not sources:
            return super().resolve_command(ctx, args)
        if sources != [_SOURCE]:
            raise click.BadParameter(f"the only possible source is {_SOURCE}", ctx, param_hint=_OPTION)
        if step not in _STEPS:
            raise click.UsageError(f"{_OPTION} {_SOURCE} belongs to one of: {', '.join(_STEPS)}", ctx)
        return step, supabase_auth_command.get_command(ctx, _STEPS[step]), rest


def _taken(words: list[str]) -> list[str]:
    """Takes `--from SOURCE` and `--from=SOURCE` out of the words before `--`, and returns the sources."""
    end = words.index("--") if "--" in words else len(words)
    sources: list[str] = []
    for position in reversed(range(end)):
        option, has_value, source = words[position].partition("=")
        if option == _OPTION:
            sources.append(source if has_value else "".join(words[position + 1 : position + 2]))
            del words[position : position + (1 if has_value else 2)]
    return sources


@click.group("adopt", cls=_Steps, packages={"Steps": "clerk_supabase_cli.commands.adopt"}, order=_ORDER)
def adopt_command() -> None:
    """Connect tables of an app that exists with the mirror. The steps are inspect, compare, link, switch and undo.

    An app with users in Supabase Auth: `inspect`, `export FOLDER`, `link` and `switch`, each with `--from
    supabase-auth`, are other spellings of `supabase-auth inspect`, `export`, `link` and `move`, with the options of
    these commands. Add --help to see them.

    \b
    Examples:
      clerk-supabase adopt inspect
      clerk-supabase adopt switch --write
    """
