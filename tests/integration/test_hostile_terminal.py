"""The command answers every argument and stored text in words, and sends no control characters to the terminal."""

from __future__ import annotations

import io
import json
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import click
import psycopg
import pytest
from psycopg import sql

from clerk_supabase.model.changes import Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.telemetry import logger
from clerk_supabase_cli.main import commands, main
from clerk_supabase_cli.operate.comparing import _log_on_stderr
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from tests.kit.cases import Share
from tests.kit.databases import Connection, Database, rows
from tests.kit.parked import created, park
from tests.kit.reconciling import Rig, rig_with

KEY: Final = "sk_live_standin"
FORGED: Final = "FORGED: all is well"
UNSEEN: Final = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\x7f", "\x08", "\r", "\t", "\x85", "\u202e", "\u2066", "\u2028"),
    *(f"\n{FORGED}", "\udcff", "\x00"),
]
SEEN: Final = [
    *("..", "../env", "../../etc/passwd", "user_../../x", "user_..", "org_..%2f..", "/", "\\", "~", "%2e%2e/", "-", ""),
    *(
        "[red]x[/red]",
        "[/]",
        "{}",
        "{0}",
        "%s",
        "%(x)s",
        "$(id)",
        "`id`",
        "'; drop table users; --",
        '"',
        "*",
        "?a=b&c",
    ),
    *("user_" + "x" * 3000, "0", "-1", "9" * 40, "1e400", "nan", "ж", "𝕏", "http://[", "http://\xad", "https://", "@"),
    *(
        "postgresql://[",
        "postgresql://user:p%zz@127.0.0.1:1/x",
        "arn:aws:x",
        "user_ä b",
        "public.tasks",
        "user.created",
    ),
]
# Commands that start a stack, serve until Ctrl-C, or explore for minutes; they are tried with refused arguments.
LASTING: Final = {"console", "demo", "dev", "simulate"}
# Commands that look at the whole database, or at AWS, for each line: some values, as others read them in the same way.
SLOW: Final = {
    *(("doctor",), ("status",), ("reconcile",), ("migrate",), ("expose",), ("uninstall",)),
    ("adopt", "inspect"),
}


