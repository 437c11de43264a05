"""The migrations: applied once and in order by any tool, with an error for every fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from clerk_supabase_cli.operate.install.migrations import (
    MigrationFailed,
    is_of_the_app,
    migrate,
    prepare_plain_postgres,
    read_migrations,
)
from tests.kit.databases import Connection, Database, rows, value

APPLIED = "select name from clerk_sync.migrations order by applied_at, name"


@pytest.fixture
def plain(new_database: str, root: Path) -> str:
    """A database with Supabase's own objects, and none of our migrations."""
    prepare_plain_postgres(new_database, root)
    return new_database


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A copy of the project's SQL that a test may change."""
    shutil.copytree(root / "sql", tmp_path / "sql")
    return tmp_path


def names(root: Path) -> list[str]:
    return [migration.name for migration in read_migrations(root)]


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


def apply_like_psql(url: str, file: Path) -> None:
    """All statements of a file, as `psql -f` and `supabase db push` send them."""
    with connect(url) as connection:
        connection.execute(file.read_bytes())


def add(checkout: Path, name: str, text: str) -> None:
    (checkout / "sql" / "migrations" / f"{name}.sql").write_text(text, encoding="utf-8")


def records(name: str) -> str:
    return "insert into clerk_sync.migrations (name) values ('NAME');\n".replace("NAME", name)


def test_all_migrations_are_applied_in_the_order_of_their_numbers(plain: str, root: Path) -> None:
    assert list(migrate(plain, root)) == names(root)
    with connect(plain) as connection:
        assert [name for (name,) in rows(connection, APPLIED)] == names(root)


def test_a_second_run_applies_nothing(plain: str, root: Path) -> None:
    list(migrate(plain, root))
    assert list(migrate(plain, root)) == []


