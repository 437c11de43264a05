"""`clerk-supabase adopt supabase-auth`: an app of Supabase Auth's becomes an app of Clerk's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.supabase_auth.claims import counterpart
from clerk_supabase_cli.adopt.supabase_auth.move import Options, found_units, move
from clerk_supabase_cli.operate.database import open_database
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import alone, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command
from tests.kit.polling import eventually
from tests.kit.supabase_auth import ADA, BCRYPT, BOB, EVE, MAX, SUE, app_of_three, user

STEPS = ("adopt", "supabase-auth")


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    """Ada and Bob own a project each, and Bob is a member of Ada's; Eve never verified her address."""
    return app_of_three(database, admin)


@pytest.fixture
def linked(command: Command, store: Store) -> Command:
    """Clerk has imported Ada and Bob, the mirror knows both, and the pairs are written."""
    store.apply(alone(upsert("user_ada", external_id=ADA), upsert("user_bob", external_id=BOB.upper())))
    command.run(*STEPS, "link", "--write")
    return command


def test_the_steps_of_adopt_take_another_spelling(linked: Command, tmp_path: Path) -> None:
    for step, command in (("inspect", "inspect"), ("link", "link"), ("switch", "move")):
        assert linked.json("adopt", step, "--from", "supabase-auth") == linked.json(*STEPS, command)
    linked.run("adopt", "export", str(tmp_path / "users"), "--from=supabase-auth")
    assert {each["id"] for each in json.loads((tmp_path / "users" / "users.json").read_text())} == {ADA, BOB}
    assert "belongs to one of" in linked.run("adopt", "undo", "--from", "supabase-auth", status=2).stderr
    assert "the only possible source" in linked.run("adopt", "inspect", "--from", status=2).stderr


def protection(admin: Connection) -> list[tuple[Any, ...]]:
    """Everything that decides who sees a row, but for the expressions."""
    return rows(
        admin,
        """
        select c.relname, c.relrowsecurity, c.relacl::text, c.reloptions::text, p.polname, p.polcmd, p.polroles::text
        from pg_class as c left join pg_policy as p on p.polrelid = c.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') order by 1, 5
        """,
    )


# inspect


def test_the_inspection_finds_users_columns_and_every_caller(command: Command, admin: Connection) -> None:
    user(admin, MAX, phone="4915112345678", password="$argon2id$v=19$m=16,t=2,p=1$c2FsdA$aGFzaA")
    user(admin, SUE, is_anonymous=True, password=None)
    admin.execute("create publication supabase_realtime for table public.notes, public.audit")
    admin.execute("create policy through_function on public.audit using (public.is_mine(actor))")
    seen = command.json(*STEPS, "inspect")
    users = seen["users"]
    assert users["passwords"] == {"argon2id": 1, "bcrypt": 3}
    assert [users[name] for name in ("users", "anonymous", "phone", "unconfirmed", "deleted")] == [5, 1, 1, 1, 0]
    assert users["confirmed_without_mail"] == 2
    assert {each["column"]: each["found_by"] for each in seen["columns"]} == {
        "public.audit.actor": "values",
        "public.members.user_id": "key to another table of the app",
        "public.notes.author": "key",
        "public.profiles.id": "key",
        "public.projects.owner_id": "key",
    }
    kinds = {(each["kind"], each["name"]) for each in seen["callers"] if each["fails"]}
    assert kinds == {
        ("default", "owner_id"),
        ("function", "public.is_mine(uuid)"),
        ("policy", '"own profile"'),
        ("policy", "own_memberships"),
        ("policy", "own_notes"),
        ("policy", "projects_of_owner"),
        ("policy", "through_function"),
        ("view", "my_projects"),
    }
    assert [each["name"] for each in seen["triggers"]] == ["on_auth_user_created"]
    assert seen["realtime"] == ["public.audit", "public.notes"]
    said = command.run(*STEPS, "inspect")
    assert "a single subscriber with Clerk's token breaks the batch of everybody" in said.stderr
    assert "1 of 1 sampled; move it with --column public.audit.actor" in said.stdout
    assert BCRYPT not in said.output


