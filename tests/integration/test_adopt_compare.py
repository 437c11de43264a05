"""`adopt inspect` and `adopt compare`: names of an attacker, wrong mappings, and differences row by row."""

from __future__ import annotations

import tomllib
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.mapping import parse_mappings
from clerk_supabase_cli.operate.blockers import LockedByOthers
from clerk_supabase_cli.operate.database import open_database
from tests.kit.app_shape import fingerprint, mirrored
from tests.kit.databases import Connection, Database, value
from tests.kit.histories import alone, delete
from tests.kit.parked import Command

TABLE = """
create table public.users (
    id uuid primary key default gen_random_uuid(), clerk_id text, email text not null, first_name varchar(5),
    full_name text generated always as (first_name || '!') stored, number integer generated always as identity,
    settings json
)
"""


@pytest.fixture
def command(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command({"DATABASE_URL": database.url})


def write(*lines: str) -> None:
    Path("adopt.toml").write_text("\n".join(["[users]", 'table = "public.users"', 'key = "clerk_id"', *lines]))


def test_names_of_an_attacker_stay_names_in_the_mapping_and_on_the_terminal(
    command: Command, admin: Connection, store: Store
) -> None:
    store.apply(alone(mirrored("user_ada")))
    column = "a\"b'\n[organizations]\ntable = 'x'\n\x1b[31m"
    table = 't\n"x"; drop table clerk.users; --'
    create = sql.SQL("create table {} ({} text primary key, email text, {} text not null)")
    names = [sql.Identifier("public", table), sql.Identifier(column), sql.Identifier(f"{column}2")]
    admin.execute(create.format(*names))
    insert = sql.SQL("insert into {} values ('user_ada', 'ada@example.test', 'x')")
    admin.execute(insert.format(sql.Identifier("public", table)))
    said = command.run("adopt", "inspect").stdout
    assert "\x1b" not in said
    written = tomllib.loads(Path("adopt.toml").read_text())
    assert written.keys() == {"users"}
    assert written["users"]["key"] == column
    Path("adopt.toml").write_text(Path("adopt.toml").read_text().replace("TODO: a value of the type text", "'x'"))
    assert command.json("adopt", "compare")["tables"][0]["columns"] == {"email": 0}


def test_the_first_mapping_keeps_a_flag_equal_and_leaves_no_access_to_a_removed_member(
    command: Command, admin: Connection, store: Store
) -> None:
    admin.execute(
        """
        create table public.users (
            id uuid primary key default gen_random_uuid(), clerk_id text unique, email_verified boolean not null
        );
        create table public.teams (id uuid primary key default gen_random_uuid(), clerk_org_id text unique);
        create table public.team_members (
            team_id uuid references public.teams, user_id uuid references public.users,
            role text not null default 'member', primary key (team_id, user_id)
        );
        insert into public.users (clerk_id, email_verified) values ('user_ada', true);
        insert into public.teams (clerk_org_id) values ('org_acme')
        """
    )
    first = command.run("adopt", "inspect", "--output", "first.toml").stdout
    assert first.endswith("clerk-supabase adopt compare --mapping first.toml\n")
    store.apply(alone(mirrored("user_ada")))
    command.run("adopt", "inspect")
    written = Path("adopt.toml").read_text()
    users, _, members = parse_mappings(written)
    assert users.update == {"email_verified": "mirror.email_verified"}
    assert (members.kind, members.on_delete) == ("membership", "delete")
    uncommented = written.replace("# [organization_memberships.on_insert]", "[organization_memberships.on_insert]")
    *_, members = parse_mappings(uncommented.replace("# role =", "role ="))
    assert members.on_insert == {"role": "mirror.role"}


def test_inspect_finds_ids_that_few_rows_of_a_large_table_have(command: Command, admin: Connection) -> None:
    admin.execute(
        """
        create table public.people (id integer primary key, auth text unique, note text);
        insert into public.people select n, null, repeat('x', 400) from generate_series(1, 20000) as n;
        insert into public.people select n, 'user_' || n, null from generate_series(20001, 20300) as n;
        analyze public.people
        """
    )
    [candidate] = command.json("adopt", "inspect")["candidates"]
    assert (candidate["column"], candidate["rows"], candidate["unlinked"]) == ("auth", 20_300, 20_000)


def test_inspect_keeps_a_file_that_a_person_has_edited(command: Command) -> None:
    Path("adopt.toml").write_text("mine")
    assert "--force" in str(command.run("adopt", "inspect", status=1).exception)
    assert Path("adopt.toml").read_text() == "mine"


def test_inspect_says_before_the_first_migration_what_is_there(new_database: str, command: Command) -> None:

    with psycopg.connect(new_database) as connection:
        connection.execute(TABLE.encode())
        connection.execute("alter table public.users add unique (clerk_id)")
        connection.execute("insert into public.users (clerk_id, email) values ('user_ada', 'a'), (null, 'b')")
    found = Command({"DATABASE_URL": new_database}).json("adopt", "inspect")
    [candidate] = found["candidates"]
    assert (found["has_mirror"], candidate["linked"], candidate["unlinked"]) == (False, None, 1)
    assert candidate["computed"] == ["full_name", "number"]
    assert [each.kind for each in parse_mappings(Path("adopt.toml").read_text())] == ["user"]


def test_rows_hidden_by_policies_are_never_taken_for_missing_or_equal(
    command: Command, admin: Connection, database: Database, new_database: str
) -> None:
    tables = """
        create table public.people (clerk_id text unique); create table public.users (clerk_id text unique, email text);
        alter table public.users enable row level security;
        grant select on public.users, public.people to authenticated;
    """
    admin.execute(
        tables + "grant usage on schema clerk_sync to authenticated; grant select on clerk_sync.kinds to authenticated"
    )
    write("update = { email = 'mirror.email' }")
    acting = "options=-c%20role%3Dauthenticated"
    compared = Command({"DATABASE_URL": f"{database.url}?{acting}"}).run("adopt", "compare", status=1)
    assert "connect as a role that sees all rows: with BYPASSRLS" in str(compared.exception)
    with psycopg.connect(new_database) as connection:
        connection.execute(tables)
        connection.execute("insert into public.people values ('user_ada')")
    found = Command({"DATABASE_URL": f"{new_database}?{acting}"}).json("adopt", "inspect", "--output", "first.toml")
    assert ([each["table"] for each in found["candidates"]], found["hidden"]) == (["public.people"], ["public.users"])


def test_no_command_waits_for_ever_for_a_locked_table_and_each_names_the_session(
    command: Command, admin: Connection, database: Database
) -> None:
    admin.execute("create table public.users (id integer primary key, clerk_id text unique, email text)")
    write("update = { email = 'mirror.email' }")
    url = f"{database.url}?options=-c%20lock_timeout%3D50ms"
    impatient = Command({"DATABASE_URL": url})
    with psycopg.connect(database.url, application_name="nightly") as other:
        other.execute("lock table public.users in access exclusive mode")
        for step in ("inspect --output second.toml", "compare", "link", "switch"):
            failed = str(impatient.run("adopt", *step.split(), status=1).exception)
            assert f"pid {other.info.backend_pid} (role postgres, application 'nightly', idle in" in failed
            assert "with a lock on public.users; run the command again" in failed
    admin.execute("insert into public.users values (1)")
    with psycopg.connect(database.url) as other:
        other.execute("select from public.users for update")
        named = r"lock on a row \(while updating tuple \(0,1\) in relation \"users\"\); run"
        with pytest.raises(LockedByOthers, match=named), open_database(url) as connection:
            connection.execute("update public.users set email = 'x'")
    with open_database(database.url) as connection:
        assert value(connection, "select current_setting('lock_timeout')") == "10s"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("update = { nickname = 'mirror.username' }", "public.users has no such column"),
        ("update = { Email = 'mirror.email' }", "did you mean email?"),
        ("update = { id = 'gen_random_uuid()' }", "a key of the app is never changed"),
        ("update = { full_name = 'mirror.email' }", "computes this generated column"),
        ("on_insert = { number = '1' }", "numbers this identity column"),
        ("on_delete = { clear = ['email'] }", "email is NOT NULL and cannot be cleared"),
        ("update = { email = 'mirror.nothing' }", "column mirror.nothing does not exist"),
        ("update = { email = 'mirror.email +' }", "syntax error"),
        ("update = { settings = 'mirror.email' }", "is of type json but expression is of type text"),
        (
            "update = { email = '(with d as (delete from clerk.users returning 1) select 1 from d)' }",
            "must be at the top",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_the_database_is_rejected_with_the_fault(
    line: str, said: str, command: Command, admin: Connection
) -> None:
    admin.execute(TABLE.encode())
    write(line)
    assert said in str(command.run("adopt", "compare", status=1).exception)


def test_an_expression_that_writes_fails_and_changes_nothing(command: Command, admin: Connection, store: Store) -> None:
    store.apply(alone(mirrored("user_ada")))
    admin.execute(TABLE.encode())
    admin.execute(
        "create function public.wipe() returns text language plpgsql as "
        "$$ begin delete from public.users; return 'x'; end $$; insert into public.users (email) values ('x')"
    )
    before = fingerprint(admin)
    write("update = { email = 'public.wipe()' }")
    assert "read-only transaction" in str(command.run("adopt", "compare", status=1).exception)
    assert fingerprint(admin) == before


def test_compare_lists_the_rows_of_a_fault_and_their_values_only_if_asked(
    command: Command, admin: Connection, store: Store
) -> None:
    admin.execute(TABLE.encode())
    admin.execute(
        "insert into public.users (clerk_id, email, first_name) values ('user_ada', 'old@example.test', 'Ada'), "
        "('user_eve', 'eve@example.test', 'Eve'), ('user_eve', 'eve@example.test', 'Eve'), ('user_gone', 'x', null), "
        "('legacy', 'y', null), (null, 'z', null)"
    )
    store.apply(alone(mirrored("user_ada", first_name="Ada-Augusta"), mirrored("user_eve"), mirrored("user_gone")))
    store.apply(alone(delete("user_gone", at=9)))
    write("update = ['email', 'first_name']", "on_delete = 'delete'")
    [found] = command.json("adopt", "compare", status=3)["tables"]
    # "Ada-Augusta" is cut to "Ada-A" only by a cast, never by a comparison.
    assert found["columns"] == {"email": 1, "first_name": 1}
    assert (found["deleted"], found["double"], found["unlinked"], found["unknown"]) == (1, 1, 2, 0)
    assert found["samples"]["email"] == [{"id": "user_ada", "mirror": None, "app": None}]
    assert "example.test" not in command.run("adopt", "compare", status=3).stdout

    [found] = command.json("adopt", "compare", "--show", "email", "--values", status=3)["tables"]
    assert found["samples"] == {"email": [{"id": "user_ada", "mirror": "ada@example.test", "app": "old@example.test"}]}
    assert "user_gone" in command.run("adopt", "compare", "--show", "deleted", status=3).stdout
    command.run("adopt", "compare", "--show", "nothing", status=2)


def test_a_cleared_row_of_a_deleted_user_is_no_difference(command: Command, admin: Connection, store: Store) -> None:
    admin.execute(TABLE.encode())
    store.apply(alone(mirrored("user_ada")))
    store.apply(alone(delete("user_ada", at=9)))
    write("on_delete = { clear = ['first_name'] }")
    admin.execute("insert into public.users (clerk_id, email, first_name) values ('user_ada', 'a', 'Ada')")
    assert command.json("adopt", "compare", status=3)["tables"][0]["not_cleared"] == 1
    admin.execute("update public.users set first_name = null")
    assert command.json("adopt", "compare")["tables"][0]["kept"] == 1


def test_a_member_who_left_and_joined_again_is_one_row(command: Command, admin: Connection) -> None:
    admin.execute(
        """
        insert into clerk.users (clerk_id) values ('user_ada');
        insert into clerk.organizations (clerk_org_id) values ('org_1');
        insert into clerk.organization_memberships
            (clerk_membership_id, clerk_org_id, clerk_user_id, role, deleted_at)
        values ('orgmem_1', 'org_1', 'user_ada', 'org:member', now()),
            ('orgmem_2', 'org_1', 'user_ada', 'org:admin', null);
        create table public.members (org text, who text, role text, primary key (org, who));
        insert into public.members values ('org_1', 'user_ada', 'org:admin')
        """
    )
    Path("adopt.toml").write_text(
        """
        [organization_memberships]
        table = "public.members"
        key = { org = "mirror.clerk_org_id", who = "mirror.clerk_user_id" }
        update = ["role"]
        on_delete = "delete"
        """
    )
    [found] = command.json("adopt", "compare")["tables"]
    assert (found["rows"], found["objects"], found["deleted"], found["columns"]) == (1, 1, 0, {"role": 0})
