"""`clerk-supabase secure-bucket`: the files of a bucket are protected from the shell as by the function in SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerk_supabase_cli.operate.uninstall.run import look
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.doctoring import Doctor
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command
from tests.kit.polling import eventually

# The parts of Storage's schema that matter for a policy.
_STORAGE = """
    create schema storage;
    grant usage on schema storage to authenticated;
    create table storage.buckets (id text primary key, public boolean default false);
    create table storage.objects (id int generated always as identity, bucket_id text, name text);
    alter table storage.objects enable row level security;
    grant all on storage.objects to authenticated;
    create function storage.foldername(name text) returns text[] language sql immutable
    as 'select (string_to_array(name, ''/''))[1 : cardinality(string_to_array(name, ''/'')) - 1]';
    insert into storage.buckets (id) values ('private'), ('teams');
    insert into storage.objects (bucket_id, name) values ('private', 'user_ada/a.png'), ('private', 'b.png');
"""


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    admin.execute(_STORAGE)
    return Command({"DATABASE_URL": database.url})


def policies(admin: Connection) -> list[str]:
    found = rows(admin, "select polname::text from pg_policy where polrelid = 'storage.objects'::regclass order by 1")
    return [name for (name,) in found]


def files(admin: Connection, person: str) -> list[str]:
    with acting_as(admin, "authenticated", {"sub": person}):
        return [name for (name,) in rows(admin, "select name from storage.objects")]


def test_the_files_of_a_bucket_are_protected_after_a_dry_run_and_given_up_again(
    command: Command, admin: Connection, doctor: Doctor, root: Path
) -> None:
    tried = command.run("secure-bucket", "private", "user", "--dry-run")
    assert "1 file of private will belong to nobody" in tried.stderr
    assert policies(admin) == []
    done = command.run("secure-bucket", "private", "user")
    assert (tried.stdout, "private is secured: 4 statements" in done.stderr) == (done.stdout, True)
    assert (files(admin, "user_ada"), files(admin, "user_eve")) == (["user_ada/a.png"], [])

    # For callers with a plan, only after a question.
    for_some = ("secure-bucket", "private", "user", "--plan", "u:pro", "--from-mirror")
    asked = command.run(*for_some, answer="n\n", status=1).stderr
    assert "read by owner, for callers with the mirrored plan user:pro." in asked
    assert files(admin, "user_ada") == ["user_ada/a.png"]
    command.run(*for_some, "--yes")
    assert (files(admin, "user_ada"), doctor.verdict("row-level-security")[0]) == ([], "ok")
    command.run("secure-bucket", "private", "user", "--yes")

    # To other owners, and back to nobody, only after a question.
    turn = ("secure-bucket", "private", "organization", "--write-role", "org:admin")
    assert "owned by user, read by owner. Then: " in command.run(*turn, answer="n\n", status=1).stderr
    assert "Add --yes" in str(command.run(*turn, "--json", status=1).exception)
    assert files(admin, "user_ada") == ["user_ada/a.png"]
    [secured] = look(admin, root).secured
    assert (secured.table, len(secured.statements)) == ("storage.objects", 4)
    assert doctor.verdict("row-level-security")[0] == "ok"
    admin.execute("update storage.buckets set public = true")
    verdict, words = doctor.verdict("row-level-security")
    assert (verdict, "the bucket private: it is public" in words, "teams" in words) == ("fail", True, False)
    admin.execute("update storage.buckets set public = false")
    admin.execute("alter policy clerk_sync_select_private on storage.objects rename to mine")
    verdict, words = doctor.verdict("row-level-security")
    assert (verdict, "its policy clerk_sync_select_private is missing" in words) == ("fail", True)
    admin.execute("alter policy mine on storage.objects rename to clerk_sync_select_private")
    assert "No user will read" in command.run("secure-bucket", "private", "--remove", answer="n\n", status=1).stderr
    command.run("secure-bucket", "private", "--remove", "--yes")
    assert policies(admin) == []


def test_a_policy_of_the_app_that_allows_more_changes_only_after_a_question(
    command: Command, admin: Connection
) -> None:
    admin.execute("create policy theirs on storage.objects to authenticated using (true)")
    failed = str(command.run("secure-bucket", "private", "user", status=1).exception)
    assert "(theirs); add --replace-policies for: alter policy theirs on storage.objects using (true and" in failed
    replace = ("secure-bucket", "private", "user", "--replace-policies")
    assert "alter policy theirs" in command.run(*replace, answer="n\n", status=1).stderr
    assert policies(admin) == ["theirs"]
    command.run(*replace, "--yes")
    assert files(admin, "user_eve") == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["privat", "user"], 1, "there is no such bucket"),
        (["private", "user", "--read-by", "everybody"], 1, "or add --read-by 'signed-in'"),
        (["private"], 2, "give the BUCKET and its owner"),
        (["private", "user", "--write-role", "org:admin"], 2, "roles are of organizations"),
        (["teams", "organization", "--write-role", "admin"], 1, "a role is spelled org:<role>"),
        (["private", "user", "--remove"], 2, "give the BUCKET only"),
        (["private", "--plan", "user:pro", "--remove"], 2, "give the BUCKET only"),
        (["private", "user", "--feature", "reports"], 1, "spelled user:reports or org:reports"),
        (["private", "user", "--from-mirror"], 2, "add --plan or --feature"),
    ],
)
def test_an_impossible_request_about_a_bucket_is_answered_with_the_reason(
    arguments: list[str], status: int, said: str, command: Command
) -> None:
    failed = command.run("secure-bucket", *arguments, status=status)
    assert said in f"{failed.output} {failed.exception}"


def test_without_storage_or_without_migrations_the_command_says_so(database: Database, new_database: str) -> None:
    here = 'on this machine that of an app with files: make dev ARGS="--app examples/nextjs"'
    for url, said in (
        (database.url, "no table storage.objects"),
        (database.url, here),
        (new_database, "run: clerk-supabase migrate"),
    ):
        failed = Command({"DATABASE_URL": url}).run("secure-bucket", "private", "user", status=1)
        assert said in str(failed.exception)


def test_of_two_sessions_that_secure_a_bucket_at_once_the_policies_of_the_last_stay(
    database: Database, admin: Connection
) -> None:
    admin.execute(_STORAGE)
    with database.connect() as first, database.connect() as second:
        with first.transaction():
            first.execute("select clerk_sync.secure_bucket('private', 'user')")
            securing = started(
                lambda: second.execute("select clerk_sync.secure_bucket('private', 'user', read_by => 'signed-in')")
            )
            eventually(lambda: waiting(admin), bool)
        securing.join()
    assert len(policies(admin)) == 4
    assert value(admin, "select clerk_sync.present_bucket('private')").endswith("read by signed-in.")
