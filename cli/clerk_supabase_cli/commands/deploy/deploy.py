"""`clerk-supabase deploy`: makes or updates the stack, from a few answers or a file to a green doctor."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase_cli.commands.deploy.doctor import doctor_command
from clerk_supabase_cli.commands.deploy.migrate import migrate_command
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.deployment.account import Account, default_region, in_region
from clerk_supabase_cli.operate.deployment.build.layer import check_architecture
from clerk_supabase_cli.operate.deployment.build.programs import Programs
from clerk_supabase_cli.operate.deployment.build.sam import Sam
from clerk_supabase_cli.operate.deployment.build.source import source_of
from clerk_supabase_cli.operate.deployment.first_settings import asked_for, settings_of_stack
from clerk_supabase_cli.operate.deployment.logins import NEW_PASSWORDS, has_roles, obstacle_for_functions
from clerk_supabase_cli.operate.deployment.parameters import Declared, declared, differences_from_defaults
from clerk_supabase_cli.operate.deployment.plan import Plan
from clerk_supabase_cli.operate.deployment.questions import NAME, OWNER, Answers, Question
from clerk_supabase_cli.operate.deployment.stack import Stack, settled
from clerk_supabase_cli.operate.deployment.stack_file import FILE, Settings, edit, name_problem, read, write
from clerk_supabase_cli.operate.deployment.values import empty_secrets, fill, needs_the_owner, owner_url_of
from clerk_supabase_cli.operate.deployment.way import make_way
from clerk_supabase_cli.operate.setup.management_http import ACCESS_TOKEN
from clerk_supabase_cli.operate.setup.manual_steps import at_clerk, at_supabase
from clerk_supabase_cli.operate.setup.setup_checks import FAILED, Instance, discovery, keys, obstacle_to_register
from clerk_supabase_cli.operate.setup.supabase_settings import Access, set_up, shown
from clerk_supabase_cli.options import management_api_option
from clerk_supabase_cli.printing import how_long, printable, say
from clerk_supabase_cli.project import certificates, find_root, workplace

_GRADUAL = "GradualDeployment"


class NotDeployed(Failure):
    """Nothing was deployed, for the reason in the message."""


class _Assignment(click.ParamType[tuple[str, str]]):
    """A parameter of the template with its value."""

    name = "NAME=VALUE"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The name and the value."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\w+)=(.*)", value)
        if found is None:
            self.fail("a parameter is written as NAME=VALUE, such as AlarmEmail=ops@example.com", param, ctx)
        return found[1], found[2]


@dataclass(frozen=True, slots=True)
class _Wishes:
    """The options of the command."""

    file: Path
    stack_name: str
    region: str
    parameters: Mapping[str, str]
    migrates: bool
    yes: bool
    new_role_passwords: bool


@click.command("deploy")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The settings of the stack; written by the first deployment.  [default: {FILE}]",
)
@click.option(
    "--stack-name", envvar="CLERK_SUPABASE_STACK", default="", help="Name of the stack.  [env: CLERK_SUPABASE_STACK]"
)
@click.option("--region", default="", help="AWS region.  [default: the region of the file, or of AWS's configuration]")
@click.option(
    "--parameter",
    "parameters",
    type=_Assignment(),
    multiple=True,
    help="A parameter of template.yaml, such as AlarmEmail=ops@example.com, to be kept in the file; repeatable.",
)
@click.option("--migrate", "migrates", is_flag=True, help="First apply the missing migrations, with DATABASE_URL.")
@click.option(
    "--at-once",
    is_flag=True,
    help="Deploy all at once in spite of GradualDeployment: the way of a fix through an alarm that rings.",
)
@click.option("--yes", is_flag=True, help="Do not ask before values of the stack change.")
@click.option("--dry-run", is_flag=True, help="Check the requirements, show what would change, and change nothing.")
@click.option(
    NEW_PASSWORDS, is_flag=True, help="Replace the passwords of the functions' roles even if they are in use."
)
@management_api_option
@click.pass_context
def deploy_command(
    context: click.Context,
    *,
    file: Path | None,
    stack_name: str,
    region: str,
    parameters: tuple[tuple[str, str], ...],
    migrates: bool,
    at_once: bool,
    yes: bool,
    dry_run: bool,
    new_role_passwords: bool,
    management_api_url: str,
) -> None:
    """Deploy or update the stack, and end with the doctor. Before come checks, migrations, the build and the secrets.

    The first deployment asks at most five questions, and writes the answers that are no secrets into stack.toml,
    which git ignores. Later deployments read this file: edit a value, or give the value with --parameter, and the
    command shows each value that would change. Run again without an edit, the command changes nothing. An interrupted
    deployment goes on.

    Without a terminal, and instead of a question: CLERK_SUPABASE_STACK, CLERK_PUBLISHABLE_KEY, CLERK_SECRET_KEY,
    CLERK_WEBHOOK_SIGNING_SECRET, DATABASE_URL (of the owner, for --migrate and the logins of the functions), or
    SYNC_DATABASE_URL and SESSION_DATABASE_URL for logins of your own. With SUPABASE_ACCESS_TOKEN, the command makes
    the settings at Supabase, as `setup` does.

    Exit status 0: deployed, and no check of the doctor failed.

    \b
    Examples:
      clerk-supabase deploy
      clerk-supabase deploy --parameter AlarmEmail=ops@example.com
      clerk-supabase deploy --at-once
      clerk-supabase deploy --file stack-dev.toml --migrate --yes
    """
    root = find_root()
    file = file or workplace(root) / FILE
    wishes = _Wishes(file, stack_name, region, dict(parameters), migrates, yes, new_role_passwords)
    found = read(wishes.file)
    _check(wishes, found)
    programs, known = Programs.found(root), declared(root)
    answers = Answers(_ask if sys.stdin.isatty() else None)
    with in_region(region or (found.region if found else "") or default_region()):
        plan = _planned(wishes, found, answers, root, known)
        if dry_run:
            return
        _confirm(plan, wishes)
        owner_url = _owner(plan, answers, wishes)
        if found is None:
            write(wishes.file, plan.settings)
            say(f"wrote {printable(str(wishes.file))}")
        elif wishes.parameters:
            edit(wishes.file, wishes.parameters)
            say(f"edited {printable(str(wishes.file))}")
        if owner_url and (migrates or OWNER in answers.asked):
            context.invoke(migrate_command, database_url=owner_url)
        plan, has_changed = _deployed(
            plan, Sam(source_of(root), programs, plan.wanted["Architecture"]), at_once=at_once
        )
        _fill(plan, answers, owner_url, wishes, has_changed=has_changed)
        for line in _at_supabase(plan, owner_url or os.environ.get("DATABASE_URL", ""), management_api_url):
            say(printable(line))
        say()
        context.invoke(
            doctor_command,
            stack_name=plan.settings.name,
            database_url=owner_url or os.environ.get("DATABASE_URL", ""),
            # A stack with POST /session knows its key, and the issuers instead of the issuer in the key.
            publishable_key="" if plan.has_session else os.environ.get("CLERK_PUBLISHABLE_KEY", ""),
            supabase_url=os.environ.get("SUPABASE_URL", ""),
            management_api_url=management_api_url,
        )


def _check(wishes: _Wishes, found: Settings | None) -> None:
    """Raises UsageError for options that contradict the file."""
    if found and wishes.region not in ("", found.region):
        raise click.UsageError(f"{wishes.file} is of a stack in {found.region or 'any region'}: edit the file")
    if found and wishes.stack_name not in ("", found.name):
        raise click.UsageError(
            f"{wishes.file} is of the stack {found.name}, and {wishes.stack_name} was named: name its file with --file"
        )
    if problem := name_problem(wishes.stack_name) if wishes.stack_name else "":
        raise click.UsageError(f"the name of the stack {problem}")


def _planned(
    wishes: _Wishes, found: Settings | None, answers: Answers, root: Path, known: Mapping[str, Declared]
) -> Plan:
    """The plan, shown. Raises NotDeployed if something is in the way."""
    account = Account.of_this_shell()
    name = found.name if found else wishes.stack_name or answers(NAME)
    stack = _waited_for(name)
    if found:
        settings = replace(found, region=account.region).with_parameters(wishes.parameters)
    elif stack and stack.parameters:
        settings = settings_of_stack(name, account, stack.parameters, known).with_parameters(wishes.parameters)
    else:
        settings = asked_for(name, account, root=root, given=wishes.parameters, answers=answers, known=known)
    plan = Plan.of(settings, account, stack, known=known, certificates=certificates(root))
    for line in _shown(plan, account, known):
        say(printable(line))
    if plan.problems:
        for problem in plan.problems:
            say(printable(f"in the way: {problem}"))
        raise NotDeployed(f"nothing was changed: correct {wishes.file}" if found else "nothing was changed")
    return plan


def _shown(plan: Plan, account: Account, known: Mapping[str, Declared]) -> Iterator[str]:
    state = "a new stack" if plan.is_new else "an update" if plan.changes else "no value changes"
    yield f"{plan.settings.name} in {account.region}, AWS account {account.number}: {state}"
    if plan.is_new:
        for name, value in differences_from_defaults(plan.wanted, known).items():
            yield f"  {name} = {value}"
    for change in plan.changes:
        yield f"  {change.words}"
    if not plan.problems and account.is_small_for(plan.wanted):
        yield (
            f"note: the account runs {account.concurrency} functions at once, so an outage of the database leaves few "
            "for webhooks: ask AWS for more (Service Quotas, AWS Lambda, Concurrent executions)"
        )


def _confirm(plan: Plan, wishes: _Wishes) -> None:
    """Asks before values of a stack change. Raises NotDeployed if there is nobody to ask."""
    if plan.is_new or not plan.changes or wishes.yes:
        return
    if not sys.stdin.isatty():
        raise NotDeployed(f"nothing was changed: add --yes, or write the values of the stack into {wishes.file}")
    click.confirm("Send these values?", abort=True, err=True)


def _owner(plan: Plan, answers: Answers, wishes: _Wishes) -> str:
    """The owner's connection string, if a step needs the string. Raises NotDeployed if the next steps would fail."""
    owner_url = owner_url_of(plan, answers, migrates=wishes.migrates)
    if wishes.migrates and not owner_url:
        raise NotDeployed("nothing was changed: --migrate needs DATABASE_URL, the connection string of the owner")
    if owner_url and needs_the_owner(plan):
        if obstacle := obstacle_for_functions(owner_url, has_certificate=plan.wanted["DatabaseCaFile"] != ""):
            raise NotDeployed(f"nothing was changed: {obstacle}")
        is_migrated = wishes.migrates or OWNER in answers.asked
        if not is_migrated and not has_roles(owner_url):
            raise NotDeployed("nothing was changed: the database is not migrated, so add --migrate")
    return owner_url


