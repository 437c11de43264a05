"""`migrate` and `doctor` know each object of the database, name the differences, and `--repair` repairs them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from click.testing import CliRunner, Result

from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.install.migrations import (
    MigrationFailed,
    ObjectsDiffer,
    apply_missing,
    differing_objects,
    is_of_the_app,
    migrate,
    prepare_plain_postgres,
    read_migrations,
    repair_database,
)
from clerk_supabase_cli.operate.objects.catalogue import DISPATCHERS
from clerk_supabase_cli.operate.objects.manifest import read_manifest
from clerk_supabase_cli.operate.objects.repair import NotRepaired
from tests.kit.databases import Connection, Database, rows
from tests.kit.doctoring import Doctor
from tests.kit.kinds import APPS, OUR_KINDS
from tests.kit.objects import made_by_migrations

LIST = "select name, checksum from clerk_sync.migrations order by name"


@pytest.fixture
def plain(new_database: str, root: Path) -> str:
    """A database with Supabase's own objects, and none of our migrations."""
    prepare_plain_postgres(new_database, root)
    return new_database


@pytest.fixture
def ours(root: Path, tmp_path: Path) -> Path:
    """The checkout without migrations of an app, with which each unknown object is left over from another version."""
    shutil.copytree(root / "sql", tmp_path / "ours" / "sql")
    for name in of_the_app(root):
        (tmp_path / "ours" / "sql" / "migrations" / f"{name}.sql").unlink()
    return tmp_path / "ours"


@pytest.fixture
def older(root: Path, tmp_path: Path) -> Path:
    """A checkout of an older version: of each kind of object one differs, and the last files do not exist yet."""
    shutil.copytree(root / "sql", tmp_path / "sql")
    folder = tmp_path / "sql" / "migrations"
    for file in folder.glob("*.sql"):
        if file.name >= "0022":
            file.unlink()
    edit(folder / "0002_create_users.sql", "    locale text,\n", "")
    edit(folder / "0002_create_users.sql", "for each row when (old.clerk_id <> new.clerk_id)", "for each row")
    edit(folder / "0004_create_kinds.sql", "    fields text []", "    columns text []")
    edit(folder / "0007_create_parked_events.sql", "    -- Against a delete", "    perform 1;\n    -- Against a delete")
    edit(folder / "0018_protect_tables.sql", "deleted_at is null and clerk_id =", "clerk_id =")
    edit(folder / "0018_protect_tables.sql", "organization_domains_read_by_permission", "organization_domains_read")
    edit(
        folder / "0012_create_runs.sql",
        "create index reconcile_findings_entity_idx on clerk_sync.reconcile_findings (entity_id);",
        "",
    )
    (folder / "0020_create_secure.sql").rename(folder / "0020_secure_tables.sql")
    edit(folder / "0020_secure_tables.sql", "('0020_create_secure')", "('0020_secure_tables')")
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def apply_like_psql(url: str, checkout: Path) -> None:
    """All files of a checkout, as `psql -f` and `supabase db push` send them."""
    with psycopg.connect(url, autocommit=True) as connection:
        for migration in read_migrations(checkout):
            connection.execute(migration.text.encode())


def apply_like_migrate(url: str, checkout: Path) -> None:
    """Applies all files of a checkout, as the `migrate` of that version did."""
    with psycopg.connect(url, autocommit=True) as connection:
        list(apply_missing(connection, read_migrations(checkout)))


def of_the_app(root: Path) -> list[str]:
    """Names of the migrations that an app has added to the checkout."""
    return [migration.name for migration in read_migrations(root) if is_of_the_app(migration.name)]


def words(connection: Connection, root: Path) -> list[str]:
    return [difference.words for difference in differing_objects(connection, root)]


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(commands, ["migrate", "--database-url", url, *arguments])


def test_the_list_of_objects_is_that_of_the_migrations(new_database: str, root: Path) -> None:
    assert read_manifest(root).text() == made_by_migrations(root, new_database).text(), "run `make objects`"


