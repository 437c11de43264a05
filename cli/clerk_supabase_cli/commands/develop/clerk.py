"""`clerk-supabase clerk`: changes in the made-up Clerk instance of `dev`, with the webhooks that Clerk would send."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import click
import msgspec

from clerk_supabase_cli.local.dev.playing import RunningInstance
from clerk_supabase_cli.options import NumberRange, json_option, wide_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.project import private_place
from clerk_supabase_cli.terminal import Listing, Terminal

Command = TypeVar("Command", bound=Callable[..., Any])

_FATES: Final = {
    "lose": "lost, as you wished",
    "reorder": "held back until the next webhook has arrived, or half a minute",
    "delay": "delayed",
    "duplicate": "sent twice",
}
# With the usual margin, a lost delete is repaired by a second comparison, five minutes later.
_COMPARE: Final = "clerk-supabase reconcile --delete-margin 0"


def _faults(command: Command) -> Command:
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


def _percent(name: str, what: str) -> Callable[[Command], Command]:
    return click.option(
        f"--{name}", default=0.0, type=NumberRange(0, 100), metavar="PERCENT", help=f"Share of webhooks {what}."
    )


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


# Users


@clerk_command.group("user")
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
@_faults
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
    _do("create_user", arguments | _fields(first_name, last_name, fields), **how)


@user_group.command("update")
@click.argument("user_id", metavar="ID")
@_user_fields
@_faults
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
    _do("update_user", {"user_id": user_id} | changes, **how)


def _user_verb(name: str, operation: str, summary: str) -> None:
    @user_group.command(name, help=f"{summary}\n\n\b\nExample:\n  clerk-supabase clerk user {name} user_2abc")
    @click.argument("user_id", metavar="ID")
    @_faults
    def command(user_id: str, **how: Any) -> None:
        _do(operation, {"user_id": user_id}, **how)


_user_verb("ban", "ban_user", "Ban a user.")
_user_verb("unban", "unban_user", "Lift the ban of a user.")
_user_verb("lock", "lock_user", "Lock a user, as after too many wrong passwords.")
_user_verb("unlock", "unlock_user", "Unlock a user.")
_user_verb("sign-in", "sign_in", "Sign in a user: only times change.")
_user_verb("delete", "delete_user", "Delete a user with all memberships. The id is never used again.")


# Organizations


@clerk_command.group("organization")
def organization_group() -> None:
    """Organizations: create, rename, delete.

    \b
    Example:
      clerk-supabase clerk organization create Acme --by user_2abc
    """


@organization_group.command("create")
@click.argument("name")
@click.option("--id", "org_id", default="", help="Id of the organization, org_...; by default a new one.")
@click.option("--by", "created_by", default="", metavar="USER", help="Id of the user who becomes its admin.")
@_faults
def create_organization_command(name: str, org_id: str, created_by: str, **how: Any) -> None:
    """Create an organization.

    \b
    Example:
      clerk-supabase clerk organization create Acme --by user_2abc
    """
    _do("create_organization", {"name": name, "org_id": org_id, "created_by": created_by}, **how)


@organization_group.command("update")
@click.argument("org_id", metavar="ID")
@click.option("--name", required=True)
@_faults
def update_organization_command(org_id: str, name: str, **how: Any) -> None:
    """Rename an organization.

    \b
    Example:
      clerk-supabase clerk organization update org_2abc --name Acme
    """
    _do("update_organization", {"org_id": org_id, "name": name}, **how)


@organization_group.command("delete")
@click.argument("org_id", metavar="ID")
@_faults
def delete_organization_command(org_id: str, **how: Any) -> None:
    """Delete an organization, with all that belongs to it.

    \b
    Example:
      clerk-supabase clerk organization delete org_2abc --lose
    """
    _do("delete_organization", {"org_id": org_id}, **how)


# Plans and features


@clerk_command.command("entitle")
@click.argument("payer_id", metavar="ID")
@click.option("--plan", default="", metavar="SLUG", help="Plan of the user or the organization.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="SLUG",
    help="Feature that the plan must have; repeatable. Without --plan: the cheapest plan with these features.",
)
@_faults
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
    done = _do("entitle", {"payer_id": payer_id, "plan": plan, "features": ",".join(features)}, **how, says_next=False)
    if how["as_json"]:
        return
    given = done["object"]
    words = [f"{what} {_in_full(each)}" for what in ("plan", "feature") for each in given[f"{what}s"]]
    say(printable(f"  in the next tokens of an app: {', '.join(words)}"))
    _say_next(done)


def _in_full(question: str) -> str:
    """`org:team` for `o:team`, as `secure --plan` asks."""
    scope, _, slug = question.partition(":")
    return f"{'org' if scope == 'o' else 'user'}:{slug}"


@clerk_command.group("plan")
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
    say(_change(done))
    found = ", ".join(each["slug"] for each in done["object"]["features"])
    say(printable(f"  plan {payer_type}:{slug}, features: {found or 'none'}"))
    say("  no webhook: Clerk sends no event about a plan, and comparisons bring it")
    say("next: clerk-supabase reconcile")


# Memberships


@clerk_command.group("membership")
def membership_group() -> None:
    """Members: add, change, remove, invite, accept.

    \b
    Example:
      clerk-supabase clerk membership add org_2abc user_2abc --role org:admin
    """


@membership_group.command("add")
@click.argument("org_id", metavar="ORG")
@click.argument("user_id", metavar="USER")
@click.option("--role", default="org:member", show_default=True)
@_faults
def add_member_command(org_id: str, user_id: str, role: str, **how: Any) -> None:
    """Make a user a member of an organization.

    \b
    Example:
      clerk-supabase clerk membership add org_2abc user_2abc --role org:admin
    """
    _do("add_member", {"org_id": org_id, "user_id": user_id, "role": role}, **how)


@membership_group.command("change")
@click.argument("org_id", metavar="ORG")
@click.argument("user_id", metavar="USER")
@click.argument("role", metavar="ROLE")
@_faults
def change_role_command(org_id: str, user_id: str, role: str, **how: Any) -> None:
    """Give a member another role, such as org:admin.

    \b
    Example:
      clerk-supabase clerk membership change org_2abc user_2abc org:admin
    """
    _do("change_role", {"org_id": org_id, "user_id": user_id, "role": role}, **how)


@membership_group.command("remove")
@click.argument("org_id", metavar="ORG")
@click.argument("user_id", metavar="USER")
@_faults
def remove_member_command(org_id: str, user_id: str, **how: Any) -> None:
    """Remove a member from an organization.

    \b
    Example:
      clerk-supabase clerk membership remove org_2abc user_2abc
    """
    _do("remove_member", {"org_id": org_id, "user_id": user_id}, **how)


@membership_group.command("invite")
@click.argument("org_id", metavar="ORG")
@click.argument("email_address", metavar="EMAIL")
@click.option("--role", default="org:member", show_default=True)
@_faults
def invite_command(org_id: str, email_address: str, role: str, **how: Any) -> None:
    """Invite a person to an organization.

    \b
    Example:
      clerk-supabase clerk membership invite org_2abc ada@example.test
    """
    _do("invite", {"org_id": org_id, "email_address": email_address, "role": role}, **how)


@membership_group.command("accept")
@click.argument("invitation_id", metavar="INVITATION")
@click.argument("user_id", metavar="USER")
@_faults
def accept_command(invitation_id: str, user_id: str, **how: Any) -> None:
    """Accept an invitation, orginv_..., for a user, who becomes a member.

    \b
    Example:
      clerk-supabase clerk membership accept orginv_2abc user_2abc
    """
    _do("accept_invitation", {"invitation_id": invitation_id, "user_id": user_id}, **how)


# Random changes


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
                say(_change(done))
    if as_json:
        print_json({"changes": changes, "webhooks": {name: fates[name] for name in ("total", *_FATES)}})
        return
    share = ", ".join(f"{fates[name]} {said.partition(',')[0]}" for name, said in _FATES.items() if fates[name])
    say(f"{changes.total()} changes, {fates['total']} webhooks{f', of these {share}' if share else ''}")
    say(f"next: {_COMPARE}")


# Requests and output


def _do(
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
    say(_change(done))
    if how["api_lag"]:
        say(f"Clerk's API shows it in {how['api_lag']:g} s")
    if says_next:
        _say_next(done)
    return done


def _say_next(done: Mapping[str, Any]) -> None:
    is_lost = any(each["state"] == "lost" for each in done["webhooks"])
    say(f"next: {_COMPARE if is_lost else f'clerk-supabase explain {_subject(done)}'}")


def _change(done: Mapping[str, Any]) -> str:
    """`ban user: user_1`, and a line for each webhook."""
    lines = [f"{done['operation'].replace('_', ' ')}: {done['object']['id']}"]
    for each in done["webhooks"]:
        lines.append(f"  {each['type']} {each['svix_id']}")
        lines += [f"    {_FATES[fault]}" for fault in each["faults"]]
    return "\n".join(map(printable, lines))


def _subject(done: Mapping[str, Any]) -> str:
    """The id for `explain`."""
    found = done["object"]
    member = found.get("public_user_data") or {}
    return printable(str(member.get("user_id") or found.get("organization_id") or found["id"]))


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
