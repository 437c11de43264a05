"""`clerk-supabase adopt supabase-auth`: an app of Supabase Auth's becomes an app of Clerk's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.supabase_auth.move import Options, found_units, move
from clerk_supabase_cli.operate.database import open_database
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import alone, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command
from tests.kit.polling import eventually
from tests.kit.supabase_auth import ADA, BOB, EVE, MAX, app_of_three, link, protection, user

STEPS = ("adopt", "supabase-auth")


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    """Ada and Bob own a project each, and Bob is a member of Ada's; Eve never verified her address."""
    return app_of_three(database, admin)


@pytest.fixture
def linked(command: Command, store: Store) -> Command:
    """Clerk has imported Ada and Bob, the mirror knows both, and the pairs are written."""
    link(command, store)
    return command


def test_the_steps_of_adopt_take_another_spelling(linked: Command, tmp_path: Path) -> None:
    for step, command in (("inspect", "inspect"), ("link", "link"), ("switch", "move")):
        assert linked.json("adopt", step, "--from", "supabase-auth") == linked.json(*STEPS, command)
    linked.run("adopt", "export", str(tmp_path / "users"), "--from=supabase-auth")
    assert {each["id"] for each in json.loads((tmp_path / "users" / "users.json").read_text())} == {ADA, BOB}
    assert "belongs to one of" in linked.run("adopt", "undo", "--from", "supabase-auth", status=2).stderr
    assert "the only possible source" in linked.run("adopt", "inspect", "--from", status=2).stderr


# link


def test_users_are_linked_one_to_one_and_everybody_else_is_listed(
    command: Command, store: Store, admin: Connection
) -> None:
    store.apply(
        alone(
            upsert("user_ada", external_id=ADA),
            upsert("user_bob", external_id=BOB),
            upsert("user_twin", external_id=BOB),
            upsert("user_other", external_id="crm-7"),
            upsert("user_new", external_id=None),
        )
    )
    looked = command.json(*STEPS, "link")["links"]
    assert (looked["new"], looked["known"]) == (1, 0)
    assert looked["double"] == [{"old_id": BOB, "clerk_ids": ["user_bob", "user_twin"]}]
    assert [each["clerk_id"] for each in looked["foreign"]] == ["user_other"]
    assert [(each["old_id"], each["why"]) for each in looked["unlinked"]] == [(EVE, "no verified address or number")]
    command.run(*STEPS, "link", "--write")
    assert command.json(*STEPS, "link")["links"]["known"] == 1
    assert rows(admin, "select old_id::text, clerk_id from clerk_migration.identities") == [(ADA, "user_ada")]


def test_a_pair_that_has_changed_is_said_and_replaced_only_when_told(
    linked: Command, store: Store, admin: Connection
) -> None:
    admin.execute("delete from clerk.users where clerk_id = 'user_ada'")
    store.apply(alone(upsert("user_again", external_id=ADA)))
    assert linked.json(*STEPS, "link", "--write")["links"]["changed"] == [
        {"old_id": ADA, "clerk_id": "user_ada", "now": "user_again"}
    ]
    assert value(admin, "select clerk_id from clerk_migration.identities where old_id = %s", ADA) == "user_ada"
    linked.run(*STEPS, "link", "--write", "--replace")
    assert value(admin, "select clerk_id from clerk_migration.identities where old_id = %s", ADA) == "user_again"


def test_a_user_of_clerk_who_turns_out_to_be_somebody_else_gets_no_rows(
    linked: Command, store: Store, admin: Connection
) -> None:
    store.apply(
        alone(upsert("user_ada", external_id=BOB, version=2), upsert("user_bob", external_id="crm-7", version=2))
    )
    failed = linked.run(*STEPS, "move", "--write", status=1)
    assert f"1 old ids, such as {ADA}, are linked with users whose external_id" in str(failed.exception)
    looked = linked.json(*STEPS, "link")["links"]
    assert [each["old_id"] for each in looked["changed"]] == [ADA, BOB]
    linked.run(*STEPS, "link", "--write", "--replace")
    assert rows(admin, "select old_id::text, clerk_id from clerk_migration.identities") == [(BOB, "user_ada")]
    not_moved = linked.run(*STEPS, "move", "--write", status=1).stdout
    assert f"public.projects.owner_id: {ADA}, 1 row" in not_moved


