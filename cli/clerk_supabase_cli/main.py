"""The `clerk-supabase` command."""

from __future__ import annotations

import contextlib
import json
import sys
import threading

import click
from rich.console import Console

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase_cli import status
from clerk_supabase_cli.database import DatabaseFailed
from clerk_supabase_cli.deliveries import api_gateway_event, sign
from clerk_supabase_cli.demo import Demo
from clerk_supabase_cli.doctor.command import doctor_command
from clerk_supabase_cli.explain import UnknownId, show
from clerk_supabase_cli.migrations import MigrationFailed, migrate, prepare_plain_postgres
from clerk_supabase_cli.ministack import REGION
from clerk_supabase_cli.options import (
    HOW_TO_NAME_QUEUES,
    database_url_option,
    json_option,
    named_queues,
    optional_database_url_option,
    queue_options,
)
from clerk_supabase_cli.parked import NoSuchEvent, NotPossible
from clerk_supabase_cli.parked_commands import parked_commands
from clerk_supabase_cli.printing import print_json
from clerk_supabase_cli.processes import LocalStackError
from clerk_supabase_cli.project import ProjectNotFound, find_root
from clerk_supabase_cli.queues import AwsUnreachable
from clerk_supabase_cli.reconcile_commands import NoSuchRun, reconcile_commands, resync_command, undo_command
from clerk_supabase_cli.sample_events import NoSuchSample, sample_event
from clerk_supabase_cli.secure_command import NotSecured, secure_command
from clerk_supabase_cli.setup_command import setup_command
from clerk_supabase_cli.simulation import simulate
from clerk_supabase_cli.stack import LocalStack
from clerk_supabase_cli.token_commands import token_commands
from clerk_supabase_cli.token_mint import SigningKey

# Failures whose message says all there is to know.
_KNOWN = (
    ClerkSupabaseError,
    DatabaseFailed,
    LocalStackError,
    MigrationFailed,
    NoSuchEvent,
    NoSuchRun,
    NoSuchSample,
    NotPossible,
    NotSecured,
    ProjectNotFound,
    AwsUnreachable,
    UnknownId,
)

# Obviously not a secret: what events/env.json and `dev` use on this machine.
LOCAL_SECRET = "whsec_bG9jYWwtb25seS1ub3QtYS1zZWNyZXQ="  # noqa: S105 - says of itself that it is none


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Keeps a Supabase Postgres true to Clerk: developer's and operator's commands."""


commands.add_command(parked_commands)
commands.add_command(reconcile_commands)
commands.add_command(resync_command)
commands.add_command(undo_command)
commands.add_command(secure_command)
commands.add_command(setup_command)
commands.add_command(doctor_command)


@commands.command("migrate")
@database_url_option
@click.option("--plain-postgres", is_flag=True, help="Not Supabase: first create the API's roles and auth.jwt().")
def migrate_command(database_url: str, plain_postgres: bool) -> None:
    """Apply the SQL migrations that are missing, in order."""
    root = find_root()
    if plain_postgres:
        prepare_plain_postgres(database_url, root)
    applied = 0
    for name in migrate(database_url, root):
        click.echo(f"applied {name}")
        applied += 1
    click.echo("up to date" if applied == 0 else f"{applied} applied")


@commands.command("event")
@click.argument("name", metavar="TYPE")
@click.option("--id", "object_id", help="Clerk id of the object it is about; default the sample's own.")
@click.option(
    "--secret",
    envvar="CLERK_WEBHOOK_SIGNING_SECRET",
    default=LOCAL_SECRET,
    help="Signing secret, whsec_...; default that of `dev`.  [env: CLERK_WEBHOOK_SIGNING_SECRET]",
)
def event_command(name: str, object_id: str | None, secret: str) -> None:
    """Print a freshly signed API Gateway event, for `sam local invoke IngestFunction -e -`.

    TYPE is the name of a file in events/clerk, such as user.created. A signature is good for five minutes, so a
    stored event would be refused.
    """
    request = sign(sample_event(find_root(), name, object_id), secret)
    click.echo(json.dumps(api_gateway_event(request), indent=2))


@commands.command("dev")
@click.option("--port", default=4566, show_default=True, type=click.IntRange(1, 65535), help="Of the emulated AWS.")
@click.option(
    "--clerk-port",
    default=4567,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Of the stand-in for Clerk's Backend API.",
)
@click.option(
    "--frontend-port",
    default=4568,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Of the stand-in for Clerk's Frontend API, which issues session tokens.",
)
def dev_command(port: int, clerk_port: int, frontend_port: int) -> None:
    """Keep the whole stack running on this machine until Ctrl-C.

    The schedules of reconcile are off here: the stand-in for Clerk knows nothing of the webhooks you send.
    """
    root = find_root()
    with LocalStack(
        root,
        port=port,
        clerk_port=clerk_port,
        frontend_port=frontend_port,
        webhook_secret=LOCAL_SECRET,
        signing_key=SigningKey.of_checkout(root),
        progress=_say,
    ) as stack:
        click.echo(
            f"""
