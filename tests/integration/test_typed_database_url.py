"""The owner's connection string on standard input, invisible in lists of processes."""

from __future__ import annotations

import click
import pytest

from clerk_supabase_cli.main import commands
from clerk_supabase_cli.options import checked_database_url, given_database_url
from tests.integration.test_broken_connection_strings import option_of, tree
from tests.kit.databases import Database
from tests.kit.parked import Command

TAKING = {" ".join(path): option for path, command in tree(commands) if (option := option_of(command)) is not None}


def test_commands_find_the_database_by_a_string_on_standard_input(database: Database) -> None:
    command = Command({})
    line = f"{database.url}\r\nthis is left to others\n"
    assert command.run("parked", "list", "--database-url", "-", answer=line).stdout == "0 events\n"
    assert command.run("status", "--json", "--database-url", "-", answer=line).stdout
    assert command.run("reconcile", "runs", "--json", "--database-url=-", answer=line).stdout


@pytest.mark.parametrize("name", TAKING)
def test_every_command_with_the_option_reads_it(name: str) -> None:
    assert isinstance(TAKING[name], click.Option)
    assert TAKING[name].callback in (given_database_url, checked_database_url)


@pytest.mark.parametrize("line", ["", "\n", "postgresql://u:S3cret%Pw@host/postgres\n"])
def test_a_text_that_is_no_connection_string_is_refused_and_not_quoted(line: str) -> None:
    done = Command({}).run("explain", "user_1", "--database-url", "-", answer=line, status=1)
    assert "the connection string in --database-url or DATABASE_URL cannot be used" in str(done.exception)
    assert "S3cret" not in done.output + repr(done.exception)
