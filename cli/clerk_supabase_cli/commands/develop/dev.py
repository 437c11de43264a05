"""`clerk-supabase dev`: the whole bundle on this machine until Ctrl-C, with its events as they happen."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import Retryable
from clerk_supabase.postgres.connection_string import parse, with_parameter
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.local.app.app import VARIABLES_FILE, check_app, served_app
from clerk_supabase_cli.local.dev.console import console_beside
from clerk_supabase_cli.local.dev.held_logins import held_logins
from clerk_supabase_cli.local.dev.reload import Fingerprints, Reloader, fingerprints, function_names
from clerk_supabase_cli.local.dev.running import RunningStack
from clerk_supabase_cli.local.dev.stream import Stream
from clerk_supabase_cli.local.processes import LocalStackError, is_taken, last_lines
from clerk_supabase_cli.local.stack import PUBLISHABLE_KEY, LocalStack
from clerk_supabase_cli.operate.database import DATABASE_URL, open_database
from clerk_supabase_cli.operate.install.migrations import read_migrations
from clerk_supabase_cli.operate.setup.role_urls import (
    SESSION_ROLE,
    SESSION_VARIABLE,
    WORKER_ROLE,
    WORKER_VARIABLE,
    RoleUrls,
    urls_of_roles,
)
from clerk_supabase_cli.options import checked_database_url
from clerk_supabase_cli.printing import say
from clerk_supabase_cli.project import find_checkout
from clerk_supabase_cli.standin.deliveries import secret_key_of, webhook_secret_of
from clerk_supabase_cli.standin.instance.beginning import ADA
from clerk_supabase_cli.standin.token_mint import SigningKey
from clerk_supabase_cli.terminal import Terminal

Command = TypeVar("Command", bound=Callable[..., Any])

# The start of `make dev` in seconds since 1970, so that its installations count, too.
STARTED_VARIABLE: Final = "CLERK_SUPABASE_STARTED"
_LOOK_SECONDS: Final = 0.3
# So that sessions, too, can be tried.
_PARAMETERS: Final = {"SessionsDays": "7"}
_ABOUT_DATABASE: Final = """
DATABASE_URL remains as it is, because the password of your database is not
written down: set the variable to the URL that you gave."""


def _port(option: str, default: int, what: str) -> Callable[[Command], Command]:
    return click.option(
        option,
        default=default,
        show_default=True,
        type=click.IntRange(0, 65535),
        help=f"Port of {what}; 0: a free port.",
    )


@click.command("dev")
@_port("--port", 4566, "the emulated AWS")
@_port("--clerk-port", 4567, "the stand-in for Clerk's Backend API")
@_port("--frontend-port", 4568, "the stand-in for Clerk's Frontend API, which issues session tokens")
@_port("--supabase-port", 4569, "Supabase's API for the tables and files of --app")
@click.option(
    "--app",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of an app with Next.js: run its supabase/migrations, serve its tables and files as Supabase does, "
    f"and write the variables of its pages into its {VARIABLES_FILE} until dev ends.",
)
@click.option(
    "--database-url",
    callback=checked_database_url,
    help="Sync into this database, with the migrations applied, instead of a new database on this machine. The URL is "
    "the owner's, and no function gets the URL; the password may be in PGPASSWORD, and `-` reads the URL from standard "
    "input.",
)
@click.option(
    "--sync-database-url",
    envvar=WORKER_VARIABLE,
    help=f"With --database-url: the URL for the functions, as {WORKER_ROLE}.  [env: {WORKER_VARIABLE}]",
)
@click.option(
    "--session-database-url",
    envvar=SESSION_VARIABLE,
    help=f"The same for POST /session, as {SESSION_ROLE}.  [env: {SESSION_VARIABLE}]",
)
@click.option(
    "--reset-role-passwords",
    is_flag=True,
    help="With --database-url: give both roles new passwords until dev ends, and no password afterwards. This locks "
    "out a deployed stack with the former passwords.",
)
@click.option(
    "--webhook-secret",
    envvar="CLERK_WEBHOOK_SIGNING_SECRET",
    help="Signing secret of the webhooks; by default the checkout's own secret in .local."
    "  [env: CLERK_WEBHOOK_SIGNING_SECRET]",
)
@click.option(
    "--population/--no-population",
    default=None,
    help="Begin with six users and two organizations, in the stand-in for Clerk and in the database. By default on, "
    "and off with --database-url.",
)
@click.option(
    "--containers",
    is_flag=True,
    help="Let containers of this machine reach the stack, too, such as the containers of `sam local`.",
)
def dev_command(
    *,
    port: int,
    clerk_port: int,
    frontend_port: int,
    supabase_port: int,
    app: Path | None,
    database_url: str | None,
    sync_database_url: str | None,
    session_database_url: str | None,
    reset_role_passwords: bool,
    webhook_secret: str | None,
    population: bool | None,
    containers: bool,
) -> None:
    """Keep the whole stack running on this machine until Ctrl-C. Each event is shown with its result.

    Changed code is in use from the next event on, new migrations are applied. A stand-in for Clerk has a few users and
    organizations, whose rows are in Postgres; `clerk-supabase clerk` changes them, as Clerk would. The schedules of
    reconcile are off here: compare with `clerk-supabase reconcile`.

    \b
    Examples:
      clerk-supabase dev
      clerk-supabase dev --port 0 --clerk-port 0 --frontend-port 0
    """
    root = find_checkout("dev")
    _check_ports({"--port": port, "--clerk-port": clerk_port, "--frontend-port": frontend_port})
    if app is not None:
        _check_app(app, supabase_port, database_url)
    started = float(os.environ.get(STARTED_VARIABLE) or time.time())
    # Also for a shell that started `dev` in the background, with Ctrl-C ignored; and SIGTERM cleans up, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    known = fingerprints(root)
    with contextlib.ExitStack() as undo:
        roles = None
        if database_url is not None:
            given = sync_database_url, session_database_url
            database_url, roles = undo.enter_context(_opened(database_url, given, root, reset=reset_role_passwords))
        stack = undo.enter_context(
            LocalStack(
                root,
                worker_url=roles.worker if roles else None,
                session_url=roles.session if roles else None,
                port=port,
                clerk_port=clerk_port,
                frontend_port=frontend_port,
                webhook_secret=webhook_secret or webhook_secret_of(root),
                secret_key=secret_key_of(root),
                has_population=(roles is None) if population is None else population,
                owner_url=database_url,
                containers=containers,
                parameters=_PARAMETERS,
                signing_key=SigningKey.of_checkout(root),
                progress=_say,
            )
        )
        undo.enter_context(held_logins(*stack.role_urls))
        stack.instance.webhooks.deliver_to(stack.webhook_url, stack.webhook_secret)
        running = _described(stack, is_embedded=roles is None)
        running.save(root)
        try:
            shown = {**running.variables, "DATABASE_URL": database_url or stack.database_url}
            # In a database of the developer's, the page only looks: others may work there.
            console = undo.enter_context(console_beside(shown, stack.logs, can_write=roles is None))
            _introduce(stack, running, roles, console)
            if app is not None:
                variables = undo.enter_context(served_app(app, stack, root, port=supabase_port))
                say(f"\nSupabase's API  {variables['NEXT_PUBLIC_SUPABASE_URL']}\nthe app         npm run dev in {app}")
            say(f"\nready, {time.time() - started:.0f} s after the start; Ctrl-C ends it\n")
            _warm_up(stack)
            _watch(root, stack, database_url or stack.database_url, known=known, is_embedded=roles is None)
        except KeyboardInterrupt:
            say("\nending; this may take some seconds")
        finally:
            running.forget(root)


def _check_ports(ports: Mapping[str, int]) -> None:
    """Raises LocalStackError for a port in use, before anything is started."""
    for option, port in ports.items():
        if port and is_taken(port):
            raise LocalStackError(
                f"port {port} of 127.0.0.1 is taken: end the other program, perhaps another `dev`, or choose another "
                f"port with {option}; 0 is a free port"
            )


def _check_app(app: Path, supabase_port: int, database_url: str | None) -> None:
    if database_url is not None:
        raise click.UsageError("--app serves the tables of a database on this machine: leave out --database-url")
    check_app(app)
    _check_ports({"--supabase-port": supabase_port})


def _warm_up(stack: LocalStack) -> None:
    """Sends a first event, so that the cold start of the functions delays no event of the developer's."""
    if stack.instance.world.users:
        stack.instance.sign_in(ADA)
        say("Ada signs in: this first event starts the functions, which takes some 10 s;")
    else:
        say("The first event starts the functions, which takes some 10 s;")
    say("later events are in Postgres within a second.\n")


