"""A database that cannot be reached: every command prints one line that names the fault and the next step."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.main import main
from clerk_supabase_cli.operate.database import why_unreachable
from clerk_supabase_cli.operate.reachability import advice
from tests.kit.databases import Database
from tests.kit.refusing_pooler import refusing

Said = Callable[..., str]

WRONG = "postgresql://postgres:S3cretPw"
COMMANDS = (
    *("migrate", "migrate --plain-postgres", "migrate --repair", "uninstall --dry-run", "retention", "explain user_1"),
    *("secure public.t user", "parked list", "export user_1", "reconcile runs", "resync user_1", "undo 1"),
)


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command with a connection string, and returns what it printed: a single line of an error."""

    def run(url: str, command: str = "migrate") -> str:
        monkeypatch.setattr(sys, "argv", ["clerk-supabase", *command.split()])
        monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_standin")
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code, printed.out, printed.err.count("\n")) == (1, "", 1), printed.err
        assert "S3cret" not in printed.err
        return printed.err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_the_same_of_a_wrong_password(command: str, said: Said, shared_database: Database) -> None:
    line = said(f"{WRONG}@127.0.0.1:{shared_database.server.port}/{shared_database.name}", command)
    assert "password authentication failed" in line
    assert "set a new one under Database Settings" in line


def test_a_database_that_does_not_exist_is_told_from_a_wrong_password(said: Said, shared_database: Database) -> None:
    line = said(shared_database.server.url("not_there"))
    assert "no such role or database; correct the user and the name at the end of the string" in line


def test_a_server_without_ssl_is_met_with_the_parameter_that_works(said: Said, shared_database: Database) -> None:
    assert "?sslmode=disable" in said(f"{shared_database.url}?sslmode=require")


@pytest.mark.parametrize("parameters", ["sslmode=require", "sslmode=verify-full&sslrootcert=/nowhere/ca.crt"])
def test_a_server_whose_tls_does_not_fit_the_string_has_no_outage(shared_database: Database, parameters: str) -> None:
    """No begin of an outage is said, nor remembered for the commands that connect in the right way."""
    error = why_unreachable(f"{shared_database.url}?{parameters}")
    assert error is not None
    assert not error.is_outage


def test_a_database_without_a_free_connection_is_named(said: Said, shared_database: Database) -> None:
    with shared_database.connect() as admin:
        role = sql.SQL("create role one_too_many login connection limit 0 password {}")
        admin.execute(role.format(shared_database.worker_password))
    try:
        url = shared_database.server.url(shared_database.name, "one_too_many", shared_database.worker_password)
        assert "too many connections; close sessions" in said(url)
    finally:
        with psycopg.connect(shared_database.server.url(), autocommit=True) as admin:
            admin.execute("drop role one_too_many")


def test_a_port_a_host_and_a_server_without_an_answer_are_told_apart(said: Said) -> None:
    assert "nothing listens at this host and port; start the server" in said(f"{WRONG}@127.0.0.1:{free_port()}/d")
    assert "has no address in DNS; check its spelling" in said(f"{WRONG}@db.invalid/d")
    with silent() as port:
        assert "is stopped, paused or overloaded" in said(f"{WRONG}@127.0.0.1:{port}/d?connect_timeout=2")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_the_advice_fits_the_address(host: str) -> None:
    reason = "no answer in the time to connect"
    assert advice(reason, host).startswith("the server on this machine is stopped")
    for words in ("paused", "pooler", "firewall"):
        assert words in advice(reason, "db.abc.supabase.co")
    assert "dashboard" not in advice("connection refused: nothing listens", host)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("(ENOTFOUND) tenant/user S3cret.abcd not found", "the user must be ROLE.PROJECT"),
        ("(EMAXCONNSESSION) max clients reached, S3cret", "use its transaction mode (port 6543)"),
        ("(ECIRCUITBREAKER) too many S3cret", "and wait"),
        ("something S3cret that nobody knows", "copy the string again from Connect in Supabase's dashboard"),
    ],
)
def test_a_pooler_that_refuses_is_not_quoted(message: str, words: str, said: Said) -> None:
    with refusing(message) as port:
        assert words in said(f"{WRONG}@127.0.0.1:{port}/postgres?sslmode=disable")


def test_a_text_that_is_no_connection_string_is_named_by_its_source(said: Said) -> None:
    assert "the connection string in --database-url or DATABASE_URL cannot be used" in said("foo")
