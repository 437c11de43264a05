"""A database that hangs: nothing waits for it for long, everything says so, and goes on when it answers again."""

from __future__ import annotations

import operator
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.database import DatabaseUnreachable, Patience, open_database, why_unreachable
from clerk_supabase_cli.operate.monitor import status
from clerk_supabase_cli.operate.monitor.outages import Outages
from tests.kit.console import opened
from tests.kit.databases import Database
from tests.kit.polling import eventually
from tests.kit.proxy import CountingProxy

SHORT = Patience(connect=2, silence=0.3, proof=2)
# A loaded machine may take long for a proof of life.
LONG = Patience(connect=60, silence=0.3, proof=60)
SILENT = r"no answer within 2\.3 s, nor to another connection"
SINCE = re.compile(r"database has not answered since ([-0-9: ]+) UTC")


@pytest.fixture
def proxy(shared_database: Database) -> Iterator[CountingProxy]:
    with CountingProxy(shared_database.server.port) as between:
        yield between


@pytest.fixture
def url(proxy: CountingProxy, shared_database: Database) -> str:
    server = f"127.0.0.1:{shared_database.server.port}/"
    return shared_database.url.replace(server, f"127.0.0.1:{proxy.port}/")


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this test, whose processes may be stopped."""
    with EmbeddedPostgres() as postgres:
        yield postgres


@contextmanager
def one_connection(owner: str) -> Iterator[str]:
    """The name, and the password, of a role that may have one connection."""
    with psycopg.connect(owner, autocommit=True) as admin:
        admin.execute("create role just_one login connection limit 1 password 'just_one'")
        yield "just_one"
        eventually(
            lambda: admin.execute("select usename from pg_stat_activity where usename = 'just_one'").fetchall(),
            operator.not_,
        )
        admin.execute("drop role just_one")


def test_a_slow_statement_is_waited_for_also_when_the_server_takes_no_other_connection(
    shared_database: Database,
) -> None:
    with one_connection(shared_database.url) as role:
        url = shared_database.server.url(shared_database.name, role, role)
        with open_database(url, LONG) as connection:
            assert connection.execute("select 1 from pg_sleep(1)").fetchall() == [(1,)]


def test_no_answer_to_a_statement_or_to_a_new_connection_is_an_outage(url: str, proxy: CountingProxy) -> None:
    patience = Patience(connect=60, silence=0.3, proof=2, asks_server=True)
    with ExitStack() as stack:
        connection = stack.enter_context(open_database(url, patience))
        proxy.hold()
        with pytest.raises(DatabaseUnreachable, match=f"{SILENT}; the server on this machine is stopped"):
            connection.execute("select 1")
        assert connection.closed
    assert "no answer in the time to connect" in str(why_unreachable(url, SHORT))
    proxy.go_on()
    eventually(lambda: why_unreachable(url, SHORT), operator.not_)


def test_a_pooler_that_lets_in_and_has_no_server_is_an_outage_too(url: str, proxy: CountingProxy) -> None:
    proxy.hold(statements_only=True)
    assert re.search(SILENT, str(why_unreachable(url, Patience(connect=60, silence=0.3, proof=2, asks_server=True))))


def test_a_stopped_server_is_told_with_a_begin_that_does_not_move(server: EmbeddedPostgres) -> None:
    outages = Outages()
    with psycopg.connect(server.url()):
        os.kill(server.process_id, signal.SIGSTOP)
        try:
            told = [status.look(server.url(), lambda: None, None, outages).problems for _ in range(2)]
        finally:
            os.kill(server.process_id, signal.SIGCONT)
    [begin] = {SINCE.findall(problem)[0] for problems in told for problem in problems}
    assert begin
    assert "is stopped, paused or overloaded" in told[1][0]
    eventually(lambda: status.look(server.url(), lambda: None, None, outages).outage, operator.not_)


def test_the_console_says_since_when_a_database_hangs_and_goes_on_afterwards(url: str, proxy: CountingProxy) -> None:
    with opened(url) as visitor:
        visitor.sees("as a whole")
        proxy.hold()
        page = visitor.sees("The database has not answered since")
        assert "as a whole" not in page
        assert SINCE.findall(visitor.get().text) == SINCE.findall(page)
        timeline = visitor.get("timeline?id=user_1")
        assert timeline.status_code == 503
        assert "no answer" in timeline.text
        proxy.go_on()
        visitor.sees("as a whole")
