"""Shared options of commands: the addresses of the database and the queues, and the form of the output."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from clerk_supabase.clerk.address import BASE_URL
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase_cli.operate.database import DATABASE_URL
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs
from clerk_supabase_cli.operate.queues import OUTPUTS, Queues
from clerk_supabase_cli.operate.setup.management_http import BASE_URL as MANAGEMENT_API_URL

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

# Clerk's own ids have letters and digits; https://clerk.com/docs/reference/backend-api
_CLERK_ID: Final = re.compile(r"(user|org)_[A-Za-z0-9_-]{1,250}")

_DATABASE_HELP: Final = (
    "postgresql:// of the owner; a direct or session connection. `-` reads it from standard input, because ps shows an "
    "argument to every user of the machine.  [env: DATABASE_URL]"
)


class OrVariable(click.Option):
    """An option whose errors also name its environment variable."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The names of the option and the variable, for an error."""
        return f"{super().get_error_hint(ctx)} or the environment variable {self.envvar}"


class NumberRange(click.FloatRange):
    """A number within a range. Rejects `nan`, which no comparison finds out of range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


def given_database_url(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:  # noqa: ARG001 - click hands it over
    """The given connection string; for `-`, the first line of standard input, hidden on a terminal."""
    if url != "-" or context.resilient_parsing:
        return url
    if sys.stdin.isatty():
        return str(click.prompt("Connection string", hide_input=True, err=True))
    return sys.stdin.readline().strip()


def checked_database_url(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    """Rejects a broken connection string before anything else is done. Raises SetUpWrong."""
    given = given_database_url(context, parameter, url)
    if given is not None and not context.resilient_parsing:
        parse(given, DATABASE_URL)
    return given


database_url_option = click.option(
    "--database-url",
    cls=OrVariable,
    envvar="DATABASE_URL",
    required=True,
    help=_DATABASE_HELP,
    callback=checked_database_url,
)
# For commands that need no database with some of their options.
parsed_database_url_option = click.option(
    "--database-url", envvar="DATABASE_URL", help=_DATABASE_HELP, callback=checked_database_url
)
# Commands with more sources than the database report a bad URL among their other findings.
optional_database_url_option = click.option(
    "--database-url", envvar="DATABASE_URL", help=_DATABASE_HELP, callback=given_database_url
)

supabase_url_option = click.option(
    "--supabase-url", envvar="SUPABASE_URL", default="", help="https://<project>.supabase.co  [env: SUPABASE_URL]"
)
# Without a variable: a variable of the app with another meaning must not send the access token elsewhere.
management_api_option = click.option(
    "--management-api-url", default=MANAGEMENT_API_URL, hidden=True, help="Only for tests."
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
wide_option = click.option("--wide", is_flag=True, help="Print each row on one line, also if the terminal is narrower.")


def queue_options(command: Command) -> Command:
    """Adds the options with the addresses of the queues, for `named_queues`."""
    command = click.option("--parked-queue-url", help="Address of the parked queue, instead of the stack's.")(command)
    command = click.option("--dead-letter-queue-url", help="Address of the dead-letter queue, instead of the stack's.")(
        command
    )
    return sync_queue_options(command)


def sync_queue_options(command: Command) -> Command:
    """Adds the options with the address of the sync queue."""
    command = click.option("--sync-queue-url", help="Address of the sync queue, instead of the stack's.")(command)
    return click.option(
        "--stack-name",
        envvar="CLERK_SUPABASE_STACK",
        help="Deployed stack, whose outputs name its queues; region and credentials as for any AWS tool."
        "  [env: CLERK_SUPABASE_STACK]",
    )(command)


def named_queues(
    stack_name: str | None,
    sync_queue_url: str | None,
    dead_letter_queue_url: str | None = None,
    parked_queue_url: str | None = None,
) -> Queues | None:
    """The queues by the options of the same names; None without any option. Raises AwsUnreachable.

    A stack is only asked for addresses that are not given.
    """
    given = dict(zip(OUTPUTS, (sync_queue_url, dead_letter_queue_url, parked_queue_url), strict=True))
    urls = {name: url for name, url in given.items() if url}
    if stack_name and len(urls) < len(OUTPUTS):
        urls = {**Queues.of_stack(stack_name).urls, **urls}
    return Queues(urls) if urls else None


def logs_of(stack_name: str | None) -> FunctionLogs | None:
    """The logs of the functions of a stack; None without a stack."""
    return FunctionLogs(stack_name) if stack_name else None


class UserId(click.ParamType[str]):
    """Clerk's id of a user."""

    name = "user_..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The given id, checked."""
        if not re.fullmatch(r"user_[!-~]{1,250}", value):
            self.fail("a user's id begins with user_; for an address: --email ADDRESS", param, ctx)
        return str(value)


