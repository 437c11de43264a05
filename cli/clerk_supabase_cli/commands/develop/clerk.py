"""`clerk-supabase clerk`: changes in the made-up Clerk instance of `dev`, with the webhooks that Clerk would send."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import click

from clerk_supabase_cli.commands.clerk.billing import entitle_command, plan_group
from clerk_supabase_cli.commands.clerk.changes import COMPARE, FATES, Command, in_words
from clerk_supabase_cli.commands.clerk.membership import membership_group
from clerk_supabase_cli.commands.clerk.organization import organization_group
from clerk_supabase_cli.commands.clerk.user import user_group
from clerk_supabase_cli.local.dev.playing import RunningInstance
from clerk_supabase_cli.options import NumberRange, json_option, wide_option
from clerk_supabase_cli.printing import counted, print_json, say
from clerk_supabase_cli.project import private_place
from clerk_supabase_cli.terminal import Listing, Terminal

_PARTS: Final = (user_group, organization_group, membership_group, plan_group, entitle_command)


@click.group("clerk")
def clerk_command() -> None:
    """Change the made-up Clerk instance of a running `dev`, once or at random for a while.

    Each change is in the Backend API at once, and its webhooks are signed, delivered and sent again as Svix does. The
    faults --lose, --duplicate, --reorder, --delay and --api-lag show what this project protects from.

    \b
    Examples:
      clerk-supabase clerk list
      clerk-supabase clerk user create --email ada@example.test
      clerk-supabase clerk play --rate 5 --seconds 20 --lose 10
    """


for _part in _PARTS:
    clerk_command.add_command(_part)


@clerk_command.command("list")
@wide_option
@json_option
def list_command(*, wide: bool, as_json: bool) -> None:
    """List the users and organizations of the instance.

    \b
    Example:
      clerk-supabase clerk list --json
    """
    with RunningInstance.of(private_place()) as instance:
        found = instance.do("list")["objects"]
    if as_json:
        print_json(found)
        return
    Terminal(wide=wide).show(objects_list(found))


def objects_list(found: Iterable[Mapping[str, Any]]) -> Listing:
    """A list with a row for each user and organization of the instance."""
    listed = Listing("id", "name", "email", "state")
    for each in found:
        listed.add_row(each["id"], each["name"], each["email"] or "", "banned" if each["banned"] else "")
    return listed


def _percent(name: str, what: str) -> Callable[[Command], Command]:
    return click.option(
        f"--{name}", default=0.0, type=NumberRange(0, 100), metavar="PERCENT", help=f"Share of webhooks {what}."
    )


@clerk_command.command("play")
@click.option("--rate", default=2.0, show_default=True, type=NumberRange(0.01, 100), help="Changes per second.")
@click.option("--seconds", default=10.0, show_default=True, type=NumberRange(0, 86_400), help="Length of the play.")
@_percent("lose", "never sent")
@_percent("duplicate", "sent twice")
@_percent("reorder", "sent after the next one")
@click.option("--delay", default=0.0, type=NumberRange(0, 3600), help="Seconds until each webhook is sent.")
@click.option("--api-lag", default=0.0, type=NumberRange(0, 3600), help="Seconds until the API shows a change.")
@json_option
def play_command(  # noqa: PLR0917 - click passes them by name
    rate: float,
    seconds: float,
    lose: float,
    duplicate: float,
    reorder: float,
    delay: float,
    api_lag: float,
    as_json: bool,
) -> None:
    """Change people and organizations at random. They sign up, change, join, leave, subscribe, are banned or
    deleted; Ctrl-C ends the play.

    \b
    Example:
      clerk-supabase clerk play --rate 5 --seconds 20 --lose 10 --duplicate 10
    """
    faults = {"lose": lose / 100, "duplicate": duplicate / 100, "reorder": reorder / 100, "delay": delay}
    changes, fates = Counter[str](), Counter[str]()
    began = time.monotonic()
    with RunningInstance.of(private_place()) as instance, suppress(KeyboardInterrupt):
        for number in range(round(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            done = instance.do("play", faults=faults, api_lag=api_lag)
            changes[done["operation"]] += 1
            fates["total"] += len(done["webhooks"])
            fates.update(fault for each in done["webhooks"] for fault in each["faults"])
            if not as_json:
                say(in_words(done))
    if as_json:
        print_json({"changes": changes, "webhooks": {name: fates[name] for name in ("total", *FATES)}})
        return
    share = ", ".join(f"{fates[name]} {said.partition(',')[0]}" for name, said in FATES.items() if fates[name])
    what = f"{counted(changes.total(), 'change')}, {counted(fates['total'], 'webhook')}"
    say(f"{what}, of these {share}" if share else what)
    say(f"next: {COMPARE}")