def _watch(root: Path, stack: LocalStack, database_url: str, *, known: Fingerprints, is_embedded: bool) -> None:
    console = Terminal()
    stream = Stream(
        stack,
        database_url,
        console,
        {physical: name for name, physical in function_names(stack).items()},
    )
    reloader = Reloader(root, stack, console, known=known, database_url=database_url if is_embedded else None)
    while True:
        reloader.look()
        stream.show_what_is_new()
        if not stack.ministack.running:
            raise LocalStackError(f"the emulated AWS has ended:\n{last_lines(stack.ministack.log, 20)}")
        time.sleep(_LOOK_SECONDS)


def _described(stack: LocalStack, *, is_embedded: bool) -> RunningStack:
    return RunningStack(
        process_id=os.getpid(),
        webhook_url=stack.webhook_url,
        session_url=stack.session_url,
        webhook_secret=stack.webhook_secret,
        database_url=stack.database_url if is_embedded else "",
        name=stack.name,
        aws=stack.ministack.environment,
        clerk_api_url=stack.clerk.url,
        clerk_secret_key=stack.clerk.answers.key,
        clerk_publishable_key=PUBLISHABLE_KEY,
        frontend_api_url=stack.frontend.issuer,
        logs=str(stack.logs),
    )


def _introduce(stack: LocalStack, running: RunningStack, roles: RoleUrls | None, console: str) -> None:
    # The connection string of the developer's own database is not printed.
    database = "the one that --database-url names" if roles else running.database_url
    if roles:
        say(f"Functions connect as {WORKER_ROLE} and {SESSION_ROLE}, {roles.origin}.")
    say(
        f"""
webhook URL      {running.webhook_url}
session URL      {running.session_url}
signing secret   {running.webhook_secret}
database         {database}
emulated AWS     {stack.ministack.endpoint}
  access key     {running.aws["AWS_ACCESS_KEY_ID"]}, the only one it takes
Clerk's API      {running.clerk_api_url}, a stand-in; tokens of {running.frontend_api_url}
  secret key     {running.clerk_secret_key}
  publishable    {running.clerk_publishable_key}
  in it          {_population(stack)}
logs             {running.logs}
console          {console or "did not start: see console.log in the folder of the logs"}

In another terminal, in this folder:

  source .local/env

sets all this for the commands, and puts them on the search path.{_ABOUT_DATABASE if roles else ""}
Then try:

  clerk-supabase clerk user create
  clerk-supabase clerk play --lose 20
  clerk-supabase reconcile --delete-margin 0
  clerk-supabase event user.created --send
  clerk-supabase token mint --user {ADA}
  clerk-supabase doctor

Clerk's events   clerk webhooks listen --forward-to {running.webhook_url}"""
    )