class Hostile(BaseHTTPRequestHandler):
    """Somebody else's server where AWS, Clerk or the API of an app should be: each answer tries to command."""

    WORDS: Final = f"denied \x9b2J\u202e[red]x[/red]\n{FORGED}\x1b[2J\x7f"

    def do_GET(self) -> None:
        errors = {"errors": [{"code": self.WORDS, "message": self.WORDS}], "keys": self.WORDS, "id": self.WORDS}
        self._answer("application/json", json.dumps(errors))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if "form" in self.headers.get("content-type", ""):
            # XML can hold no escape character.
            words = self.WORDS.replace("\x1b", "")
            xml = f"<ErrorResponse><Error><Code>Denied</Code><Message>{words}</Message></Error></ErrorResponse>"
            self._answer("text/xml", xml)
        else:
            self._answer("application/x-amz-json-1.1", json.dumps({"__type": "Denied", "message": self.WORDS}))

    def _answer(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(403)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def hostile_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@dataclass(frozen=True)
class Ended:
    """The end of a command, and all its output."""

    status: int
    printed: str

    def is_in_words(self) -> bool:
        """Tells whether the output names the fault, if there is one, and holds nothing that a terminal would obey."""
        lines = self.printed.split("\n")
        return (
            self.status in {0, 1, 2, 3}
            and (self.status == 0 or bool(self.printed.strip()))
            and "Traceback" not in self.printed
            # click indents the values that an argument may have.
            and all(line.removeprefix("\t").isprintable() for line in lines)
            and not any(line.lstrip().startswith(FORGED) for line in lines)
        )


@dataclass
class Operator:
    """An operator who types `clerk-supabase ...` in a checkout of their own."""

    environment: dict[str, str]
    capture: pytest.CaptureFixture[str]

    def types(self, *arguments: str, stdin: str = "", **environment: str) -> Ended:
        """Runs the command as the shell would. Fails unless the command ends in words."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.environment, **environment}.items():
                # Characters that a shell cannot put into the environment.
                patch.setenv(name, value.replace("\x00", ""))
            patch.setattr(sys, "argv", ["clerk-supabase", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode(errors="surrogateescape"))))
            status = ran()
        captured = self.capture.readouterr()
        ended = Ended(status, captured.out + captured.err)
        assert ended.is_in_words(), f"{arguments!a} {environment!a}: {status}\n{ended.printed!a}"
        return ended


def ran() -> int:
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    """Three users in Clerk, and an empty database."""
    with rig_with(database, 3) as rig:
        rig.api.answers.key = KEY
        yield rig


@pytest.fixture
def checkout(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder: a checkout that a test may write into."""
    for name in ("template.yaml", "sql", "events"):
        (tmp_path / name).symlink_to(root / name)
    monkeypatch.setenv(CHECKOUT_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def operator(checkout: None, rig: Rig, hostile_url: str, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Has a good database and a good Clerk, and a hostile AWS."""
    environment = {"DATABASE_URL": rig.database.url, "CLERK_API_URL": rig.api.url, "CLERK_SECRET_KEY": KEY}
    environment |= {"AWS_ENDPOINT_URL": hostile_url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    return Operator(environment | {"AWS_REGION": "eu-central-1", "NO_PROXY": "127.0.0.1"}, capsys)


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command without sub-commands, and the words that name it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from leaves(found, (*path, name))
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path, command


# The commands about the made-up Clerk instance do the same with their arguments, and no `dev` runs here.
OF_CLERK: Final = {("clerk", *rest) for rest in (("user", "update"), ("membership", "accept"), ("play",))}
LEAVES: Final = {path: each for path, each in leaves(commands) if path[0] != "clerk" or path in OF_CLERK}
NUMBERS: Final = {path: number for number, path in enumerate(LEAVES)}
# So many commands share the values, because all commands read and print in the same way.
SHARING: Final = 3


def typed(command: click.Command, values: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Arguments for a command: all required ones, some of the optional ones, each with one of these values."""
    arguments = []
    for parameter in command.params:
        value = chance.choice(values)
        if isinstance(parameter, click.Argument):
            arguments.append(value)
        elif parameter.opts[0] in {"--database-url", "--watch"}:
            # Faults of connection strings are the subject of another test, and a watch goes on until Ctrl-C.
            continue
        elif parameter.required or chance.random() < 0.3:
            is_flag = isinstance(parameter, click.Option) and parameter.is_flag
            yield from [parameter.opts[0]] if is_flag else [parameter.opts[0], value]
    yield from arguments


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_no_argument_that_cannot_be_seen_is_taken_or_printed(path: tuple[str, ...], operator: Operator) -> None:
    chance = random.Random(str(path))
    for unseen in UNSEEN:
        for value in (unseen, f"user_{unseen}x", f"../{unseen}"):
            ended = operator.types(*path, *typed(LEAVES[path], [value], chance), value)
            assert ended.status == 2
            assert "cannot be seen" in ended.printed


@pytest.mark.parametrize("path", [path for path in LEAVES if path[0] not in LASTING], ids=" ".join)
def test_every_odd_argument_is_answered_in_words(path: tuple[str, ...], operator: Operator, some: Share) -> None:
    chance = random.Random(str(path))
    values = chance.sample(SEEN, 4) if path in SLOW else some(SEEN, NUMBERS[path], SHARING)
    # Often none of the optional arguments is typed: the same line again would get the same answer.
    lines = {tuple(typed(LEAVES[path], [value, value, chance.choice(SEEN)], chance)): value for value in values}
    for arguments, value in lines.items():
        operator.types(*path, *arguments, stdin=value)


@pytest.mark.parametrize("name", sorted(LASTING))
def test_commands_that_take_long_refuse_odd_arguments_first(name: str, operator: Operator) -> None:
    option = {"console": "--port", "demo": "--users", "dev": "--port", "simulate": "--runs"}[name]
    for value in SEEN:
        assert operator.types(name, option, f"x{value}").status == 2
        assert operator.types(name, f"--{value}x").status == 2


# Set by the shell, or by a file that a checkout brings along.
VARIABLES: Final = [
    *("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "CLERK_API_URL", "CLERK_PUBLISHABLE_KEY", "CLERK_SECRET_KEY"),
    *("CLERK_SUPABASE_STACK", "CLERK_WEBHOOK_SIGNING_SECRET", "SUPABASE_JWT_SECRET", "SUPABASE_URL"),
]


@pytest.mark.parametrize("path", [path for path in LEAVES if path[0] not in LASTING], ids=" ".join)
def test_nothing_in_the_environment_commands_the_terminal(
    path: tuple[str, ...], operator: Operator, some: Share
) -> None:
    chance = random.Random(str(path))
    # Each variable with one of them; over all commands, with each of them.
    tried = [*zip(VARIABLES, chance.sample(UNSEEN, len(VARIABLES)), strict=True)]
    for variable, unseen in some(tried, NUMBERS[path], SHARING):
        arguments = typed(LEAVES[path], ["user_1", "1", "user.created"], chance)
        operator.types(*path, *arguments, stdin=unseen, **{variable: f"http://{unseen}[red]"})


@pytest.mark.parametrize("path", [path for path in LEAVES if path[0] not in LASTING], ids=" ".join)
def test_no_answer_of_aws_or_clerk_commands_the_terminal(
    path: tuple[str, ...], operator: Operator, hostile_url: str, some: Share
) -> None:
    chance = random.Random(str(path))
    values = ("user_1", "1", "user.created", "public.tasks")
    times = 1 if path in SLOW else 3
    lines = {tuple(typed(LEAVES[path], [value], chance)): None for value in values for _ in range(times)}
    # Mostly three lines in a row have the same value, and every other line has each value.
    for arguments in some([*lines], NUMBERS[path], 2):
        operator.types(*path, *arguments, CLERK_API_URL=hostile_url, CLERK_SUPABASE_STACK="stack")
    options = {"event": ["--url", hostile_url], "token verify": ["--jwks-url", hostile_url]}.get(" ".join(path))
    if options:
        assert operator.types(*path, "user.created", *options).status == 1


def test_an_unknown_command_is_refused(operator: Operator) -> None:
    for value in SEEN:
        assert operator.types(f"x{value}").status == 2


@pytest.mark.parametrize(
    "object_id", ["user_../../x", "user_..", "..", "org_a/b", "org_%2e%2e", "user_", "usr_1", "user_é"]
)
def test_a_text_that_is_no_id_is_not_put_into_a_path_of_clerks_api(
    object_id: str, operator: Operator, rig: Rig
) -> None:
    ended = operator.types("resync", object_id)
    assert ended.status == 2
    assert "is no id of a user (user_...) or an organization (org_...)" in " ".join(ended.printed.split())
    assert rig.api.counts.total() == 0


HOSTILE_TEXT: Final = f"\x1b[2J\x9b2J\u202e\u2066[red]x[/red]\n{FORGED}\x7f\r\t\x85\u2028\n  {FORGED}"
_TEXTS: Final = """
    select c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
    from pg_class as c join pg_attribute as a on a.attrelid = c.oid
    where c.relnamespace = 'clerk_sync'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
    and format_type(a.atttypid, a.atttypmod) in ('text', 'text[]') and a.attname <> all (%s)
"""


def overwrite(admin: Connection, *, but: Sequence[str]) -> int:
    """Puts hostile text wherever the tables of the machinery take any. Returns into how many columns."""
    taken = 0
    for table, column, kind in rows(admin, _TEXTS, list(but)):
        name = sql.Identifier("clerk_sync", table)
        value = [HOSTILE_TEXT] if kind == "text[]" else HOSTILE_TEXT
        # A value that a check, a key or a trigger refuses cannot be in the database.
        with suppress(psycopg.DatabaseError):
            changed = admin.execute(sql.SQL("update {} set {} = %s").format(name, sql.Identifier(column)), [value])
            taken += changed.rowcount > 0
    return taken


def seed(rig: Rig, operator: Operator) -> None:
    """Stores a user, a delivery, a run with findings and two parked events, in the usual way."""
    park(rig.store, "msg_1", created("user_1"), reason="because")
    park(rig.store, "msg_2", b"no JSON", reason_class="unusable")
    event = parse_event(json.dumps(created("user_1")).encode())
    rig.store.apply([(changes_of(event, event.timestamp), Delivery("msg_3", event.type, event.timestamp))])
    operator.types("reconcile")


def test_nothing_in_the_database_commands_the_terminal(operator: Operator, rig: Rig, admin: Connection) -> None:
    seed(rig, operator)
    ids = ("svix_id", "entity_id", "id", "user_id")
    assert overwrite(admin, but=("name", *ids)) > 8
    printed = "".join(
        operator.types(*arguments).printed
        for arguments in (("explain", "user_1"), ("parked", "show", "msg_1"), ("parked", "show", "msg_2"), ("status",))
    )
    assert "\\x1b[2J" in printed
    # One row of each table, so that its ids can be as hostile as the rest.
    admin.execute("delete from clerk_sync.parked_events where svix_id = 'msg_2'")
    overwrite(admin, but=())
    for path in LEAVES:
        if path[0] not in LASTING:
            for value in ("user_1", "1"):
                operator.types(*path, *([value] if takes_one(LEAVES[path]) else []))


def takes_one(command: click.Command) -> bool:
    return any(isinstance(parameter, click.Argument) for parameter in command.params)


def test_no_name_in_the_database_commands_the_terminal(operator: Operator, admin: Connection) -> None:
    policy = table = sql.Identifier(HOSTILE_TEXT[:40])
    admin.execute(sql.SQL("create table clerk.{} (user_id text)").format(table))
    admin.execute("create table public.hostile (id int)")
    admin.execute(sql.SQL("create policy {} on public.hostile for select using (true)").format(policy))
    refused = operator.types("secure", "public.hostile", "user")
    assert refused.status == 1
    assert "\\x1b[2J" in refused.printed
    replaced = operator.types("secure", "public.hostile", "user", "--replace-policies")
    assert "\\x1b[2J" in replaced.printed
    operator.types("doctor")


def test_no_line_of_the_log_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with _log_on_stderr():
        logger.warning("of Clerk", reason=HOSTILE_TEXT)
    written = capsys.readouterr().err
    assert "of Clerk" in written
    assert all(line.isprintable() for line in written.split("\n"))
