"""A mirror in a schema of another name: the same objects, and the same ways of an event to the app."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.install.migrations import prepare_plain_postgres, read_migrations
from clerk_supabase_cli.operate.install.mirror import _QUOTED, NameNotUsable, checked_name
from clerk_supabase_cli.operate.objects.catalogue import Scope, read
from clerk_supabase_cli.operate.objects.manifest import read_manifest
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit import webhooks
from tests.kit.aws import Account
from tests.kit.clerk import api_with
from tests.kit.databases import Connection, Database, Databases, at_port, rows, value
from tests.kit.doctoring import Doctor
from tests.kit.histories import CREATED_AT, RECEIVED_AT
from tests.kit.pipeline import Pipeline
from tests.kit.proxy import CountingProxy
from tests.kit.reconciling import rig_with
from tests.kit.sessions import App, app_of
from tests.kit.signed_in import claims_of
from tests.kit.tokens import KEY

IN_CODE = re.compile(r"\bclerk\b(?![-\\])")


def run(*words: str) -> Result:
    return CliRunner().invoke(commands, list(words), env={"DATABASE_URL": None})


def migrate(url: str, *options: str) -> Result:
    return run("migrate", "--database-url", url, *options)


@pytest.fixture
def plain(new_database: str, root: Path) -> str:
    """A database with Supabase's own objects, and none of our migrations."""
    prepare_plain_postgres(new_database, root)
    return new_database


@pytest.fixture(scope="module")
def original(databases: Databases, root: Path) -> Iterator[Database]:
    """A database with its mirror in the schema `identity`, and a schema `clerk` of the app."""
    database = Database(databases.server, databases.create(), databases.worker_password)
    prepare_plain_postgres(database.url, root)
    with database.connect() as connection:
        connection.execute("create schema clerk; create table clerk.users (id text)")
    assert migrate(database.url, "--schema", "identity").exit_code == 0
    yield database
    databases.drop(database.name)


@pytest.fixture
def elsewhere(databases: Databases, original: Database) -> Iterator[Database]:
    """A copy for one test."""
    database = databases.copy(original)
    yield database
    databases.drop(database.name)


@pytest.fixture
def owner(elsewhere: Database) -> Iterator[Connection]:
    """A superuser's connection."""
    with elsewhere.connect() as connection:
        yield connection


# The files


def test_the_rendered_files_make_the_same_objects_under_the_other_name(plain: str, root: Path, tmp_path: Path) -> None:
    assert run("migrate", "--render", str(tmp_path / "sql"), "--schema", "identity").exit_code == 0
    files = sorted((tmp_path / "sql").iterdir())
    assert [file.stem for file in files] == [migration.name for migration in read_migrations(root)]
    with psycopg.connect(plain, autocommit=True) as connection:
        for file in files:
            connection.execute(file.read_bytes())
        found = read(connection, Scope.everything(connection, "identity"))
        assert {thing.key: thing for thing in found} == {
            thing.key: thing for thing in read_manifest(root).rendered("identity").things
        }
        assert value(connection, "select clerk_sync.mirror_schema()") == "identity"
        assert value(connection, "select to_regnamespace('clerk') is null")
    # `migrate` takes the files over, and compares with the same text afterwards.
    for _ in range(2):
        assert migrate(plain).output == "up to date\n"
    with psycopg.connect(plain) as connection:
        assert value(connection, "select bool_and(checksum is not null) from clerk_sync.migrations")


def test_no_file_keeps_the_usual_name(root: Path) -> None:
    for migration in read_migrations(root, "identity"):
        code = [line for line in migration.text.splitlines() if not line.lstrip().startswith("--")]
        assert [line for line in code if IN_CODE.search(line)] == []
        assert not re.search(r"(?<!/)\bclerk\.", migration.text)


def test_the_files_for_the_usual_name_are_the_files_of_the_checkout(root: Path, tmp_path: Path) -> None:
    assert run("migrate", "--render", str(tmp_path)).exit_code == 0
    for file in (root / "sql" / "migrations").iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_a_folder_with_other_sql_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "0001_mine.sql").write_text("select 1;", encoding="utf-8")
    said = run("migrate", "--render", str(tmp_path), "--schema", "identity")
    assert (said.exit_code, [file.name for file in tmp_path.iterdir()]) == (1, ["0001_mine.sql"])
    assert "has other SQL files (0001_mine.sql): name a new folder" in str(said.exception)


# The name


REJECTED = {
    **dict.fromkeys(("Clerk", "my-app", "1st", "", "user", "a" * 64, "a;b", "clerk\n"), "without quotes"),
    **dict.fromkeys(("auth", "storage", "pg_mine", "clerk_sync", "supabase_x"), "has a schema of this name"),
    "public": "`clerk-supabase expose` adds views to public",
}


def test_a_name_that_cannot_be_the_mirrors_is_rejected(tmp_path: Path) -> None:
    for name, reason in REJECTED.items():
        with pytest.raises(NameNotUsable, match=reason):
            checked_name(name)
    said = run("migrate", "--render", str(tmp_path), "--schema", "public")
    assert (said.exit_code, list(tmp_path.iterdir())) == (1, [])


def test_every_word_of_sql_is_rejected(owner: Connection) -> None:
    words = {word for (word,) in rows(owner, "select word from pg_get_keywords() where catcode <> 'U'")}
    assert words <= set(_QUOTED.split())
    for word in words:
        with pytest.raises(NameNotUsable):
            checked_name(word)