def _deployed(plan: Plan, sam: Sam, *, at_once: bool) -> tuple[Plan, bool]:
    """Builds and deploys; returns the plan with the stack as it is now, and whether the stack was changed."""
    name = plan.settings.name
    with _step("built"):
        sam.build()
        if not plan.wanted["AwsEndpointUrl"]:
            check_architecture(sam.built / "SharedLayer", plan.wanted["Architecture"])
    make_way(name, plan.stack, lambda words: say(printable(words)))
    before = _waited_for(name)
    if at_once and plan.wanted[_GRADUAL] == "true":
        with _step("deployed all at once"):
            sam.deploy(name, plan.settings.region, {**plan.wanted, _GRADUAL: "false"})
    with _step("deployed"):
        sam.deploy(name, plan.settings.region, plan.wanted)
    after = _waited_for(name)
    has_changed = before is None or after is None or before.changed_at != after.changed_at
    return plan.with_stack(after), has_changed


def _fill(plan: Plan, answers: Answers, owner_url: str, wishes: _Wishes, *, has_changed: bool) -> None:
    """Fills the empty secrets. Raises NotDeployed if a value is not stored."""
    if plan.stack and any(kept.parameter == "WebhookSecretArn" for kept in empty_secrets(plan)):
        for line in _steps_elsewhere(plan, plan.stack):
            say(printable(line))
    stored = []
    for each in fill(plan, answers, owner_url=owner_url, even_if_in_use=wishes.new_role_passwords):
        stored.append(each)
        say(printable(f"{each.status:<10}{each.parameter}  {each.reason}".rstrip()))
    if any(each.status == FAILED for each in stored):
        raise NotDeployed("a secret was not stored, as said above: correct its value and run this again")
    if not has_changed and all(each.status == "unchanged" for each in stored):
        say("nothing was changed in AWS: the stack is as described, and its secrets are filled")


