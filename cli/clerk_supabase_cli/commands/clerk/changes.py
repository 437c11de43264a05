"""A change of the made-up Clerk instance for the commands below `clerk`: its faults, its request and its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from clerk_supabase_cli.local.dev.playing import RunningInstance
from clerk_supabase_cli.options import NumberRange, json_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.project import private_place

Command = TypeVar("Command", bound=Callable[..., Any])

FATES: Final = {
    "lose": "lost, as you wished",
    "reorder": "held back until the next webhook has arrived, or half a minute",
    "delay": "delayed",
    "duplicate": "sent twice",
}
# With the usual margin, a lost delete is repaired by a second comparison, five minutes later.
COMPARE: Final = "clerk-supabase reconcile --delete-margin 0"


def faulty(command: Command) -> Command:
    """Adds the faults of one operation."""
    for option in (
        click.option("--api-lag", default=0.0, type=NumberRange(0, 3600), help="Seconds until the API shows it."),
        click.option("--delay", default=0.0, type=NumberRange(0, 3600), help="Seconds until the webhook is sent."),
        click.option("--reorder", is_flag=True, help="Send the webhook after the next one."),
        click.option("--duplicate", is_flag=True, help="Send the webhook twice."),
        click.option("--lose", is_flag=True, help="Never send the webhook."),
        json_option,
    ):
        command = option(command)
    return command


def do(
    operation: str, arguments: Mapping[str, Any], *, as_json: bool, says_next: bool = True, **how: Any
) -> dict[str, Any]:
    """Does an operation with the faults of the options, and prints the change, the webhooks, and a next step.

    Returns the answer of the instance.
    """
    faults = {name: float(how[name]) for name in ("lose", "duplicate", "reorder", "delay")}
    with RunningInstance.of(private_place()) as instance:
        done = instance.do(operation, arguments, faults=faults, api_lag=how["api_lag"])
    if as_json:
        print_json(done)
        return done
    say(in_words(done))
    if how["api_lag"]:
        say(f"Clerk's API shows it in {how['api_lag']:g} s")
    if says_next:
        say_next(done)
    return done


def say_next(done: Mapping[str, Any]) -> None:
    """Prints the command that shows the change in the tables, or repairs a lost one."""
    is_lost = any(each["state"] == "lost" for each in done["webhooks"])
    say(f"next: {COMPARE if is_lost else f'clerk-supabase explain {_subject(done)}'}")


def in_words(done: Mapping[str, Any]) -> str:
    """`ban user: user_1`, and a line for each webhook, or for the reason why there is none."""
    lines = [f"{done['operation'].replace('_', ' ')}: {done['object']['id']}"]
    for each in done["webhooks"]:
        lines.append(f"  {each['type']} {each['svix_id']}")
        lines += [f"    {FATES[fault]}" for fault in each["faults"]]
    if done["operation"] == "entitle" and not done["webhooks"]:
        lines.append("  no webhook: the plan stays the same")
    return "\n".join(map(printable, lines))


def _subject(done: Mapping[str, Any]) -> str:
    """The id for `explain`."""
    found = done["object"]
    member = found.get("public_user_data") or {}
    return printable(str(member.get("user_id") or found.get("organization_id") or found["id"]))