# Both commands


def test_migrate_and_doctor_name_the_same_and_repair_makes_both_content(database: Database, admin: Connection) -> None:
    admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
    admin.execute("drop table clerk_sync.audit_log; drop index clerk.users_email_idx")
    admin.execute("alter table clerk.users disable trigger users_project_on_update")
    doctor = Doctor({"DATABASE_URL": database.url})
    said = [
        "the table clerk_sync.audit_log is missing",
        "the index clerk.users_email_idx is missing",
        "the trigger users_project_on_update on clerk.users: enabled is no, the migrations make it yes",
    ]

    migrated = run(database.url)
    assert migrated.exit_code == 1
    assert migrated.stdout.splitlines() == said
    assert "3 objects are not as the migrations of this version make them" in str(migrated.exception)
    assert "clerk-supabase migrate --repair" in str(migrated.exception)
    verdict, found = doctor.verdict("objects")
    assert verdict == "fail"
    assert [line.partition(" -> ")[0] for line in found.splitlines()] == said
    assert "alter table clerk.users enable trigger users_project_on_update; or, for all" in found

    tried = run(database.url, "--repair", "--dry-run")
    assert tried.exit_code == 0, tried.output
    assert "create table clerk_sync.audit_log (" in tried.stdout
    assert doctor.verdict("objects")[0] == "fail"
    repaired = run(database.url, "--repair")
    assert repaired.stdout == tried.stdout
    assert run(database.url, "--repair").stdout == "nothing differs\n"
    assert run(database.url).stdout == "up to date\n"
    assert doctor.verdict("objects") == ("ok", "all are as the migrations of this version make them -> ")
    assert rows(admin, "select clerk_id from clerk.users") == [("user_1",)]


@pytest.mark.parametrize("options", [[], ["--repair"]])
def test_a_role_that_is_not_the_owner_is_told_to_connect_as_the_owner(options: list[str], database: Database) -> None:
    refused = run(database.worker_url, *options)
    assert refused.exit_code == 1
    assert "connect as the owner of the tables" in str(refused.exception)


def test_a_dry_run_names_the_migrations_that_are_missing_and_applies_none(plain: str) -> None:
    tried = run(plain, "--dry-run")
    assert tried.exit_code == 0, tried.output
    applied = run(plain)
    names = [line.removeprefix("applied ") for line in applied.stdout.splitlines()[:-1]]
    assert tried.stdout.splitlines() == [
        *(f"would apply {name}" for name in names),
        f"{len(names)} would be applied; nothing was changed",
    ]
    assert run(plain, "--dry-run").stdout == "up to date\n"


def test_a_dry_run_names_what_differs_and_ends_like_a_real_one(database: Database, admin: Connection) -> None:
    admin.execute("drop index clerk.users_email_idx")
    tried = run(database.url, "--dry-run")
    assert (tried.exit_code, tried.stdout) == (1, "the index clerk.users_email_idx is missing\n")
    assert str(tried.exception) == str(run(database.url).exception)


def test_a_dry_run_that_would_have_to_change_the_roles_first_is_refused() -> None:
    assert run("postgresql://nobody@127.0.0.1/none", "--dry-run", "--plain-postgres").exit_code == 2


# Databases of other versions


