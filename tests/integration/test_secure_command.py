"""`clerk-supabase secure`: a table of the app is protected from the shell as by the function in SQL."""

from __future__ import annotations

import pytest

from tests.integration.databases import Connection, Database, acting_as, rows
from tests.integration.parked import Command


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    admin.execute("create table public.notes (id bigint generated always as identity primary key, name text)")
    return Command({"DATABASE_URL": database.url})


def policies(admin: Connection) -> list[str]:
    found = rows(admin, "select polname::text from pg_policy where polrelid = 'public.notes'::regclass order by 1")
    return [name for (name,) in found]


def test_each_user_sees_their_own_rows_afterwards(command: Command, admin: Connection) -> None:
    printed = command.run("secure", "public.notes", "user")
    assert "create policy clerk_sync_select" in printed.stdout
    assert "is secured" in printed.stderr
    for user_id in ("user_ada", "user_eve"):
        with acting_as(admin, "authenticated", {"sub": user_id}):
            admin.execute("insert into public.notes (name) values ('mine')")
            assert rows(admin, "select user_id from public.notes") == [(user_id,)]


def test_a_dry_run_prints_the_same_and_changes_nothing(command: Command, admin: Connection) -> None:
    looked = command.json("secure", "public.notes", "user", "--dry-run")
    assert policies(admin) == []
    done = command.json("secure", "public.notes", "user")
    assert (looked["changed"], done["changed"]) == (False, True)
    assert looked["statements"] == done["statements"]
    assert len(policies(admin)) == 4


def test_it_is_safe_to_run_twice(command: Command, admin: Connection) -> None:
    command.run("secure", "public.notes", "user")
    before = policies(admin)
    command.run("secure", "public.notes", "user")
    assert policies(admin) == before


def test_roles_of_an_organization_say_who_writes_and_who_deletes(command: Command, admin: Connection) -> None:
    roles = ["--write-role", "org:admin", "--write-role", "org:editor", "--delete-role", "org:admin"]
    sql = "\n".join(command.json("secure", "public.notes", "organization", *roles)["statements"])
    assert "{org:admin,org:editor}" in sql
    assert "{org:admin}" in sql


def test_a_table_can_be_read_only_for_its_members(command: Command, admin: Connection) -> None:
    sql = "\n".join(command.json("secure", "public.notes", "organization", "--read-only")["statements"])
    assert "'{}'" in sql


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["public.nothing", "user"], "does not exist: spell it schema.table"),
        (["public.users", "user"], "cannot be secured"),
        (["public.notes", "organization", "--write-role", "admin"], "a role is spelled org:<role>"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_why(arguments: list[str], said: str, command: Command) -> None:
    failed = command.run("secure", *arguments, status=1)
    assert said in str(failed.exception)


@pytest.mark.parametrize("options", [["--read-only"], ["--write-role", "org:admin"]])
def test_a_user_has_no_roles(options: list[str], command: Command) -> None:
    assert "roles are of organizations" in command.run("secure", "public.notes", "user", *options, status=2).output


def test_policies_that_allow_more_are_named_and_dropped_only_when_told(command: Command, admin: Connection) -> None:
    admin.execute("create policy open_to_all on public.notes using (true)")
    assert "open_to_all" in str(command.run("secure", "public.notes", "user", status=1).exception)
    command.run("secure", "public.notes", "user", "--replace-policies")
    assert "open_to_all" not in policies(admin)