def test_every_claim_that_clerks_token_lacks_is_named_with_its_counterpart(command: Command, admin: Connection) -> None:
    admin.execute(
        """
        create schema storage;
        create table storage.objects (name text);
        create policy a on public.notes using ((select auth.jwt() ->> 'aal') = 'aal2' and 'aal' <> 'email');
        create policy b on public.notes using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
        create policy c on storage.objects
        using ((nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'session_id') = name);
        create policy d on storage.objects using (auth.email() = name and auth.jwt() @> '{"is_anonymous": false}');
        create policy e on public.audit using (
            jsonb_extract_path_text(auth.jwt(), 'user_metadata', 'team') = 'a' or (auth.jwt() #>> '{tenant,id}') = 'x'
            or current_setting('request.jwt.claim.phone', true) = '1'
        );
        create policy f on public.audit using (
            (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid = actor and auth.jwt() ->> 'role' = 'x'
        );
        alter table public.audit add method text default (auth.jwt() -> 'amr' -> 0 ->> 'method');
        create function public.team() returns text language plpgsql
        as $$ declare claims jsonb := auth.jwt(); begin return claims -> 'app_metadata' ->> 'team'; end $$;
        create view public.own as select auth.jwt() ->> 'email' as email
        """
    )
    seen = command.json(*STEPS, "inspect")
    assert {each["name"]: each["claims"] for each in seen["callers"] if each["claims"]} == {
        "a": ["aal"],
        "b": ["app_metadata"],
        "c": ["session_id"],
        "d": ["email", "is_anonymous"],
        "e": ["phone", "tenant", "user_metadata"],
        "method": ["amr"],
        "public.team()": ["app_metadata"],
        "own": ["email"],
    }
    assert [each["fails"] for each in seen["callers"] if each["name"] == "f"] == [True]
    todo = {(each["what"], each["todo"].partition(", and null: ")[2]) for each in seen["todo"]}
    assert ("policy c of storage.objects", "the claim sid has the id of the session") in todo
    assert (
        "policy e of public.audit",
        "add to Clerk's session token the claim tenant, which Supabase's token had from a hook of yours",
    ) in todo
    assert ("default method of public.audit", counterpart("amr")) in todo


def test_a_database_without_supabase_auth_is_told_so(new_database: str) -> None:
    failed = Command({"DATABASE_URL": new_database}).run(*STEPS, "inspect", status=1)
    assert "there is no table auth.users" in str(failed.exception)


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
    before = rows(admin, "select * from public.projects order by id"), protection(admin)
    assert "to keep these pairs" not in linked.run(*STEPS, "link").stdout
    looked = linked.json(*STEPS, "move")
    rehearsed = linked.json(*STEPS, "move", "--rehearse")
    assert [each["outcome"] for each in looked["tables"]] == ["can be moved"] * 2
    assert looked["tables"] == rehearsed["tables"]
    named = "function public.handle_new_user() names these tables: look for uuid in its arguments and variables"
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


def test_a_generated_column_is_computed_from_the_new_id_and_keeps_all_that_hangs_on_it(
    linked: Command, admin: Connection
) -> None:
    admin.execute(
        """
        alter table public.notes add column path varchar(80) collate "C" not null
        generated always as ('/' || author::text) stored check (path <> '/')
        """
    )
    admin.execute("alter table public.notes add twin text generated always as (upper(author::text)) stored")
    admin.execute("alter table public.notes add unique (path, id), add check (twin <> path)")
    admin.execute("create index notes_pairs on public.notes (twin, path)")
    admin.execute("create index notes_paths on public.notes (lower(path)) where path > '/'")
    admin.execute("comment on column public.notes.path is 'of the author''s files'")
    admin.execute("create statistics public.notes_statistics on path, id from public.notes")
    admin.execute(
        """
        comment on index public.notes_pairs is 'of both';
        comment on constraint notes_path_id_key on public.notes is 'once';
        comment on index public.notes_path_id_key is 'behind the constraint';
        comment on constraint notes_path_check on public.notes is 'not empty';
        comment on statistics public.notes_statistics is 'together';
        alter table public.notes alter column path set statistics 7, alter column path set storage external,
        alter column path set (n_distinct = 9)
        """
    )
    admin.execute("grant select (path) on public.notes to anon with grant option")
    admin.execute("create view public.paths with (security_invoker = on) as select path from public.notes")
    admin.execute("grant select on public.paths to authenticated")
    admin.execute("create policy of_path on public.notes for delete to authenticated using (path = '/x')")
    admin.execute("insert into public.notes (author) values (%s)", [ADA])
    before = _of_column(admin), protection(admin)
    assert linked.json(*STEPS, "move", "notes", "--rehearse")["tables"][0]["outcome"] == "can be moved"
    linked.run(*STEPS, "move", "notes", "--write")
    assert (_of_column(admin), protection(admin)) == before
    assert rows(admin, "select path from public.paths") == [("/user_ada",)]