def _population(stack: LocalStack) -> str:
    world = stack.instance.world
    if not world.users:
        return "no users yet"
    return f"{len(world.users)} users, {len(world.organizations)} organizations, with their rows in Postgres"


def _say(step: str, seconds: float | None) -> None:
    if seconds is not None:
        say(f"{step} ({seconds:.1f} s)")


# A database of the developer's


@contextlib.contextmanager
def _opened(url: str, given: Sequence[str | None], root: Path, *, reset: bool) -> Iterator[tuple[str, RoleUrls]]:
    """The owner's URL, with the CA of the checkout, and the URLs of the functions.

    Raises DatabaseFailed and LocalStackError unless the functions can work with the database.
    """
    _check_migrations(url, root)
    owner_url, *given = (each and _with_certificate(each, root) for each in (url, *given))
    with urls_of_roles(str(owner_url), given, reset=reset) as roles:
        _check_that_functions_can_use(roles.worker)
        yield str(owner_url), roles


def _check_migrations(url: str, root: Path) -> None:
    type_this = "clerk-supabase migrate --database-url ..."
    with open_database(url) as database:
        known = database.execute("select to_regclass('clerk_sync.migrations')").fetchone()
        if known == (None,):
            raise LocalStackError(f"this database has none of the migrations; type: {type_this}")
        applied = {name for (name,) in database.execute("select name from clerk_sync.migrations")}
    if missing := [migration.name for migration in read_migrations(root) if migration.name not in applied]:
        raise LocalStackError(f"this database lacks {', '.join(missing)}; type: {type_this}")


def _check_that_functions_can_use(url: str) -> None:
    store = Store(Fixed(url, DATABASE_URL))
    try:
        store.check()
    except Retryable as error:
        raise LocalStackError(
            f"the functions could not use this database: {error}; they check its certificate: put the database's CA "
            "into layers/shared/ca, or add ?sslmode=require to the URL (?sslmode=disable for a server without SSL)"
        ) from error
    finally:
        store.close()


def _with_certificate(url: str, root: Path) -> str:
    """The URL with the CA of layers/shared/ca, unless the URL itself says how to check the server."""
    given = parse(url, DATABASE_URL).parameters
    authorities = [file for file in (root / "layers" / "shared" / "ca").glob("*") if not file.name.startswith(".")]
    if len(authorities) != 1 or "sslrootcert" in given or "sslmode" in given:
        return url
    return with_parameter(url, "sslrootcert", str(authorities[0]))