def test_a_user_whose_user_in_clerk_has_the_pair_of_somebody_else_is_listed(
    linked: Command, store: Store, admin: Connection
) -> None:
    user(admin, MAX, "max@example.test")
    store.apply(alone(upsert("user_ada", external_id=MAX, version=2)))
    assert [(each["old_id"], each["why"]) for each in linked.json(*STEPS, "link", "--write")["links"]["unlinked"]] == [
        (MAX, "its user of Clerk was linked with another id before: add --write --replace"),
        (EVE, "no verified address or number"),
    ]
    replaced = linked.json(*STEPS, "link", "--write", "--replace")["links"]
    assert (replaced["new"], replaced["known"]) == (1, 1)
    assert [each["old_id"] for each in replaced["unlinked"]] == [EVE, ADA]


def test_no_role_of_the_api_reads_the_pairs(command: Command, admin: Connection) -> None:
    # As in older projects of Supabase.
    admin.execute("alter default privileges grant all on schemas to authenticated, service_role")
    admin.execute("alter default privileges grant all on tables to authenticated, service_role")
    admin.execute("alter default privileges grant execute on functions to authenticated, service_role")
    command.run(*STEPS, "link", "--write")
    assert not value(admin, "select has_schema_privilege('authenticated', 'clerk_migration', 'usage, create')")
    admin.execute("grant usage on schema clerk_migration to authenticated, service_role")
    for role in ("authenticated", "service_role"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(admin, role):
            admin.execute("select * from clerk_migration.identities")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(admin, role):
            admin.execute("select clerk_migration.clerk_id_of(gen_random_uuid())")


# move


def test_without_write_nothing_changes_and_a_rehearsal_rolls_back(linked: Command, admin: Connection) -> None:
    calls = "begin perform public.handle_new_user(); end"
    admin.execute(f"create function public.sign_up() returns void language plpgsql as $$ {calls} $$")
    before = rows(admin, "select * from public.projects order by id"), protection(admin)
    assert "to keep these pairs" not in linked.run(*STEPS, "link").stdout
    looked = linked.json(*STEPS, "move")
    rehearsed = linked.json(*STEPS, "move", "--rehearse")
    assert [each["outcome"] for each in looked["tables"]] == ["can be moved"] * 2
    assert looked["tables"] == rehearsed["tables"]
    # The function that writes to a table, and its caller.
    for function in ("handle_new_user", "sign_up"):
        named = f"function public.{function}() names these tables: look for uuid in its arguments and variables"
        assert named in looked["tables"][0]["notes"]
    assert before == (rows(admin, "select * from public.projects order by id"), protection(admin))


def test_afterwards_each_user_has_their_own_rows_and_nothing_is_more_open(linked: Command, admin: Connection) -> None:
    # The apostrophe in a name must not hide the call behind it.
    admin.execute("alter table public.notes add \"it's\" text default 'a''b'")
    admin.execute("create policy named on public.notes for delete using (\"it's\" = 'a''b' and auth.uid() = author)")
    admin.execute("grant select on public.profiles to anon")
    before = protection(admin)
    done = linked.json(*STEPS, "move", "--write")
    assert [(each["tables"], each["outcome"]) for each in done["tables"]] == [
        (["public.members", "public.profiles", "public.projects"], "moved"),
        (["public.notes"], "moved"),
    ]
    assert protection(admin) == before
    assert rows(admin, "select name, owner_id, owner_id_supabase::text from public.projects order by 1") == [
        ("of ada", "user_ada", ADA),
        ("of bob", "user_bob", BOB),
    ]
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        assert rows(admin, "select name from public.projects") == [("of ada",)]
        admin.execute("insert into public.projects (name) values ('another')")
        assert rows(admin, "select owner_id from public.my_projects order by name") == [("user_ada",), ("user_ada",)]
    with acting_as(admin, "authenticated", {"sub": "user_bob"}):
        assert rows(admin, "select name from public.projects order by id") == [("of ada",), ("of bob",)]
        assert rows(admin, "select id from public.profiles") == [("user_bob",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(admin, "authenticated", {"sub": "user_ada"}):
        admin.execute("insert into public.projects (name, owner_id) values ('stolen', 'user_bob')")
    with acting_as(admin, "anon"):
        assert rows(admin, "select id from public.profiles") == []


def test_keys_indexes_and_uniques_of_the_app_stay_and_keys_to_auth_go(linked: Command, admin: Connection) -> None:
    query = """
        select pg_get_indexdef(indexrelid) from pg_index where indrelid in ('public.projects'::regclass,
        'public.members'::regclass, 'public.profiles'::regclass) order by 1
    """
    indexes = rows(admin, query)
    admin.execute("comment on constraint members_user_id_fkey on public.members is '@graphql({})'")
    linked.run(*STEPS, "move", "--write")
    # Nobody is told to move the columns of old uuids.
    found = {each["column"]: each["found_by"] for each in linked.json(*STEPS, "inspect")["columns"]}
    assert found.pop("public.audit.actor") == "values"
    assert {*found.values()} == {"move"}
    assert rows(admin, query) == indexes
    commented = "select obj_description(oid, 'pg_constraint') from pg_constraint where conname = 'members_user_id_fkey'"
    assert value(admin, commented) == "@graphql({})"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        admin.execute("insert into public.members values (2, 'user_nobody')")
    admin.execute("delete from auth.users")
    assert value(admin, "select count(*) from public.projects") == 2
    admin.execute("delete from public.profiles where id = 'user_bob'")
    assert value(admin, "select count(*) from public.members") == 0


def test_no_trigger_of_the_app_fires_and_the_old_ids_can_be_dropped_at_once(linked: Command, admin: Connection) -> None:
    admin.execute(
        """
        create function public.stop() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;
        create trigger projects_stop before update on public.projects for each row execute function public.stop();
        """
    )
    linked.run(*STEPS, "move", "--write", "--drop-old")
    assert rows(admin, "select 1 from information_schema.columns where column_name like '%%_supabase'") == []


def test_without_a_single_pair_no_column_is_emptied(command: Command, admin: Connection) -> None:
    command.run(*STEPS, "link", "--write")
    failed = command.run(*STEPS, "move", "--write", "--without-owner", "empty", "--drop-old", status=1)
    assert "nobody is linked yet" in str(failed.exception)
    assert value(admin, "select count(*) from public.projects where owner_id = %s::uuid", ADA) == 1


def test_no_pair_changes_while_a_table_is_moved(linked: Command, admin: Connection, database: Database) -> None:
    admin.execute("insert into public.notes (author) values (%s)", [ADA])
    with database.connect() as blocker, blocker.transaction():
        blocker.execute("lock table public.notes in access share mode")
        moving = started(lambda: linked.run(*STEPS, "move", "notes", "--write", "--lock-timeout", "60"))
        eventually(lambda: waiting(admin), bool)
        admin.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            admin.execute("delete from clerk_migration.identities")
    moving.join()
    assert value(admin, "select author from public.notes") == "user_ada"


def test_a_table_that_takes_another_name_meanwhile_stays_as_it_is_and_holds_up_no_other(
    linked: Command, admin: Connection, database: Database
) -> None:
    admin.execute("insert into public.notes (author) values (%s)", [ADA])
    results: list[Any] = []
    with database.connect() as blocker, blocker.transaction():
        blocker.execute("lock table public.notes in access share mode")
        moving = started(
            lambda: results.append(linked.run(*STEPS, "move", "--write", "--lock-timeout", "60", status=None))
        )
        eventually(lambda: waiting(admin), bool)
        blocker.execute("alter table public.notes rename to letters; create table public.notes (id int, author uuid)")
    moving.join()
    assert "moved: public.members.user_id, public.profiles.id, public.projects.owner_id" in results[0].stdout
    assert "public.notes.author has another type now: another session has changed it" in results[0].stdout
    assert value(admin, "select pg_typeof(author)::text from public.letters") == "uuid"


def test_a_connection_that_is_cut_off_says_to_run_the_command_again(
    linked: Command, admin: Connection, database: Database
) -> None:
    results: list[Any] = []
    with database.connect() as blocker, blocker.transaction():
        blocker.execute("lock table public.notes in access share mode")
        moving = started(
            lambda: results.append(linked.run(*STEPS, "move", "--write", "--lock-timeout", "60", status=None))
        )
        eventually(lambda: waiting(admin), bool)
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where wait_event_type = 'Lock' and datname = current_database()"
        )
        moving.join()
    assert "is as before: run the command again" in str(results[0].exception)
    assert "moved: public.notes.author" in linked.run(*STEPS, "move", "--write").stdout


def test_a_table_that_the_role_may_not_read_holds_up_no_other(
    linked: Command, admin: Connection, database: Database
) -> None:
    with open_database(database.url) as connection:
        found = found_units(connection, [], [])
        connection.execute("set role service_role")
        outcomes = [move(connection, database.url, unit, Options(), print) for unit in found]
    assert [each.outcome for each in outcomes] == ["not moved", "not moved"]
    assert "connect as the owner" in str(outcomes[0].why)


def test_rows_of_a_user_who_is_not_in_clerk_stop_their_tables_and_no_others(linked: Command, admin: Connection) -> None:
    admin.execute("insert into public.projects (name, owner_id) values ('of eve', %s)", [EVE])
    failed = linked.run(*STEPS, "move", "--write", status=1)
    assert "public.projects.owner_id (1 row of 1 user)" in failed.stdout
    assert f"public.projects.owner_id: {EVE}, 1 row\n" in failed.stdout
    assert "moved: public.notes.author" in failed.stdout
    assert value(admin, "select count(*) from public.projects where owner_id = %s::uuid", ADA) == 1


def test_rows_without_an_owner_are_kept_and_emptied_when_told(linked: Command, admin: Connection) -> None:
    admin.execute("insert into public.notes (author) values (%s), (%s), (null)", [EVE, ADA])
    linked.run(*STEPS, "move", "public.notes", "--write", "--without-owner", "empty")
    assert rows(admin, "select author, author_supabase::text from public.notes order by id") == [
        (None, EVE),
        ("user_ada", ADA),
        (None, None),
    ]


def test_no_row_is_emptied_where_a_null_would_open_it_to_everybody(linked: Command, admin: Connection) -> None:
    admin.execute("insert into public.notes (author) values (%s), (%s)", [EVE, EVE])
    admin.execute(
        """
        alter table public.notes add deleted_at timestamptz;
        create policy a on public.notes using (author is null or author = auth.uid());
        create policy b on public.notes using (author is not distinct from auth.uid());
        create policy c on public.notes using (coalesce((author)::text, '') in ('', (auth.uid())::text));
        create policy d on public.notes using ((author <> auth.uid()) is not true);
        create policy of_author on public.notes using (deleted_at is null and author is not null
            and 'author is null' <> coalesce(deleted_at::text, '') and (author = auth.uid()) is true);
        create view public.of_nobody as select n.id from public.notes as n where n.author is null
        """
    )
    move = (*STEPS, "move", "public.notes", "--write", "--without-owner")
    said = linked.run(*move, "empty", status=1).stdout
    assert "would empty public.notes.author in 2 rows, and these test the column for null, so that everybody" in said
    tables = ", ".join(f"policy {name} on public.notes" for name in "abcd")
    assert f"such rows: {tables}, view public.of_nobody; type --without-owner keep" in said
    assert value(admin, "select count(*) from public.notes where author = %s::uuid", EVE) == 2
    admin.execute(
        "drop policy a on public.notes; drop policy b on public.notes; drop policy c on public.notes;"
        "drop policy d on public.notes; drop view public.of_nobody"
    )
    linked.run(*move, "empty")
    assert value(admin, "select count(*) from public.notes where author is null") == 2


def test_a_row_without_an_owner_can_keep_its_uuid_which_is_the_id_of_nobody(linked: Command, admin: Connection) -> None:
    admin.execute("insert into public.profiles (id) values (%s)", [EVE])
    assert "public.profiles.id (1 row of 1 user)" in linked.run(*STEPS, "move", "--write", status=1).stdout
    linked.run(*STEPS, "move", "--write", "--without-owner", "keep")
    assert rows(admin, "select id from public.profiles order by 1") == [(EVE,), ("user_ada",), ("user_bob",)]


def test_a_policy_that_cannot_be_rewritten_stops_its_table_whole(linked: Command, admin: Connection) -> None:
    admin.execute("create policy of_one on public.notes to authenticated using (public.is_mine(author))")
    before = protection(admin)
    failed = linked.run(*STEPS, "move", "notes", "--write", status=1)
    assert "in: create policy of_one" in failed.stdout
    assert protection(admin) == before
    assert value(admin, "select count(*) from information_schema.columns where column_name = 'author_supabase'") == 0


def test_calls_are_found_in_a_database_that_quotes_all_names_and_not_in_other_schemas(
    linked: Command, admin: Connection, database: Database
) -> None:
    admin.execute(
        """
        create schema app_auth;
        grant usage on schema app_auth to authenticated;
        create function app_auth.uid() returns text language sql stable as $$ select 'tenant' $$;
        alter table public.notes add tenant text;
        create policy of_tenant on public.notes as restrictive to authenticated using (app_auth.uid() = tenant);
        """
    )
    admin.execute(f"alter database {database.name} set quote_all_identifiers = on".encode())
    linked.run(*STEPS, "move", "notes", "--write")
    admin.execute(f"alter database {database.name} reset quote_all_identifiers".encode())
    expressions = (
        "select polname, pg_get_expr(polqual, polrelid) from pg_policy where polrelid = 'public.notes'::regclass"
    )
    found: dict[str, str] = dict(rows(admin, expressions))
    assert found["of_tenant"] == "(app_auth.uid() = tenant)"
    assert "clerk_sync.caller" in found["own_notes"]


def test_a_move_that_was_killed_goes_on_with_the_tables_that_are_left(
    linked: Command, admin: Connection, database: Database
) -> None:
    with open_database(database.url) as connection:
        [first, _] = found_units(connection, [], [])
        assert move(connection, database.url, first, Options("write"), print).outcome == "moved"
    done = linked.json(*STEPS, "move", "--write")
    assert [each["columns"] for each in done["tables"]] == [["public.notes.author"]]


def test_what_is_left_is_listed_with_the_statement_that_ends_it(linked: Command, admin: Connection) -> None:
    admin.execute(
        """
        create schema storage;
        create table storage.objects (bucket_id text, name text);
        create policy "own folder" on storage.objects for insert to authenticated
        with check ((string_to_array(name, '/'))[1] = auth.uid()::text and name <> 'auth.uid()');
        """
    )
    admin.execute("insert into storage.objects values ('avatars', %s || '/me.png')", [ADA])
    left = {each["what"]: each["todo"] for each in linked.json(*STEPS, "move", "--write")["todo"]}
    assert left["column public.audit.actor with uuids of users"] == "move it, too: --column public.audit.actor"
    altered = left['policy "own folder" on storage.objects']
    admin.execute(altered.encode())
    assert "clerk_sync.caller" in altered
    assert "'auth.uid()'" in altered
    assert "1 files of 1 users in folders named after a uuid" in left
    assert "there is no table public.note:" in str(linked.run(*STEPS, "move", "note", status=1).exception)
    assert {"function public.is_mine(uuid)", "trigger on_auth_user_created on auth.users"} <= left.keys()
    assert len(linked.json(*STEPS, "move")["todo"]) == len(left) - 1