def _of_column(admin: Connection) -> list[tuple[Any, ...]]:
    return rows(
        admin,
        """
        select format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull, a.attacl::text,
            col_description(a.attrelid, a.attnum),
            array(select pg_get_indexdef(i.indexrelid) from pg_index as i where i.indrelid = a.attrelid order by 1),
            array(select k.conname || pg_get_constraintdef(k.oid) from pg_constraint as k
                where k.conrelid = a.attrelid and k.contype <> 'f' order by 1),
            array(select pg_get_statisticsobjdef(s.oid) from pg_statistic_ext as s where s.stxrelid = a.attrelid),
            array(select d.description from pg_description as d where d.description ~ '^(of both|once|behind|not|tog)'
                order by 1),
            a.attstattarget, a.attstorage, a.attoptions
        from pg_attribute as a where a.attrelid = 'public.notes'::regclass and a.attname = 'path'
        """,
    )


def test_a_column_that_cannot_be_moved_is_named_before_anything_is_done(linked: Command, admin: Connection) -> None:
    admin.execute(
        """
        create table public.a (u uuid references auth.users, g uuid generated always as (u) stored);
        create table public.b (u uuid, g uuid generated always as (u) stored references auth.users);
        create table public.c (u uuid references auth.users) partition by hash (u);
        create table public.d (u uuid references auth.users) partition by hash (left(u::text, 1));
        create table public.e (n integer, u uuid references auth.users) partition by list (n);
        create table public.part partition of public.e for values in (1) partition by list (u);
        create table public.f (
            n integer, u uuid references auth.users, g text generated always as ('/' || u::text) stored
        ) partition by list (n);
        """
    )
    expected = {
        "public.a": "public.a.g is a uuid that Postgres computes from a moved column: alter table ",
        "public.b": "Postgres computes public.b.g from other columns: drop this column, and",
        "public.c": "public.c.u is in the partition key of public.c, where Postgres changes no type: make a new table",
        "public.d": "public.d.u is in the partition key of public.d, where",
        "public.e": "public.e.u is in the partition key of public.part, where",
        "public.f": "public.f.g is computed from a moved column, and public.f has partitions or inherits: alter table",
    }
    before = protection(admin)
    for mode in ([], ["--write"]):
        found = linked.json(*STEPS, "move", *expected, *mode, status=1)["tables"]
        why = {each["tables"][0]: each["why"] for each in found}
        assert {table: reason.startswith(expected[table]) for table, reason in why.items()} == dict.fromkeys(
            expected, True
        )
    assert protection(admin) == before
    assert rows(admin, "select 1 from information_schema.columns where column_name like '%%_supabase'") == []


def test_tables_that_a_view_compares_are_moved_together(linked: Command, admin: Connection) -> None:
    admin.execute(
        """
        create view public.writers with (security_invoker = on) as
        select n.id from public.notes as n inner join public.projects as p on p.owner_id = n.author
        """
    )
    done = linked.json(*STEPS, "move", "notes", "--write")["tables"]
    assert [each["outcome"] for each in done] == ["moved"]
    assert {"public.notes", "public.projects"} <= {*done[0]["tables"]}