def _steps_elsewhere(plan: Plan, stack: Stack) -> Iterator[str]:
    """The steps in the dashboards of Clerk and Supabase; with an access token, those at Supabase are taken later."""
    yield from at_clerk(stack.outputs["WebhookUrl"])
    if (key := plan.wanted["ClerkPublishableKey"]) and not os.environ.get(ACCESS_TOKEN):
        yield from at_supabase(frontend_api(key).host)


def _at_supabase(plan: Plan, owner_url: str, management_api_url: str) -> Iterator[str]:
    """Makes the settings at Supabase if there is an access token, and names the steps that are left."""
    access = Access(os.environ.get("SUPABASE_URL", ""), owner_url, management_api_url)
    if not access.token:
        return
    try:
        instances = _instances(plan)
    except SettingsError as error:
        instances, obstacle = [], str(error)
    else:
        obstacle = obstacle_to_register(look(each) for each in instances for look in (keys, discovery))
    settings = set_up(access, [each.issuer for each in instances], obstacle)
    yield from shown(settings)
    host = instances[0].host if instances else "the domain that clerk-supabase setup prints"
    yield from at_supabase(host, settings)


def _instances(plan: Plan) -> list[Instance]:
    """The issuers of the app's Clerk instance. Raises SettingsError."""
    key = plan.wanted["ClerkPublishableKey"] or os.environ.get("CLERK_PUBLISHABLE_KEY", "").strip()
    if not key:
        raise SettingsError("no publishable key is known: give it in CLERK_PUBLISHABLE_KEY")
    return Instance.of(frontend_api(key), plan.wanted["ClerkFrontendApiUrl"])


@contextmanager
def _step(done: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{done} in {how_long(time.monotonic() - began)}")


def _waited_for(name: str) -> Stack | None:
    """The stack, as soon as CloudFormation does not change it."""
    return settled(name, lambda words: say(printable(words)))


def _ask(question: Question) -> str:
    """Asks until the answer is good."""

    def checked(answer: str) -> str:
        answer = answer.strip()
        if problem := question.problem_with(answer) if answer else "":
            raise click.UsageError(problem)
        return answer

    return str(
        click.prompt(
            question.words,
            default=question.default,
            show_default=bool(question.default),
            hide_input=question.is_secret,
            value_proc=checked,
            err=True,
        )
    )