@pytest.mark.parametrize("apply", [apply_like_psql, apply_like_migrate])
def test_a_database_of_an_older_version_is_recognised_and_repaired_whatever_tool_filled_it(
    plain: str, root: Path, ours: Path, older: Path, apply: Callable[[str, Path], None]
) -> None:
    apply(plain, older)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("insert into clerk.users (clerk_id, email) values ('user_1', 'ada@example.com')")
        before = rows(connection, LIST)
        with pytest.raises(ObjectsDiffer, match=r"0020_secure_tables.* was changed|, 0020_secure_tables") as refused:
            list(migrate(plain, ours))
        said = [difference.words for difference in refused.value.found]
        assert "the column clerk.users.locale is missing" in said
        assert "the function clerk_sync.record_canary(jsonb) is missing" in said
        assert "the policy organization_domains_read on clerk.organization_domains is none of this version" in said
        assert rows(connection, LIST) == before

        assert repair_database(plain, ours, is_trial=True)
        assert rows(connection, LIST) == before
        assert repair_database(plain, ours, is_trial=False)
        assert list(migrate(plain, ours)) == []
        assert list(migrate(plain, root)) == of_the_app(root)
        assert words(connection, root) == []
        checksums = [(migration.name, migration.checksum) for migration in read_migrations(root)]
        assert rows(connection, LIST) == checksums
        assert rows(connection, "select clerk_id, email from clerk.users") == [("user_1", "ada@example.com")]


def test_a_database_that_psql_filled_from_the_same_names_but_an_older_text_is_not_adopted(
    plain: str, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "sql", tmp_path / "sql")
    edit(tmp_path / "sql/migrations/0007_create_parked_events.sql", "    -- Against a delete", "    perform 1;\n    --")
    apply_like_psql(plain, tmp_path)
    with pytest.raises(ObjectsDiffer, match="1 object is not as the migrations"):
        list(migrate(plain, root))
    with psycopg.connect(plain, autocommit=True) as connection:
        assert {checksum for _, checksum in rows(connection, LIST)} == {None}


def test_a_database_of_a_newer_version_is_left_alone(
    database: Database, admin: Connection, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "sql", tmp_path / "sql")
    (tmp_path / "sql" / "migrations" / "9001_of_the_app.sql").write_text("select 1;")
    admin.execute("insert into clerk_sync.migrations (name) values ('8999_from_the_future')")
    admin.execute("drop function clerk_sync.begin_run(jsonb)")
    said = "of a newer version than this command, with 8999_from_the_future"
    with pytest.raises(MigrationFailed, match=said):
        list(migrate(database.url, tmp_path))
    with pytest.raises(MigrationFailed, match=said):
        repair_database(database.url, tmp_path, is_trial=False)


def test_after_a_way_back_doctor_does_not_advise_to_repair_the_objects_of_a_later_version(
    database: Database, admin: Connection
) -> None:
    admin.execute("insert into clerk_sync.migrations (name) values ('8999_from_the_future')")
    admin.execute("create or replace function clerk_sync.revoke_default_rights() returns void language sql as ''")
    verdict, said = Doctor({"DATABASE_URL": database.url}).verdict("objects")
    assert verdict == "skipped", said
    assert "of a newer version than this command, with 8999_from_the_future" in said


@pytest.mark.parametrize("loss", ["delete from clerk_sync.migrations", "drop table clerk_sync.migrations"])
def test_a_database_without_its_list_is_recognised_and_gets_it_again(
    database: Database, admin: Connection, root: Path, loss: LiteralString
) -> None:
    before = rows(admin, LIST)
    admin.execute(loss)
    with pytest.raises(ObjectsDiffer, match="no list of the migrations that made them"):
        list(migrate(database.url, root))
    verdict, said = Doctor({"DATABASE_URL": database.url}).verdict("migrations")
    assert verdict == "fail"
    assert "no list of the migrations" in said
    repair_database(database.url, root, is_trial=False)
    # An app records its own migrations again.
    assert rows(admin, LIST) == [row for row in before if row[0] not in of_the_app(root)]