def test_a_column_without_a_key_is_moved_when_it_is_named(linked: Command, admin: Connection) -> None:
    linked.run(*STEPS, "move", "--write", "--column", "public.audit.actor")
    assert value(admin, "select actor from public.audit") == "user_bob"
    assert "no table is left to move" in linked.run(*STEPS, "move", "--column", "public.audit.actor").stdout


def test_texts_with_uuids_of_users_are_found_and_moved_with_the_other_columns(
    linked: Command, admin: Connection
) -> None:
    admin.execute(
        """
        create table public.events (
            id bigint generated always as identity primary key, owner varchar(36) default (auth.uid())::text,
            entity text default 'none', note text
        );
        alter table public.events enable row level security;
        create policy own_events on public.events to authenticated using (owner = (auth.uid())::text and exists (
            select from public.projects as p where p.owner_id::text = owner
        ));
        grant select, insert on public.events to authenticated
        """
    )
    statement = "insert into public.events (owner, entity, note) values (%s, %s, %s)"
    other = "00000009-0000-4000-8000-00000000abcd"
    for owner, entity in ((ADA.upper(), BOB), (BOB, other), (EVE, "system"), (None, "user_ada")):
        admin.execute(statement, [owner, entity, "x" * 36])
    columns = ["public.events.owner", "public.events.entity"]
    found = {each["column"]: each for each in linked.json(*STEPS, "inspect")["columns"]}
    assert [(found[name]["sampled"], found[name]["matching"]) for name in columns] == [(3, 3), (2, 1)]
    left = linked.run(*STEPS, "move").stdout
    assert all(f"move it, too: --column {name}" in left for name in columns)
    assert "public.events.note" not in left
    move = (*STEPS, "move", "--column", columns[0], "--column", columns[1])
    assert "public.events.owner (1 row of 1 user)" in linked.run(*move, "--write", status=1).stdout
    linked.run(*move, "--write", "--without-owner", "empty")
    assert rows(admin, "select owner, entity, owner_supabase from public.events order by id") == [
        ("user_ada", "user_bob", ADA.upper()),
        ("user_bob", other, BOB),
        (None, "system", EVE),
        (None, "user_ada", None),
    ]
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        admin.execute("insert into public.events (note) values ('new')")
        assert rows(admin, "select owner, entity from public.events order by id") == [
            ("user_ada", "user_bob"),
            ("user_ada", "none"),
        ]
    assert linked.json(*move, "--write")["tables"] == []
    failed = linked.run(*STEPS, "move", "--column", "public.events.note", status=1)
    assert "public.events.note holds no uuid of a user" in str(failed.exception)


def test_a_column_of_any_name_is_moved_by_the_name_that_the_inspection_prints(
    linked: Command, admin: Connection
) -> None:
    admin.execute('create table public."Audit.Log" ("actor Id" uuid, "user" uuid)')
    admin.execute('insert into public."Audit.Log" values (%s, %s)', [ADA, BOB])
    named = [each["column"] for each in linked.json(*STEPS, "inspect")["columns"] if "Log" in each["column"]]
    assert named == ['public."Audit.Log"."actor Id"', 'public."Audit.Log"."user"']
    for column in named:
        linked.run(*STEPS, "move", "--write", "--column", column)
    assert rows(admin, 'select "actor Id", "user" from public."Audit.Log"') == [("user_ada", "user_bob")]
    # The old ids are no columns that are left to move.
    found_by = {each["column"]: each["found_by"] for each in linked.json(*STEPS, "inspect")["columns"]}
    assert [column for column, how in found_by.items() if how != "move"] == ["public.audit.actor"]
    linked.run(*STEPS, "move", "--write", "--column", "public.audit.actor", "--drop-old")
    again = linked.run(*STEPS, "move", "--write", "--column", "public.audit.actor", "--drop-old")
    assert "no table is left to move" in again.stdout
    assert "there is no column x.y.z" in str(linked.run(*STEPS, "move", "--column", "x.y.z", status=1).exception)
    assert "is no name of a table" in str(linked.run(*STEPS, "move", "a.b.c.d", status=1).exception)


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
