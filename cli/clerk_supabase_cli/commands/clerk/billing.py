"""`clerk-supabase clerk plan` and `entitle`: plans, their features, and the plan of a payer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from clerk_supabase_cli.commands.clerk.changes import Command, do, faulty, in_words, say_next
from clerk_supabase_cli.local.dev.playing import RunningInstance
from clerk_supabase_cli.options import json_option, wide_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.project import private_place
from clerk_supabase_cli.terminal import Listing, Terminal


@click.command("entitle")
@click.argument("payer_id", metavar="ID")
@click.option("--plan", default="", metavar="SLUG", help="Plan of the user or the organization.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="SLUG",
    help="Feature that the plan must have; repeatable. Without --plan: the cheapest plan with these features.",
)
@faulty
def entitle_command(payer_id: str, plan: str, features: tuple[str, ...], **how: Any) -> None:
    """Subscribe a user or an organization to a plan. The plan before ends; without --plan and --feature the payer
    returns to the free plan.

    The webhooks of Billing bring the plan into the mirror, and the next tokens of an app name the plan with
    its features.

    \b
    Examples:
      clerk-supabase clerk entitle org_2abc --plan team
      clerk-supabase clerk entitle org_2abc --feature reports
    """
    done = do("entitle", {"payer_id": payer_id, "plan": plan, "features": ",".join(features)}, **how, says_next=False)
    if how["as_json"]:
        return
    given = done["object"]
    words = [f"{what} {_in_full(each)}" for what in ("plan", "feature") for each in given[f"{what}s"]]
    say(printable(f"  in the next tokens of an app: {', '.join(words)}"))
    say_next(done)


def _in_full(question: str) -> str:
    """`org:team` for `o:team`, as `secure --plan` asks."""
    scope, _, slug = question.partition(":")
    return f"{'org' if scope == 'o' else 'user'}:{slug}"


@click.group("plan")
def plan_group() -> None:
    """Plans: list, create, change. Clerk sends no event about a plan.

    \b
    Examples:
      clerk-supabase clerk plan list
      clerk-supabase clerk plan create gold --for org --feature sso
    """


@plan_group.command("list")
@wide_option
@json_option
def list_plans_command(*, wide: bool, as_json: bool) -> None:
    """List the plans with their features.

    \b
    Example:
      clerk-supabase clerk plan list
    """
    with RunningInstance.of(private_place()) as instance:
        found = instance.do("list_plans")["objects"]
    if as_json:
        print_json(found)
        return
    listed = Listing("plan", "features", "a month", "id")
    for each in found:
        features = ", ".join(feature["slug"] for feature in each["features"])
        listed.add_row(
            f"{each['for_payer_type']}:{each['slug']}", features, each["fee"]["amount_formatted"], each["id"]
        )
    Terminal(wide=wide).show(listed)


def _plan_options(command: Command) -> Command:
    for option in (
        click.option("--feature", "features", multiple=True, metavar="SLUG", help="Feature of the plan; repeatable."),
        click.option("--for", "payer_type", type=click.Choice(["user", "org"]), required=True, help="Who can have it."),
        click.argument("slug", metavar="SLUG"),
        json_option,
    ):
        command = option(command)
    return command


@plan_group.command("create")
@click.option("--amount", default=1_000, show_default=True, type=click.IntRange(1, 10**8), help="Cents a month.")
@_plan_options
def create_plan_command(slug: str, payer_type: str, features: tuple[str, ...], amount: int, *, as_json: bool) -> None:
    """Make a plan for users or for organizations.

    \b
    Example:
      clerk-supabase clerk plan create gold --for org --feature sso
    """
    _plan_done("create_plan", slug, payer_type, features, as_json=as_json, amount=str(amount))


@plan_group.command("update")
@_plan_options
def update_plan_command(slug: str, payer_type: str, features: tuple[str, ...], *, as_json: bool) -> None:
    """Give a plan these features instead of the former ones.

    \b
    Example:
      clerk-supabase clerk plan update team --for org --feature sso
    """
    _plan_done("update_plan", slug, payer_type, features, as_json=as_json)


def _plan_done(
    operation: str, slug: str, payer_type: str, features: Iterable[str], *, as_json: bool, **more: str
) -> None:
    arguments = {"slug": slug, "payer_type": payer_type, "features": ",".join(features)} | more
    with RunningInstance.of(private_place()) as instance:
        done = instance.do(operation, arguments)
    if as_json:
        print_json(done)
        return
    say(in_words(done))
    found = ", ".join(each["slug"] for each in done["object"]["features"])
    say(printable(f"  plan {payer_type}:{slug}, features: {found or 'none'}"))
    say("  no webhook: Clerk sends no event about a plan, and comparisons bring it")
    say("next: clerk-supabase reconcile")