webhook URL     {stack.webhook_url}
session URL     {stack.session_url}
signing secret  {stack.webhook_secret}
database        {stack.database_url}
emulated AWS    {stack.ministack.endpoint}
Clerk's API     {stack.clerk.url}, a stand-in without users
tokens of       {stack.frontend.issuer}: clerk-supabase token mint --user user_1 --issuer {stack.frontend.issuer}
logs            {stack.logs}

For the other commands, in another terminal:

export DATABASE_URL='{stack.database_url}' CLERK_SUPABASE_STACK={stack.name}
export AWS_ENDPOINT_URL={stack.ministack.endpoint} AWS_REGION={REGION} AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
export CLERK_API_URL={stack.clerk.url} CLERK_SECRET_KEY={stack.clerk.answers.key}

Ctrl-C ends it."""
        )
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _say(step: str, seconds: float | None) -> None:
    if seconds is not None:
        click.echo(f"{step} ({seconds:.1f} s)")


@commands.command("simulate")
@click.option("--runs", default=1000, show_default=True, type=click.IntRange(min=1), help="How many schedules.")
@click.option("--seed", default=None, type=int, help="Repeats the schedules of an earlier run.")
@click.option("--first", default=0, show_default=True, help="Number of the first schedule.")
def simulate_command(runs: int, seed: int | None, first: int) -> None:
    """Try random schedules of webhooks against a Postgres of its own: do the tables always end the same?"""
    if not simulate(find_root(), runs=runs, seed=seed, first=first, console=Console()):
        sys.exit(1)


@commands.command("explain")
@click.argument("clerk_id")
@database_url_option
def explain_command(clerk_id: str, database_url: str) -> None:
    """Print the timeline of one Clerk id: what arrived, what became of it, what changed."""
    show(database_url, clerk_id, Console())


@commands.command("status")
@optional_database_url_option
@queue_options
@json_option
def status_command(database_url: str | None, as_json: bool, **queues: str | None) -> None:
    """Print what waits where, what is parked and how long events take.

    Looks at what is named: the database, the queues, or both. Exit status 0: nothing is stuck. 1: something is, or
    could not be looked at; 2: nothing was named.
    """
    if not database_url and not any(queues.values()):
        raise click.UsageError(f"Name the database (--database-url), the queues ({HOW_TO_NAME_QUEUES}) or both.")
    looked = status.look(database_url, lambda: named_queues(**queues))
    if as_json:
        print_json(looked.as_json())
    else:
        status.show(looked, Console())
    if looked.problems:
        sys.exit(1)


@commands.command("demo")
@click.option("--users", default=300, show_default=True, type=click.IntRange(1, 5000), help="How many sign up.")
@click.option("--seed", default=None, type=int, help="Repeats the traffic of an earlier run.")
def demo_command(users: int, seed: int | None) -> None:
    """Deploy the template to an emulated AWS on this machine, send webhooks, show that Postgres agrees."""
    demo = Demo(find_root(), users=users, seed=seed, console=Console())
    if demo.run() != 0:
        sys.exit(1)


commands.add_command(token_commands)


def main() -> None:
    """Runs the command; a failure that has a known cause is one line, not a traceback."""
    try:
        commands(prog_name="clerk-supabase")
    except _KNOWN as error:
        click.echo(f"clerk-supabase: {error}", err=True)
        sys.exit(1)
