"""`clerk-supabase secure`: a table of the app is protected from the shell as by the function in SQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from clerk_supabase_cli.operate import locking
from clerk_supabase_cli.operate.objects.comparison import differences
from clerk_supabase_cli.operate.objects.manifest import read_manifest
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.doctoring import Doctor
from tests.kit.meanwhile import started, until_one_has_given_up, waiting
from tests.kit.parked import Command
from tests.kit.polling import eventually


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


def test_secure_can_run_twice(command: Command, admin: Connection) -> None:
    command.run("secure", "public.notes", "user")
    before = policies(admin)
    command.run("secure", "public.notes", "user")
    assert policies(admin) == before


def test_roles_of_an_organization_say_who_writes_and_who_deletes(command: Command, admin: Connection) -> None:
    roles = ["--write-role", "org:admin", "--write-role", "org:editor", "--delete-role", "org:admin"]
    sql = "\n".join(command.json("secure", "public.notes", "organization", *roles)["statements"])
    assert "{org:admin,org:editor}" in sql
    assert "{org:admin}" in sql


def test_a_table_asks_for_a_plan_and_a_feature_until_somebody_agrees_to_open_it(
    command: Command, admin: Connection
) -> None:
    def touched(act: LiteralString = "select from public.notes", **claims: str) -> int:
        with acting_as(admin, "authenticated", {"sub": "user_ada", "v": 2} | claims):
            return admin.execute(act).rowcount

    call = ("secure", "public.notes", "user")
    command.run(*call, "--feature", "u:docs")
    admin.execute("insert into public.notes (name, user_id) values ('a', 'user_ada'), ('b', 'user_eve')")
    assert [touched(fea="u:docs"), touched(fea="o:docs"), touched(pla="u:docs"), touched()] == [1, 0, 0, 0]
    for act in ("update public.notes set name = 'mine'", "delete from public.notes"):
        assert touched(act) == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        touched("insert into public.notes (name) values ('mine')")

    command.run(*call, "--feature", "user:docs", "--plan", "user:pro")
    assert [touched(fea="u:docs", pla="u:pro"), touched(fea="u:docs")] == [1, 0]
    opened = command.run(*call, "--plan", "user:pro", answer="n\n", status=1)
    assert "ask for feature user:docs, plan user:pro; they will ask for plan user:pro" in opened.stderr
    assert touched(pla="u:pro") == 0
    command.run(*call, "--plan", "user:pro", "--yes")
    assert touched(pla="u:pro") == 1
    assert "spelled user:pro or org:pro (short u:pro, o:pro)" in str(
        command.run(*call, "--plan", "pro", status=1).exception
    )


def test_a_table_asks_the_mirrored_subscription_instead_of_the_token(command: Command, admin: Connection) -> None:
    call = ("secure", "public.notes", "user")
    command.run(*call, "--feature", "user:docs")
    mirrored = (*call, "--feature", "u:docs", "--from-mirror")
    turned = command.run(*mirrored, answer="y\n")
    assert "ask for feature user:docs; they will ask for mirrored feature user:docs" in turned.stderr
    assert "ask for" not in command.run(*mirrored).stderr
    admin.execute("""
        insert into clerk.users (clerk_id) values ('user_ada'), ('user_eve');
        insert into clerk.plans (clerk_plan_id, features) values ('cplan_pro', '{docs}');
        insert into clerk.subscription_items (clerk_subscription_item_id, clerk_user_id, plan_id, status)
        values ('subi_ada', 'user_ada', 'cplan_pro', 'active');
        insert into public.notes (name, user_id) values ('a', 'user_ada'), ('b', 'user_eve')
    """)
    for person, fea, found in (("user_ada", "", 1), ("user_eve", "u:docs", 0)):
        with acting_as(admin, "authenticated", {"sub": person, "v": 2, "fea": fea}):
            assert admin.execute("select from public.notes").rowcount == found
    assert "add --plan or --feature" in command.run(*call, "--from-mirror", status=2).stderr


def test_a_plan_or_feature_that_nobody_can_have_is_named_with_the_plans_that_exist(
    command: Command, admin: Connection
) -> None:
    call = ("secure", "public.notes", "organization", "--dry-run")
    asked = (*call, "--feature", "org:sso")
    assert "no plan of Clerk is known here yet" in command.run(*asked, "--from-mirror").stderr
    # A stack may have no key of Clerk's API.
    assert "warn" not in command.run(*asked).stderr
    admin.execute("""
        insert into clerk.plans (clerk_plan_id, for_payer_type, slug, features)
        values ('cplan_1', 'org', 'team', '{reports}'), ('cplan_2', 'user', 'pro', '{sso}')
    """)
    words = "warn: no plan has the feature sso for organizations, so nobody passes; known: team (reports);"
    assert words in command.run(*asked).stderr
    assert words in command.run(*asked, "--from-mirror").stderr
    unknown = command.run(*call, "--plan", "o:gold", "--feature", "user:sso").stderr
    assert "there is no plan gold for organizations" in unknown
    assert "feature" not in unknown
    assert "warn" not in command.run(*call, "--plan", "org:team", "--feature", "o:reports").stderr


def test_a_table_can_be_read_only_for_its_members(command: Command, admin: Connection) -> None:
    sql = "\n".join(command.json("secure", "public.notes", "organization", "--read-only")["statements"])
    assert "'{}'" in sql


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["public.nothing", "user"], "does not exist: create the table first, or correct its name"),
        (["nowhere.notes", "user"], "does not exist: create the table first, or correct its name"),
        (["clerk.users", "user"], "cannot be secured"),
        (["public.notes", "organization", "--write-role", "admin"], "a role is spelled org:<role>"),
    ],
)
def test_an_impossible_request_to_secure_is_answered_with_one_line_and_the_reason(
    arguments: list[str], said: str, command: Command
) -> None:
    failed = command.run("secure", *arguments, status=1)
    assert said in str(failed.exception)


def test_a_database_without_migrations_says_what_to_type(new_database: str) -> None:
    failed = Command({"DATABASE_URL": new_database}).run("secure", "public.notes", "user", status=1)
    assert "run: clerk-supabase migrate" in str(failed.exception)


@pytest.mark.parametrize("options", [["--read-only"], ["--write-role", "org:admin"]])
def test_a_user_has_no_roles(options: list[str], command: Command) -> None:
    assert "roles are of organizations" in command.run("secure", "public.notes", "user", *options, status=2).output


def test_policies_that_allow_more_are_named_and_dropped_only_when_told(command: Command, admin: Connection) -> None:
    admin.execute("create policy open_to_all on public.notes using (true)")
    assert "open_to_all" in str(command.run("secure", "public.notes", "user", status=1).exception)
    command.run("secure", "public.notes", "user", "--replace-policies")
    assert "open_to_all" not in policies(admin)


# Tables of an app that exists


def owned(admin: Connection) -> None:
    """Gives each of two notes an owner, in a column of the app, and a third note none."""
    admin.execute("""
        alter table public.notes add column owner_id text;
        insert into public.notes (name, owner_id) values ('a', 'user_ada'), ('b', 'user_eve'), ('c', null)
    """)


def test_a_table_turns_to_other_owners_only_after_a_question_that_counts_the_rows_of_nobody(
    command: Command, admin: Connection
) -> None:
    owned(admin)
    first = command.run("secure", "public.notes", "user", "--column", "owner_id")
    assert "1 row of public.notes will belong to nobody" in first.stderr
    turn = ("secure", "public.notes", "organization")
    before = policies(admin), value(admin, "select array_agg(n::text order by id) from public.notes as n")
    for said in (
        command.run(*turn, answer="n\n", status=1).stderr,
        command.run(*turn, "--dry-run").stderr,
        str(command.run(*turn, "--json", status=1).exception),
    ):
        assert "is the user (owner_id); the owner will be the organization (organization_id)" in said
        assert "3 rows of public.notes will belong to nobody" in said
    assert before == (policies(admin), value(admin, "select array_agg(n::text order by id) from public.notes as n"))
    assert "all the same?" not in command.run("secure", "public.notes", "user", "--column", "owner_id").stderr
    command.run(*turn, answer="y\n")
    done = command.json("secure", "public.notes", "user", "--column", "owner_id", "--yes")
    assert (done["was"], done["becomes"]) == ("organization (organization_id)", "user (owner_id)")
    assert done["rows_of_nobody"] == 1


def test_policies_of_the_app_are_replaced_only_after_a_question_if_rows_have_no_owner(
    command: Command, admin: Connection
) -> None:
    owned(admin)
    admin.execute("create policy theirs on public.notes using (true)")
    replace = ("secure", "public.notes", "user", "--column", "owner_id", "--replace-policies")
    assert "1 row of public.notes will belong to nobody" in command.run(*replace, answer="n\n", status=1).stderr
    assert policies(admin) == ["theirs"]
    command.run(*replace, "--yes")
    assert "theirs" not in policies(admin)


def test_rows_with_keys_of_a_table_of_the_app_belong_to_the_user_of_that_key(
    command: Command, admin: Connection
) -> None:
    admin.execute("""
        create table public.people (
            id uuid primary key default gen_random_uuid(), clerk_user_id text unique, number int unique
        );
        insert into public.people (clerk_user_id) values ('user_ada'), ('user_eve');
        alter table public.notes add column user_id uuid
    """)
    through = ("secure", "public.notes", "user", "--through")
    command.run(*through, "public.people (id, clerk_user_id)")
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        admin.execute("insert into public.notes (name) values ('mine')")
        assert rows(admin, "select name from public.notes") == [("mine",)]
    with acting_as(admin, "authenticated", {"sub": "user_eve"}):
        assert rows(admin, "select name from public.notes") == []
    assert "type public.people" in str(command.run(*through, "people(id, clerk_user_id)", status=1).exception)
    assert "spell it schema.table" in str(command.run(*through, "gone(id, clerk_user_id)", status=1).exception)
    assert "is spelled" in command.run(*through, "people", status=2).output
    for columns, said in (
        ("id, nothing", "has no column nothing"),
        ("number, clerk_user_id", "is uuid, and the column"),
    ):
        failed = command.run(*through, f"public.people({columns})", status=1)
        assert said in str(failed.exception)


def test_an_app_with_through_keeps_its_rights_over_later_migrations_and_doctor_finds_no_leftover(
    command: Command, admin: Connection, root: Path
) -> None:
    admin.execute("""
        create table public.people (id uuid primary key default gen_random_uuid(), clerk_user_id text unique);
        insert into public.people (clerk_user_id) values ('user_ada');
        alter table public.notes add column user_id uuid
    """)
    command.run("secure", "public.notes", "user", "--through", "public.people(id, clerk_user_id)")
    admin.execute("select clerk_sync.revoke_default_rights()")
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        admin.execute("insert into public.notes (name) values ('mine')")
    assert differences(admin, read_manifest(root)) == []


@pytest.mark.parametrize("arguments", [[], ["public.notes"], ["public.notes", "user", "--profiles", "nobody"]])
def test_a_call_for_a_table_names_the_table_and_its_owner(arguments: list[str], command: Command) -> None:
    assert "TABLE" in command.run("secure", *arguments, status=2).output


def test_one_setting_says_who_sees_profiles_and_doctor_repeats_the_setting(
    command: Command, admin: Connection, doctor: Doctor
) -> None:
    admin.execute("drop table public.notes")
    assert command.json("secure", "--profiles", "organizations", "--dry-run")["changed"] is False
    assert "profiles are visible to everybody" in doctor.verdict("row-level-security")[1]
    assert "(before: everybody)" in command.run("secure", "--profiles", "organizations").stderr
    assert "profiles are visible to organizations" in doctor.verdict("row-level-security")[1]
    admin.execute("delete from clerk_sync.profile_visibility")
    assert doctor.verdict("row-level-security")[0] == "warn"


# Other ways to the rows


def test_a_view_that_shows_the_rows_is_refused_with_the_statement_that_ends_it(
    command: Command, admin: Connection
) -> None:
    admin.execute("create view public.open_notes as select * from public.notes; grant select on open_notes to anon")
    for options in ([], ["--dry-run"]):
        said = str(command.run("secure", "public.notes", "user", *options, status=1).exception)
        assert "the view public.open_notes shows its rows to anon" in said
        assert "alter view public.open_notes set (security_invoker = on)" in said
    assert policies(admin) == []
    admin.execute("alter view public.open_notes set (security_invoker = on)")
    command.run("secure", "public.notes", "user")


def test_functions_that_mention_the_table_are_listed_and_what_is_printed_is_sql(
    command: Command, admin: Connection
) -> None:
    admin.execute("""
        create function public.all_notes() returns bigint language sql security definer
        as 'select count(*) from notes';
        create function public.own_notes() returns bigint language sql as 'select count(*) from notes';
        grant execute on function public.all_notes() to authenticated;
    """)
    printed = command.run("secure", "public.notes", "user", "--dry-run").stdout
    warned, noted = [line for line in printed.splitlines() if line.startswith("--")]
    assert warned.startswith("-- warn: the security definer function public.all_notes() mentions it, and ")
    assert noted == "-- note: the function public.own_notes() mentions it: look at what it does"
    assert policies(admin) == []
    admin.execute(printed.encode())
    assert len(policies(admin)) == 4

    found = command.json("secure", "public.notes", "user")["findings"]
    assert [(each["verdict"], sorted(each)) for each in found] == [
        (verdict, ["found", "todo", "verdict"]) for verdict in ("warn", "note")
    ]


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (
            "grant pg_read_all_data to anon",
            "secured: anon has the right to select as a member of pg_read_all_data (revoke pg_read_all_data from anon)",
        ),
        (
            "create role readers; grant pg_read_all_data to readers; grant readers to anon",
            "secured: anon has the right to select as a member of readers (revoke readers from anon)",
        ),
        ("alter role authenticated bypassrls", "the role authenticated passes every policy (alter role authenticated "),
        ("alter role anon superuser", "the role anon passes every policy (alter role anon nosuperuser nobypassrls)"),
        (
            "grant service_role to anon",
            "the role service_role passes every policy, and anon is a member (revoke service_role from anon)",
        ),
        (
            "alter table public.notes owner to authenticated",
            "its owner authenticated passes its policies (alter table public.notes owner to postgres)",
        ),
        ("alter table public.notes owner to service_role", "its owner service_role passes its policies (alter table "),
        (
            """create foreign table public.far (id bigint) server elsewhere options (table_name 'notes');
            grant select on public.far to anon""",
            "the foreign table public.far has its name, and shows that table's rows to anon, as another role (revoke ",
        ),
        (
            """create schema far; grant usage on schema far to anon;
            create foreign table far.notes (id bigint) server elsewhere options (schema_name 'public');
            grant select on far.notes to anon""",
            "the foreign table far.notes has its name, and shows that table's rows to anon",
        ),
    ],
)
def test_a_table_that_only_a_superuser_can_secure_is_refused(
    plant: LiteralString, said: str, admin: Connection
) -> None:
    admin.execute("create table public.notes (id bigint)")
    # Roles belong to the whole server, so that all of it is taken back.
    with admin.transaction(force_rollback=True):
        admin.execute("create foreign data wrapper nowhere; create server elsewhere foreign data wrapper nowhere")
        admin.execute(plant)
        with pytest.raises(psycopg.errors.WrongObjectType) as refused:
            admin.execute("select clerk_sync.secure('public.notes', 'user')")
    assert said in str(refused.value)


# Names


@pytest.mark.parametrize("name", ['public."My Notes"', "private.notes", '"An app""s".notes', 'public."select;--"'])
def test_a_table_of_any_name_in_any_schema_is_secured(name: str, command: Command, admin: Connection) -> None:
    schema = name.split(".", maxsplit=1)[0]
    admin.execute(f"create schema if not exists {schema}; create table {name} (id int)".encode())
    done = command.json("secure", name, "user")
    assert done["table"] == name
    again = command.json("secure", name, "organization", "--yes")
    assert len(again["statements"]) > len(done["statements"])


@pytest.mark.parametrize("typed", ["public.My Notes", "public.my notes", "My Notes", '"my notes"'])
def test_a_name_without_the_quotes_it_needs_is_answered_with_what_to_type(
    typed: str, command: Command, admin: Connection
) -> None:
    admin.execute('create table public."My Notes" (id int)')
    failed = command.run("secure", typed, "user", status=1)
    assert """type 'public."My Notes"'""" in str(failed.exception)


# Others at the same moment


@pytest.fixture
def other(database: Database) -> Iterator[Connection]:
    """Somebody else, in the middle of a transaction."""
    with psycopg.connect(database.url, application_name="a report") as connection:
        yield connection


def test_a_session_that_blocks_secure_is_named_without_its_query_and_nothing_is_changed(
    command: Command, admin: Connection, other: Connection
) -> None:
    other.execute("select 'ada@example.test' from public.notes")
    # A second, because the sessions are looked for during the wait, by a connection of their own.
    failed = command.run("secure", "public.notes", "user", "--lock-timeout", "1", status=1)
    for said in (failed.stderr, str(failed.exception)):
        assert f"blocked by pid {other.info.backend_pid} (role postgres, application 'a report', idle in tra" in said
        assert "ada@example.test" not in said
    assert failed.stderr.count("trying again") == 4
    assert policies(admin) == []


def test_secure_continues_once_the_blocking_sessions_have_ended(
    command: Command, admin: Connection, other: Connection
) -> None:
    other.execute("select from public.notes")

    def end() -> None:
        until_one_has_given_up(admin)
        other.rollback()

    ending = started(end)
    done = command.run("secure", "public.notes", "user", "--lock-timeout", "1")
    ending.join()
    assert "blocked by pid" in done.stderr
    assert len(policies(admin)) == 4


def test_during_the_wait_of_secure_readers_wait_no_longer_than_its_lock_timeout(
    command: Command, database: Database, other: Connection
) -> None:
    other.execute("select from public.notes")
    seconds: list[float] = []
    is_over = threading.Event()

    def read() -> None:
        with database.connect() as connection:
            while not is_over.is_set():
                began = time.monotonic()
                connection.execute("select from public.notes")
                seconds.append(time.monotonic() - began)
                is_over.wait(0.01)

    reader = started(read)
    began = time.monotonic()
    command.run("secure", "public.notes", "user", "--lock-timeout", "0.4", status=1)
    took = time.monotonic() - began
    is_over.set()
    reader.join()
    assert len(seconds) > 10
    # The command waits five times. A read that had to wait for all of them would take as long as the command.
    assert 0.05 < max(seconds) < took / 2


def lock_along_with_policies(admin: Connection) -> None:
    """Makes each CREATE and DROP POLICY lock a table of auth, as they do on Supabase for its `postgres`."""
    admin.execute("""
        create table auth.sessions (id int);
        create function public.lock_along() returns event_trigger language plpgsql
        as 'begin lock table auth.sessions in access exclusive mode; end';
        create event trigger along on ddl_command_start when tag in ('CREATE POLICY', 'DROP POLICY')
        execute function public.lock_along();
    """)


def test_locks_that_supabase_takes_along_with_a_policy_are_not_waited_for_either(
    command: Command, admin: Connection, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_ATTEMPTS", 2)
    lock_along_with_policies(admin)
    other.execute("select from auth.sessions")
    failed = command.run("secure", "public.notes", "user", "--lock-timeout", "1", status=1)
    assert f"blocked by pid {other.info.backend_pid}" in str(failed.exception)
    other.rollback()
    command.run("secure", "public.notes", "user")
    assert len(policies(admin)) == 4


def test_a_deadlock_with_others_is_no_failure_but_tried_again(
    command: Command, admin: Connection, other: Connection
) -> None:
    lock_along_with_policies(admin)
    # The command's session looks for the deadlock, and is ended by Postgres.
    other.execute("set deadlock_timeout = '1h'")
    done: list[str] = []

    def secure() -> None:
        done.append(command.run("secure", "public.notes", "user", "--lock-timeout", "2").stderr)

    other.execute("select from auth.sessions")
    securing = started(secure)
    eventually(lambda: waiting(admin), lambda sessions: sessions == 1)
    other.execute("select from public.notes")
    other.rollback()
    securing.join()
    assert "trying again" in done[0]
    assert "clerk_sync_select" in policies(admin)


def test_secure_in_a_migration_waits_for_a_lock_no_longer_than_five_seconds(admin: Connection) -> None:
    admin.execute("""
        create table public.notes (id int);
        create table public.seen (lock_timeout text);
        create function public.look() returns event_trigger language plpgsql
        as 'begin insert into public.seen values (current_setting(''lock_timeout'')); end';
        create event trigger look on ddl_command_start execute function public.look();
    """)
    with admin.transaction():
        admin.execute("select clerk_sync.secure('public.notes', 'user')")
        assert value(admin, "select current_setting('lock_timeout')") == "0"
    assert rows(admin, "select distinct lock_timeout from public.seen") == [("5s",)]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "create view public.v as select * from public.notes; grant select on public.v to anon",
            "the view public.v shows its rows to anon",
        ),
        (
            "create policy mine on public.notes for select using (true)",
            "it has policies that would allow more (mine): drop them, or add --replace-policies",
        ),
    ],
)
def test_changes_of_others_during_the_wait_for_the_lock_count(
    made: LiteralString, said: str, command: Command, admin: Connection, other: Connection
) -> None:
    other.execute(made)
    refused: list[str] = []

    def secure() -> None:
        failed = command.run("secure", "public.notes", "user", "--lock-timeout", "20", status=1)
        refused.append(str(failed.exception))

    securing = started(secure)
    eventually(lambda: waiting(admin), lambda sessions: sessions == 1)
    other.commit()
    securing.join()
    assert said in refused[0]


def test_a_transaction_that_cannot_see_what_others_commit_is_refused(admin: Connection) -> None:
    admin.execute("create table public.notes (id int)")
    admin.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"), admin.transaction():
        admin.execute("select clerk_sync.secure('public.notes', 'user')")