class Address(click.ParamType[str]):
    """An e-mail address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The given address, checked."""
        # A single word for clerk_sync.words_of(), which finds the address inside texts.
        if not re.fullmatch(r'[^\s"<>()\[\],;:\\@]+@[^\s"<>()\[\],;:\\@]+', value):
            self.fail("one address, such as ada@example.test", param, ctx)
        # In small letters, the address would be another person's.
        if not unicodedata.is_normalized("NFC", value):
            self.fail(
                "it has an unusual character that looks like a common character: type the address again", param, ctx
            )
        return str(value)


def person_options(command: Command) -> Command:
    """Adds the user and the addresses that name a person; `require_person` rejects a call without both."""
    command = click.option(
        "--email", "addresses", type=Address(), multiple=True, help="Address of the person; repeatable."
    )(command)
    return click.argument("user_id", type=UserId(), required=False)(command)


def require_person(user_id: str | None, addresses: Sequence[str]) -> None:
    """Raises UsageError if no person is named."""
    if user_id is None and not addresses:
        raise click.UsageError(
            "Name the person: a user (user_...), or --email ADDRESS for an invited person without a user."
        )


def entitlement_options(command: Command) -> Command:
    """Adds the plan and the feature that a caller must have; `check_entitlement` rejects contradictions."""
    for option in (
        click.option(
            "--from-mirror",
            is_flag=True,
            help="Ask the mirrored subscription instead of the token, which is up to a minute old.",
        ),
        click.option("--feature", metavar="SCOPE:SLUG", help="Feature that the caller must have, too: org:reports."),
        click.option("--plan", metavar="SCOPE:SLUG", help="Plan that the caller must have, too: user:pro or org:team."),
    ):
        command = option(command)
    return command


def check_entitlement(plan: str | None, feature: str | None, *, from_mirror: bool) -> None:
    """Raises UsageError for a source of plans and features without a plan or a feature."""
    if from_mirror and not (plan or feature):
        raise click.UsageError("--from-mirror says where a plan or a feature is looked up: add --plan or --feature")


lock_timeout_option = click.option(
    "--lock-timeout",
    "lock_seconds",
    type=click.FloatRange(0.1, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for a lock, during which other sessions wait, too; retried a few times.",
)


private_metadata_option = click.option(
    "--keep-private-metadata",
    is_flag=True,
    envvar="KEEP_PRIVATE_METADATA",
    help="For a stack with KeepPrivateMetadata.  [env: KEEP_PRIVATE_METADATA]",
)


def with_version(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    """The address of the Backend API with its version. Clerk's own packages read the same variable, without `/v1`."""
    try:
        has_version = bool(urlsplit(url).path.strip("/"))
    except ValueError:
        return url  # the first request names the fault
    return url if not url or has_version else url.rstrip("/") + urlsplit(BASE_URL).path


clerk_api_url_option = click.option(
    "--clerk-api-url",
    envvar="CLERK_API_URL",
    default=BASE_URL,
    callback=with_version,
    show_default=True,
    help="Address of Clerk's Backend API, to change for tests only.  [env: CLERK_API_URL]",
)


class Moment(click.ParamType[datetime]):
    """A moment: `2026-01-31`, `2026-01-31T12:00`, with an offset or in UTC; or how long ago: `90m`, `2h`, `3d`."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, aware of its time zone."""
        if isinstance(value, datetime):
            return value
        if ago := re.fullmatch(r"(\d{1,5})([smhdw])", value):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time such as 2026-01-31T12:00 (UTC) nor an age such as 2h.", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class ClerkId(click.ParamType[str]):
    """The id of a user or an organization, safe in a path of Clerk's API."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The typed id, checked."""
        if not _CLERK_ID.fullmatch(value):
            self.fail(f"{value!r} is no id of a user (user_...) or an organization (org_...).", param, ctx)
        return str(value)


def instance_options(command: Command) -> Command:
    """Adds the options about the Clerk instance and the Supabase project, by the names of the doctor's `Named`."""
    for option in (
        click.option("--ca-file", default="", help="Instead of the stack's DatabaseCaFile, as a file of this machine."),
        click.option(
            "--frontend-api-url",
            envvar="CLERK_FRONTEND_API_URL",
            default="",
            help="Issuers, separated by commas, instead of the stack's.  [env: CLERK_FRONTEND_API_URL]",
        ),
        management_api_option,
        click.option(
            "--clerk-api-url",
            envvar="CLERK_API_URL",
            default="",
            callback=with_version,
            hidden=True,
            help="Only for tests.",
        ),
        supabase_url_option,
        click.option(
            "--publishable-key",
            envvar="CLERK_PUBLISHABLE_KEY",
            default="",
            help="pk_live_... or pk_test_..., for a stack without POST /session.  [env: CLERK_PUBLISHABLE_KEY]",
        ),
    ):
        command = option(command)
    return command
