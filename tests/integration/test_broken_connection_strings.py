"""No part of a connection string reaches a log, a metric, an error, a queue or a terminal, however broken it is.

Strings with a canary for a password are broken in every way that people and tools break them, and at random; then every
function reads them from its secret, and every command that takes one from its option and its environment.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from clerk_supabase.errors import ClerkSupabaseError, SetUpWrong
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.main import commands, main
from clerk_supabase_cli.simulator.sqs import record
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.integration.test_telemetry import ORIGIN, Context, World
from tests.kit.aws import Region
from tests.kit.databases import Databases
from tests.kit.reconciling import rig_with
from tests.kit.tokens import KEY

# Fit for each place in a string, the host too. Any four characters in a row hold a pair that nothing else here prints.
CANARY = "Q-_K.-V_-W-.G_-7.-Z_-9"
PIECES = {CANARY[start : start + 4] for start in range(len(CANARY) - 3)}
PUBLISHABLE_KEY = "pk_test_Y2xlcmsubG9jYWwudGVzdCQ="
FUNCTIONS = ("sync", "retry", "reconcile", "session")
VARIABLES = ("DATABASE_URL", "SYNC_DATABASE_URL", "SESSION_DATABASE_URL")

# Most of the time of an example is the load of a handler. Each command and function gets its own strings: forty times
# three different ones find more than the same twelve for all, and --exhaustive gives each of them twelve.
FEW, MANY = 3, 12
thorough = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def found_in(text: str) -> set[str]:
    return {piece for piece in PIECES if piece in text}


def all_said(error: BaseException | None) -> Iterator[str]:
    """The traceback as anybody prints it, and every error behind it, also errors that no traceback shows."""
    if error is not None:
        yield from traceback.format_exception(error)
        for behind in (error.__cause__, error.__context__):
            yield from (str(behind), repr(behind))
            yield from all_said(behind)


# Broken strings

HOST = "localhost:{port}"
SHAPES = (
    "postgresql://clerk_sync_worker:{password}@" + HOST + "/postgres",
    "postgres://clerk_sync_worker.abcd:{password}@" + HOST + "/postgres?sslmode=disable",
    "postgresql://{password}@" + HOST + "/postgres",
    "postgresql://{password}:x@" + HOST + "/postgres?sslmode=disable",
    "postgresql://:{password}@" + HOST + "/postgres",
    "postgresql://clerk_sync_worker:x@{password}/postgres",
    "postgresql://clerk_sync_worker:x@{password}:6543/postgres?sslmode=disable",
    "postgresql://clerk_sync_worker:x@[{password}]/postgres",
    "postgresql://clerk_sync_worker:x@db.{password}.supabase.co/postgres",
    "postgresql://clerk_sync_worker:x@localhost:{password}/postgres",
    "postgresql://clerk_sync_worker:x@localhost,{password}/postgres",
    "postgresql://clerk_sync_worker:x@" + HOST + "/{password}?sslmode=disable",
    "postgresql://clerk_sync_worker:{password}@",
    "postgresql://clerk_sync_worker:{password}",
    "postgresql://clerk_sync_worker:{password}@" + HOST,
    "postgresql://u:p@" + HOST + "/postgres?{password}=1",
    "postgresql://u:p@" + HOST + "/postgres?sslmode={password}",
    "postgresql://u:p@" + HOST + "/postgres?sslmode=disable&options={password}",
    "postgresql://u:p@" + HOST + "/postgres?sslmode=disable&options=-c%20{password}%3D1",
    "postgresql://u:p@" + HOST + "/postgres?sslmode=verify-full&sslrootcert={password}",
    "postgresql://u:p@" + HOST + "/postgres?hostaddr={password}",
    "postgresql://u:p@" + HOST + "/postgres?connect_timeout={password}",
    "postgresql://u:p@" + HOST + "/postgres?application_name={password}",
    "postgresql://u:p@" + HOST + "/postgres?password={password}",
    "postgresql://u:{password}@" + HOST + "/postgres?pgbouncer=true",
    "postgresql+psycopg://u:{password}@" + HOST + "/postgres",
    "jdbc:postgresql://" + HOST + "/postgres?user=u&password={password}",
    "psql 'postgresql://u:{password}@" + HOST + "/postgres'",
    "'postgresql://u:{password}@" + HOST + "/postgres'",
    "\u201cpostgresql://u:{password}@" + HOST + "/postgres\u201d",
    " postgresql://u:{password}@" + HOST + "/postgres\n",
    "DATABASE_URL=postgresql://u:{password}@" + HOST + "/postgres",
    '{{"username": "u", "password": "{password}", "host": "h"}}',
    '{{"SYNC_DATABASE_URL": "postgresql://u:{password}@h/d"}}',
    "host=localhost port={port} user=u password={password} dbname=postgres sslmode=disable",
    "postgresql:///postgres?host=/tmp&user=u&password={password}",
    "postgresql://u:[{password}]@" + HOST + "/postgres",
    "https://u:{password}@localhost/postgres",
    "{password}",
    "",
)
ODD = st.sampled_from(
    [*"@/#?:%[]<>\"' \\&=+;,{}$\n\t\x00\u00e4\u2019", "%00", "%0A", "%FF", "%zz", "://", "@@", "?x=", "${"]
)


@dataclass(frozen=True)
class Cut:
    """A random change of a text."""

    place: float
    length: int
    instead: str

    def of(self, text: str) -> str:
        start = int(self.place * (len(text) + 1))
        return text[:start] + self.instead + text[start + self.length :]


insertions = st.lists(st.builds(Cut, st.floats(0, 1, exclude_max=True), st.just(0), ODD), max_size=2)
mutations = st.lists(
    st.builds(Cut, st.floats(0, 1, exclude_max=True), st.integers(0, 6), st.one_of(st.just(""), ODD)), max_size=2
)


@st.composite
def broken_strings(draw: st.DrawFn) -> str:
    """Broken strings, with `{port}` for the port of a real server."""
    password = CANARY
    for insertion in draw(insertions):
        password = insertion.of(password)
    port = "\ue000"  # survives the mutations, or does not
    text = draw(st.sampled_from(SHAPES)).format(password=password, port=port)
    for mutation in draw(mutations):
        text = mutation.of(text)
    return text.replace(port, "PORT")


@pytest.fixture(scope="module")
def world(region: Region, databases: Databases, root: Path) -> Iterator[World]:
    """The environment that functions need, without access beyond this machine."""
    real = socket.getaddrinfo

    def only_here(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in {"127.0.0.1", "localhost"}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    with contextlib.ExitStack() as undo:
        patch = undo.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(socket, "getaddrinfo", only_here)
        database = databases.take()
        undo.callback(databases.give_back, database)
        rig = undo.enter_context(rig_with(database, 3))
        rig.api.answers.key = "sk_live_standin"
        rig.api.answers.instance_id = "ins_own"
        frontend = undo.enter_context(FrontendApi(KEY))
        yield World(root, region.account(), database, rig, frontend)


def at_server(text: str, world: World) -> str:
    return text.replace("PORT", str(world.database.server.port))


# Through every function


def event_for(function: str, world: World) -> Any:
    if function == "reconcile":
        return {"mode": "full"}
    if function == "session":
        token = Mint(KEY, world.frontend.issuer).session("user_1", azp=ORIGIN)
        return {"httpMethod": "POST", "headers": {"authorization": f"Bearer {token}"}, "body": None}
    body = samples.event("user.created", samples.user("user_1", created_at=1, updated_at=2), timestamp=3)
    bodies = [json.dumps(body), "unusable"]
    attempts = {"attempts": "8"} if function == "retry" else {}
    return {
        "Records": [
            record(f"message-{number}", each, svix_id=f"msg_{number}", received_at="1", **attempts)
            for number, each in enumerate(bodies)
        ]
    }


def said_by(function: str, text: str, world: World) -> str:
    """Everything that a function writes anywhere when its secret holds this text."""
    arn = world.account.put_secret("connection", text or " ")
    environment = world.environment(
        DATABASE_SECRET_ARN=arn,
        SESSION_DATABASE_SECRET_ARN=arn,
        CLERK_SECRET_KEY_ARN=world.account.put_secret("key", "sk_live_standin"),
    )
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        with world.output.of(function):
            module = runpy.run_path(str(world.root / "functions" / function / "handler.py"))
            try:
                said.append(json.dumps(module["lambda_handler"](event_for(function, world), Context())))
            except Exception as error:  # noqa: BLE001 - Lambda catches all of them too
                said += all_said(error)
    for queue in (world.account.sync_queue_url, world.account.parked_queue_url):
        said.append(json.dumps(world.records(queue), default=str))
    return "\n".join([*said, str(world.output)])


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


@pytest.fixture
def own_strings(request: pytest.FixtureRequest, exhaustive: bool) -> Decorator:
    """The decorator of a generated test: its number of examples, and a seed of this command or function alone."""
    number = MANY if exhaustive else FEW
    own_seed = seed(f"{request.config.option.hypothesis_seed} {request.node.name}")

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        return own_seed(settings(thorough, max_examples=number)(test))

    return decorated


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_reveals_a_part_of_its_connection_string(
    function: str, world: World, own_strings: Decorator
) -> None:
    @own_strings
    @example(f"postgresql://clerk_sync_worker:{CANARY}%Pw@localhost:PORT/postgres")
    @example(f"postgresql://clerk_sync_worker:x@{CANARY}@localhost:PORT/postgres")
    @example(f"postgresql://clerk_sync_worker:{CANARY}@localhost:PORT/postgres?sslmode=disable")
    @example(f"postgresql://{CANARY}:x@localhost:PORT/postgres?sslmode=disable")
    @example(f"postgresql://clerk_sync_worker:x@{CANARY}/postgres")
    @given(broken_strings())
    def nothing_is_found(text: str) -> None:
        said = said_by(function, at_server(text, world), world)
        assert said
        assert not found_in(said)

    nothing_is_found()


# Through every command


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from tree(found, (*path, name))
    if path:
        yield path, command


def option_of(command: click.Command) -> click.Parameter | None:
    return next((each for each in command.params if "--database-url" in each.opts), None)


def takes_a_connection_string(command: click.Command) -> bool:
    """Tells whether the command takes a connection string, by its option or by a variable named in its source."""
    module = sys.modules[command.callback.__module__] if command.callback else None
    source = Path(str(module.__file__)).read_text(encoding="utf-8") if module else ""
    return option_of(command) is not None or "_DATABASE_URL" in source


# Without `console`, which serves until Ctrl-C whatever the database says; its page has tests of its own.
TAKING = {
    " ".join(path): command
    for path, command in tree(commands)
    if takes_a_connection_string(command) and path != ("console",)
}


def example_of(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    return "1" if isinstance(parameter.type, click.types.IntParamType) else "user_1"


@pytest.fixture(scope="module")
def empty_aws() -> Iterator[dict[str, str]]:
    """The environment of an AWS in which there is nothing, not even a stack."""

    class Nothing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b"<ErrorResponse><Error><Code>ValidationError</Code></Error></ErrorResponse>"
            self.send_response(400)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "eu-central-1"}
            # A Python that is there: a deployment would download another one.
            yield {**credentials, "AWS_ENDPOINT_URL": url, "LAYER_PYTHON": sys.executable}
        finally:
            server.shutdown()


def typed(name: str, command: click.Command, world: World) -> list[str]:
    """The command with all its required arguments."""
    line = name.split()
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            line.append(example_of(parameter))
        elif "--frontend-api-url" in parameter.opts:
            line += ["--frontend-api-url", world.frontend.issuer]
        elif "--clerk-api-url" in parameter.opts:
            line += ["--clerk-api-url", world.rig.api.url]
        elif "--store-secrets" in parameter.opts:
            line += ["--store-secrets", "not-deployed"]
        elif "--wait" in parameter.opts:
            line += ["--wait", "0"]
        elif "--yes" in parameter.opts:
            line.append("--yes")
    return line


def said_to(line: list[str], environment: dict[str, str]) -> str:
    unset = dict.fromkeys(("CLERK_SUPABASE_STACK", "AWS_PROFILE", *VARIABLES))
    known = {"CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY, "CLERK_SECRET_KEY": "sk_live_standin"}
    result = CliRunner().invoke(commands, line, env={**unset, **known, **environment})
    assert isinstance(result.exception, ClerkSupabaseError | Failure | SystemExit | None), result.exception
    return "\n".join([result.output, *all_said(result.exception)])


def test_the_commands_that_take_a_connection_string_are_found_by_themselves() -> None:
    assert {"migrate", "setup", "doctor", "dev", "status", "reconcile", "resync", "undo", "explain"} <= TAKING.keys()
    assert {"secure", "parked list", "parked show", "parked replay", "parked discard"} <= TAKING.keys()


@pytest.mark.parametrize("name", TAKING)
def test_no_command_prints_a_part_of_a_connection_string(
    name: str, world: World, empty_aws: dict[str, str], own_strings: Decorator
) -> None:
    command = TAKING[name]
    option = option_of(command)
    is_option_only = option is not None and not option.envvar

    @own_strings
    @example(text=f"postgresql://postgres:{CANARY}%Pw@localhost:PORT/postgres", as_json=False)
    @example(text=f"postgresql://postgres:x@{CANARY}@localhost:PORT/postgres", as_json=True)
    @example(text=f"postgresql://postgres:{CANARY}@localhost:PORT/postgres", as_json=False)
    @example(text=f"postgresql://{CANARY}:x@localhost:PORT/postgres", as_json=True)
    @example(text=f"postgresql://postgres:x@{CANARY}/postgres", as_json=False)
    @given(text=broken_strings(), as_json=st.booleans())
    def nothing_is_found(text: str, as_json: bool) -> None:
        given_text = at_server(text, world)
        line = typed(name, command, world)
        if as_json and any("--json" in each.opts for each in command.params):
            line.append("--json")
        # No environment holds a NUL.
        if not is_option_only and "\x00" not in given_text:
            assert not found_in(said_to(line, {**empty_aws, **dict.fromkeys(VARIABLES, given_text)}))
        if option is not None:
            assert not found_in(said_to([*line, f"--database-url={given_text}"], empty_aws))

    nothing_is_found()


def test_setup_refuses_a_broken_string_and_says_how_to_encode_it(world: World, empty_aws: dict[str, str]) -> None:
    broken = dict.fromkeys(VARIABLES, f"postgresql://clerk_sync_worker:{CANARY}%Pw@h/d")
    said = said_to(typed("setup", TAKING["setup"], world), {**empty_aws, **broken})
    for name in ("SYNC_DATABASE_URL", "SESSION_DATABASE_URL"):
        assert f"the connection string in {name} cannot be used: it contains a % that begins no escape" in said


@pytest.mark.parametrize("name", TAKING)
@pytest.mark.parametrize("place", ["first", "last", "of another option"])
def test_a_connection_string_in_the_wrong_place_is_not_repeated(name: str, place: str, world: World) -> None:
    misplaced = f"postgresql://postgres:{CANARY}@localhost/postgres"
    line = typed(name, TAKING[name], world)
    lines = {
        "first": [misplaced, *line],
        "last": [*line, misplaced],
        "of another option": [*line, "--limit", misplaced],
    }
    said = said_to(lines[place], {})
    assert "is only taken by --database-url" in said
    assert not found_in(said)


def test_an_error_of_main_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["clerk-supabase", "migrate"])
    monkeypatch.setenv("DATABASE_URL", f"postgresql://postgres:{CANARY}%Pw@localhost/postgres")
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "write %25" in printed.err
    assert not found_in(printed.err)


# The search itself


@pytest.mark.parametrize("shape", ["postgresql://u:{}%Pw@h/d", "postgresql://u:x@{}/d?hostaddr=127.0.0.1&port=x"])
def test_the_search_finds_text_of_libpq(shape: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        psycopg.connect(shape.format(CANARY))
    assert found_in("".join(all_said(caught.value))) or "port" in str(caught.value)


def test_the_search_looks_behind_an_error() -> None:
    def raising() -> None:
        try:
            int(CANARY)
        except ValueError:
            raise SetUpWrong("words of our own") from None

    with pytest.raises(SetUpWrong) as caught:
        raising()
    assert not found_in("".join(traceback.format_exception(caught.value, chain=False)))
    assert found_in("".join(all_said(caught.value)))