def test_only_what_is_missing_is_applied(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    add(checkout, "9998_first", records("9998_first"))
    add(checkout, "9999_second", records("9999_second"))
    assert list(migrate(plain, checkout)) == ["9998_first", "9999_second"]


def test_the_files_are_numbered_without_a_gap(root: Path) -> None:
    ours = [name for name in names(root) if not is_of_the_app(name)]
    assert [name[:5] for name in ours] == [f"{number:04}_" for number in range(1, len(ours) + 1)]


def test_every_file_records_its_own_name_as_its_last_act(root: Path) -> None:
    for migration in read_migrations(root):
        assert migration.text.endswith("\n" + records(migration.name))


def test_two_runs_of_migrate_at_once_apply_every_file_once(plain: str, root: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from clerk_supabase_cli.operate.install.migrations import migrate\n"
        "print(*migrate(sys.argv[1], Path(sys.argv[2])), sep='\\n')"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, plain, str(root)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    applied = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(applied[0] + applied[1]) == names(root)


def test_a_file_that_was_changed_after_it_was_applied_is_named(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    file = checkout / "sql" / "migrations" / f"{names(checkout)[0]}.sql"
    file.write_text(file.read_text() + "\n-- one more thought\n")
    with pytest.raises(MigrationFailed, match=f"{names(checkout)[0]} was changed after"):
        list(migrate(plain, checkout))


def test_a_file_that_fails_leaves_nothing_and_names_its_line(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    add(checkout, "9998_good", "create table public.good (id int);\n" + records("9998_good"))
    text = "-- Zoë's comment\ncreate table public.half (id int);\n\nselect nonsense\nfrom public.half;\n"
    add(checkout, "9999_bad", text + records("9999_bad"))

    run = migrate(plain, checkout)
    assert next(run) == "9998_good"
    with pytest.raises(MigrationFailed, match=r"9999_bad: line 4: .*nonsense"):
        next(run)

    with connect(plain) as connection:
        assert value(connection, "select to_regclass('public.half')") is None
        assert value(connection, "select to_regclass('public.good')") is not None
        assert "9999_bad" not in [name for (name,) in rows(connection, APPLIED)]


def test_an_error_without_a_position_still_names_the_file(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    add(checkout, "9999_bad", "select 1 / 0;\n" + records("9999_bad"))
    with pytest.raises(MigrationFailed, match="9999_bad: division by zero"):
        list(migrate(plain, checkout))


def test_nothing_is_applied_after_a_file_that_failed(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    add(checkout, "9998_bad", "select 1 / 0;\n" + records("9998_bad"))
    add(checkout, "9999_later", "create table public.later (id int);\n" + records("9999_later"))
    with pytest.raises(MigrationFailed):
        list(migrate(plain, checkout))
    with connect(plain) as connection:
        assert value(connection, "select to_regclass('public.later')") is None


def test_the_failed_file_is_applied_once_it_is_corrected(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    add(checkout, "9999_bad", "select 1 / 0;\n" + records("9999_bad"))
    with pytest.raises(MigrationFailed):
        list(migrate(plain, checkout))
    add(checkout, "9999_bad", "select 1 / 1;\n" + records("9999_bad"))
    assert list(migrate(plain, checkout)) == ["9999_bad"]


def test_a_file_that_does_not_record_itself_is_refused(plain: str, checkout: Path) -> None:
    add(checkout, "9999_silent", "create table public.silent (id int);\n")
    with pytest.raises(MigrationFailed, match="9999_silent does not record itself"):
        list(migrate(plain, checkout))
    with connect(plain) as connection:
        assert value(connection, "select to_regclass('public.silent')") is None


def test_migrations_applied_by_psql_are_adopted_and_compared_from_then_on(plain: str, checkout: Path) -> None:
    for file in sorted((checkout / "sql" / "migrations").glob("*.sql")):
        apply_like_psql(plain, file)

    assert list(migrate(plain, checkout)) == []

    with connect(plain) as connection:
        assert rows(connection, "select name from clerk_sync.migrations where checksum is null") == []
    file = checkout / "sql" / "migrations" / f"{names(checkout)[-1]}.sql"
    file.write_text(file.read_text() + "\n-- one more thought\n")
    with pytest.raises(MigrationFailed, match="was changed after"):
        list(migrate(plain, checkout))


def test_migrate_continues_where_psql_stopped(plain: str, root: Path) -> None:
    first = names(root)[0]
    apply_like_psql(plain, root / "sql" / "migrations" / f"{first}.sql")
    assert list(migrate(plain, root)) == names(root)[1:]


def test_the_result_is_the_same_whoever_applied_the_files(plain: str, root: Path, shared_database: Database) -> None:
    for file in sorted((root / "sql" / "migrations").glob("*.sql")):
        apply_like_psql(plain, file)
    shape = """
        select table_schema, table_name, column_name, data_type, is_nullable, column_default
        from information_schema.columns where table_schema in ('clerk', 'clerk_sync') order by 1, 2, 3
    """
    with connect(plain) as by_psql, shared_database.connect() as by_migrate:
        assert rows(by_psql, shape) == rows(by_migrate, shape)


def test_another_database_of_the_server_may_have_the_roles_already(plain: str, root: Path) -> None:
    # The template of all tests was migrated before, on the same server.
    with connect(plain) as connection:
        assert value(connection, "select count(*) from pg_roles where rolname = 'clerk_sync_worker'") == 1
    assert list(migrate(plain, root)) == names(root)


def test_the_migrations_set_no_password(root: Path) -> None:
    for migration in read_migrations(root):
        assert "password '" not in migration.text.lower()


def test_a_database_without_the_roles_of_supabase_is_refused_with_the_name_of_the_role(
    new_database: str, checkout: Path
) -> None:
    # The roles belong to the server and exist here: a file asks for others.
    for file in (checkout / "sql" / "migrations").glob("*.sql"):
        file.write_text(file.read_text().replace("authenticated", "authenticated_elsewhere"))
    with pytest.raises(MigrationFailed, match="authenticated_elsewhere"):
        list(migrate(new_database, checkout))


# A Postgres that is not Supabase


def test_the_bootstrap_of_a_plain_postgres_can_be_run_twice(new_database: str, root: Path) -> None:
    prepare_plain_postgres(new_database, root)
    prepare_plain_postgres(new_database, root)
    with connect(new_database) as connection:
        found = rows(
            connection,
            """
            select rolname::text, rolcanlogin, rolbypassrls from pg_roles
            where rolname in ('anon', 'authenticated', 'service_role') order by 1
            """,
        )
    assert found == [("anon", False, False), ("authenticated", False, False), ("service_role", False, True)]


def test_the_bootstrap_can_be_run_again_after_the_migrations(plain: str, root: Path) -> None:
    list(migrate(plain, root))
    prepare_plain_postgres(plain, root)
    assert list(migrate(plain, root)) == []


@pytest.mark.parametrize(
    ("claims", "seen"), [("", None), ('{"sub": "user_1"}', {"sub": "user_1"}), ("null", None), ("[]", [])]
)
def test_the_bootstrap_brings_the_claims_of_the_token(claims: str, seen: object, plain: str) -> None:
    with connect(plain) as connection, connection.transaction():
        connection.execute("set local role authenticated")
        connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        assert value(connection, "select auth.jwt()") == seen


def test_the_name_of_a_migration_is_quoted_wherever_it_is_used(plain: str, checkout: Path) -> None:
    list(migrate(plain, checkout))
    name = "9999_it's"
    statement = sql.SQL("insert into clerk_sync.migrations (name) values ({});").format(name)
    add(checkout, name, statement.as_string())
    assert list(migrate(plain, checkout)) == [name]