def test_the_name_in_the_database_stays(elsewhere: Database) -> None:
    said = migrate(elsewhere.url, "--schema", "other")
    assert said.exit_code == 1
    assert "the mirror of this database is in the schema identity" in str(said.exception)
    assert migrate(elsewhere.url, "--schema", "identity").output == "up to date\n"
    assert migrate(elsewhere.url, "--dry-run").output == "up to date\n"


def test_a_damaged_mirror_of_another_name_is_repaired(elsewhere: Database, owner: Connection) -> None:
    owner.execute("drop function clerk_sync.mirror_schema()")
    owner.execute("drop policy users_read_own on identity.users")
    owner.execute("alter table identity.users drop column locale")
    owner.execute("update clerk_sync.migrations set checksum = 'another'")
    assert "the policy users_read_own on identity.users is missing" in migrate(elsewhere.url).output
    assert migrate(elsewhere.url, "--repair").exit_code == 0
    assert migrate(elsewhere.url).output == "up to date\n"


# The ways of an event


def test_a_webhook_a_comparison_a_sign_in_and_a_protected_table_work_there(
    elsewhere: Database, owner: Connection, account: Account
) -> None:
    data = samples.user("user_ada", created_at=CREATED_AT, updated_at=CREATED_AT + 1, first_name="Ada")
    body = json.dumps(samples.event("user.updated", data, timestamp=CREATED_AT + 1))
    with closing(Store(Fixed(elsewhere.worker_url))) as store:
        pipeline = Pipeline(account, store, RECEIVED_AT)
        assert pipeline.post(body, "msg_1").status == 202
        assert pipeline.drain() == []
    assert rows(owner, "select clerk_id, first_name from identity.users") == [("user_ada", "Ada")]
    assert rows(owner, "select first_name from identity.users_public") == [("Ada",)]
    owner.execute("delete from identity.users; delete from clerk_sync.entities")

    with rig_with(elsewhere, 3) as rig:
        assert rig.run().state == "complete"
        first = next(iter(rig.world.users))
        owner.execute("update identity.users set first_name = 'by hand' where clerk_id = %s", [first])
        assert rig.run("full").state == "complete"
        assert value(owner, "select first_name from identity.users where clerk_id = %s", first) != "by hand"
        assert value(owner, "select count(*) from identity.users_public") == 3

    owner.execute("create table public.notes (id integer primary key)")
    owner.execute("select clerk_sync.secure('public.notes', 'user')")
    with closing(Store(Fixed(elsewhere.session_url))) as users, users.as_user(claims_of(first)) as queries:
        queries.rows("insert into public.notes (id) values (1)")
        assert queries.rows("select user_id from public.notes") == [(first,)]
        assert queries.rows("select clerk_id from users") == [(first,)]
    assert value(owner, "select count(*) from clerk.users") == 0


@pytest.fixture
def proxy(elsewhere: Database) -> Iterator[CountingProxy]:
    with CountingProxy(elsewhere.server.port) as proxy:
        yield proxy


@pytest.fixture
def app(elsewhere: Database, proxy: CountingProxy) -> Iterator[App]:
    with FrontendApi(KEY) as frontend, api_with() as clerk:
        yield from app_of(frontend, clerk, at_port(elsewhere.session_url, proxy.port))


def test_a_user_who_signs_in_gets_their_row_from_there(app: App, proxy: CountingProxy, owner: Connection) -> None:
    app.signs_up()
    assert json.loads(app.post().message)["first_name"] == "Ada"
    assert rows(owner, "select clerk_id from identity.users") == [("user_ada",)]
    before = proxy.round_trips
    assert app.post().status == 200
    assert proxy.round_trips == before + 4  # begin, the user, the row, commit


def test_the_doctor_finds_nothing_wrong_there(elsewhere: Database, owner: Connection) -> None:
    urls = {"SYNC_DATABASE_URL": elsewhere.worker_url, "SESSION_DATABASE_URL": elsewhere.session_url}
    doctor = Doctor({"DATABASE_URL": elsewhere.url, **urls})
    checks = ("migrations", "objects", "row-level-security", "worker-rights", "session-rights")
    report = doctor.examine(*checks, "worker-login", "session-login")
    assert {report.verdicts[name] for name in checks} == {"ok"}, report.text
    assert report.verdicts["session-login"] != "fail"
    owner.execute("revoke select on identity.users from authenticated")
    assert "authenticated may not select identity.users" in doctor.examine("grants").words("grants")


def test_a_person_is_forgotten_there(elsewhere: Database, owner: Connection) -> None:
    with closing(Store(Fixed(elsewhere.worker_url))) as store:
        store.apply([webhooks.user("user_ada", at=1, first_name="Ada"), webhooks.deleted("user", "user_ada", at=2)])
    said = run("forget", "user_ada", "--database-url", elsewhere.url, "--yes")
    assert said.exit_code == 0, repr(said.exception)
    assert value(owner, "select count(*) from clerk_sync.erasures") == 1


def test_the_sql_of_a_token_names_the_schema_of_the_database(elsewhere: Database) -> None:
    token = KEY.sign(Mint(KEY).payload("user_2Ada"))
    printed = json.loads(run("token", token, "--database-url", elsewhere.url, "--json").stdout)["sql"]
    assert "assumes" not in printed
    with elsewhere.connect() as admin:
        admin.execute("insert into identity.users (clerk_id) values ('user_2Ada')")
        for statement in printed.splitlines():
            ran = admin.execute(statement.encode())
            if "requesting_user_id" in statement:
                assert ran.fetchall() == [("user_2Ada",)]