def test_a_schema_that_pg_dump_restored_without_rows_lacks_rows_alone_and_gets_them(
    database: Database, plain: str, root: Path
) -> None:
    command = [str(database.server.binaries / "pg_dump"), "--schema-only", "--schema=clerk", database.url]
    dump = subprocess.run([*command, "--schema=clerk_sync"], capture_output=True, text=True, check=True).stdout
    statements = "\n".join(line for line in dump.splitlines() if not line.startswith("\\"))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statements.encode())
    with pytest.raises(ObjectsDiffer, match="restored without rows") as refused:
        list(migrate(plain, root))
    # The branches of an app's kind are unknown while the row of the kind is missing.
    found = [each for each in refused.value.found if not (APPS and each.thing.name in DISPATCHERS)]
    said = [difference.words for difference in found]
    assert sorted(said) == sorted(f"the row kind {kind} is missing" for kind in OUR_KINDS)
    repair_database(plain, root, is_trial=False)
    assert list(migrate(plain, root)) == of_the_app(root)


def test_a_file_that_was_applied_in_part_is_recognised_and_repaired(plain: str, root: Path) -> None:
    files = read_migrations(root)
    with psycopg.connect(plain, autocommit=True) as connection:
        for migration in files[:2]:
            connection.execute(migration.text.encode())
        connection.execute(files[2].text[: files[2].text.index("create index")].encode())
    with pytest.raises(MigrationFailed, match=r"0003_create_audit_log: .* already exists; .*migrate --repair"):
        list(migrate(plain, root))
    repair_database(plain, root, is_trial=False)
    assert list(migrate(plain, root)) == of_the_app(root)


def test_there_is_nothing_to_repair_in_an_empty_database(plain: str, root: Path) -> None:
    with pytest.raises(MigrationFailed, match="nothing of this project exists: clerk-supabase migrate"):
        repair_database(plain, root, is_trial=False)
    assert Doctor({"DATABASE_URL": plain}).verdict("objects")[0] == "fail"


def test_objects_of_a_migration_of_the_app_in_our_schema_are_no_difference_and_a_repair_leaves_them(
    database: Database, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "sql", tmp_path / "sql")
    (tmp_path / "sql/migrations/9999_of_the_app.sql").write_text("""
        create function clerk_sync.of_the_app() returns int language sql return 1;
        insert into clerk_sync.migrations (name) values ('9999_of_the_app');
    """)
    assert list(migrate(database.url, tmp_path)) == ["9999_of_the_app"]
    assert list(migrate(database.url, tmp_path)) == []
    assert repair_database(database.url, tmp_path, is_trial=False) == []


def test_a_migration_of_the_app_that_a_lost_list_no_longer_names_is_refused_with_the_statement_that_records_it(
    plain: str, ours: Path
) -> None:
    (ours / "sql/migrations/9801_create_letters.sql").write_text(
        "create table public.letters (id text primary key);"
        "insert into clerk_sync.migrations (name) values ('9801_create_letters');"
    )
    assert list(migrate(plain, ours))[-1] == "9801_create_letters"
    with psycopg.connect(plain, autocommit=True) as connection:
        before = rows(connection, LIST)
        connection.execute("delete from clerk_sync.migrations")
        repair_database(plain, ours, is_trial=False)
        with pytest.raises(MigrationFailed, match="if this database has had the file, record it: insert") as refused:
            list(migrate(plain, ours))
        connection.execute(str(refused.value).partition("record it: ")[2].encode())
        assert list(migrate(plain, ours)) == []
        assert rows(connection, LIST) == before


def test_a_manifest_of_other_files_is_reported(plain: str, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "sql", tmp_path / "sql")
    edit(tmp_path / "sql/migrations/0022_create_canary.sql", "-- The canary:", "-- A canary:")
    with pytest.raises(MigrationFailed, match="make objects"):
        list(migrate(plain, tmp_path))


def test_another_session_that_keeps_a_lock_is_named(database: Database, admin: Connection, root: Path) -> None:
    admin.execute("alter table clerk.users disable trigger users_keep_key")
    with admin.transaction():
        admin.execute("lock table clerk.users in row exclusive mode")
        with pytest.raises(NotRepaired, match=r"another session keeps a lock .* try again"):
            repair_database(database.url, root, is_trial=False)
