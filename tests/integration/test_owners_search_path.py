"""Commands of the owner call no function that somebody has planted in a schema of the app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.database import connect, open_database
from tests.kit.databases import Connection, Database, rows, value

OURS = "pg_catalog, pg_temp"
# Each fits the arguments of a call of ours better than the function of Postgres with the same name.
PLANTED = """
    create table public.called (by text);
    create function public.array_to_string(text[], text) returns text language plpgsql as $$
    begin insert into public.called values ('array_to_string'); return 'planted'; end $$;
    create function public.format(text, name, name) returns text language plpgsql as $$
    begin insert into public.called values ('format'); return 'planted'; end $$;
    create function public.brin_desummarize_range(regclass, integer) returns void language plpgsql as $$
    begin insert into public.called values ('brin_desummarize_range'); end $$;
"""
CALLED = "select by from public.called"
LEFT_OUT = """
    insert into clerk_sync.dropped_fields (kind, entity_id, svix_id, fields) values ('user', 'user_1', 'msg_1', '{a}')
"""


@pytest.fixture
def planted(admin: Connection) -> Connection:
    """A database whose app has functions that match better than the functions of Postgres."""
    admin.execute(PLANTED)
    admin.execute(LEFT_OUT)
    return admin


def test_a_connection_of_anybody_else_would_call_what_is_planted(planted: Connection) -> None:
    assert value(planted, "select array_to_string(fields, ', ') from clerk_sync.dropped_fields") == "planted"
    assert value(planted, CALLED) == "array_to_string"


@pytest.mark.parametrize("arguments", [["explain", "user_1"], ["doctor"]], ids=" ".join)
def test_no_command_calls_a_planted_function(arguments: list[str], planted: Connection, database: Database) -> None:
    result = CliRunner().invoke(commands, arguments, env={"DATABASE_URL": database.url})
    assert result.exit_code in {0, 1}, result.output
    assert "planted" not in result.output
    assert rows(planted, CALLED) == []


def test_no_migration_calls_a_planted_function(new_database: str) -> None:
    with psycopg.connect(new_database, autocommit=True) as connection:
        connection.execute(PLANTED)
        result = CliRunner().invoke(commands, ["migrate", "--plain-postgres"], env={"DATABASE_URL": new_database})
        assert result.exit_code == 0, result.output
        assert rows(connection, CALLED) == []


def test_every_connection_of_the_command_is_made_here_but_those_to_servers_that_it_started(root: Path) -> None:
    package = root / "cli" / "clerk_supabase_cli"
    with_own = {file.relative_to(package) for file in package.rglob("*.py") if "psycopg.connect(" in file.read_text()}
    to_throw_away = {
        Path("local") / name for name in ("app/app.py", "app/storage/callers.py", "demo.py", "postgres.py")
    }
    assert {file for file in with_own - to_throw_away if file.parts[0] != "simulator"} == set()


PATH = "select current_setting('search_path')"


@pytest.mark.parametrize(
    "look",
    [
        lambda connection: connection.execute(PATH).fetchall(),
        lambda connection: connection.cursor().execute(PATH).fetchall(),
    ],
    ids=["connection", "cursor"],
)
@pytest.mark.parametrize("autocommit", [True, False])
def test_every_statement_has_our_search_path_and_the_session_keeps_its_own(
    database: Database, look: Callable[[Connection], list[tuple[str]]], *, autocommit: bool
) -> None:
    with connect(database.url, autocommit=autocommit) as connection:
        assert look(connection) == [(OURS,)]
        connection.rollback()
        with connection.transaction():
            assert look(connection) == [(OURS,)]
            with connection.transaction(force_rollback=True):
                assert look(connection) == [(OURS,)]
            assert look(connection) == [(OURS,)]
        assert look(connection) == [(OURS,)]
        connection.rollback()
        # As the next client of a transaction pooler would find it.
        answer = connection.pgconn.exec_(PATH.encode())
        assert answer.get_value(0, 0) == b'"$user", public'


def test_a_failed_statement_leaves_a_usable_connection(database: Database) -> None:
    with connect(database.url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select * from users")
        assert connection.execute(PATH).fetchall() == [(OURS,)]
    with open_database(database.url) as connection:
        assert connection.execute("select count(*) from clerk.users").fetchall() == [(0,)]
