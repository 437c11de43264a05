"""The SQL and Python of the documents, run as printed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, Final, LiteralString

import pytest
from httpx import ASGITransport, AsyncClient, Response
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Delete
from clerk_supabase.postgres.store import Store
from clerk_supabase.tokens.verifiers import SessionVerifier, keys_in_pem
from clerk_supabase_cli.operate.install.migrations import migrate
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.documents import all_blocks, commands, text_of
from tests.kit.histories import alone, upsert
from tests.kit.parked import Command
from tests.kit.reconciling import rig_with
from tests.kit.tokens import KEY, OTHER_KEY
from tests.kit.webhooks import deleted, invitation, membership, organization, sample, user

ADA = {"sub": "user_ada", "role": "authenticated"}
EVE = {"sub": "user_eve", "role": "authenticated"}

TESTS_OF_KINDS: Final = (
    "tests/integration/test_kinds.py",
    "tests/integration/test_role_sets.py",
    "tests/integration/test_register.py",
    "tests/integration/test_every_sample.py::test_no_code_no_link_and_no_text_of_a_message_is_stored_anywhere",
    "tests/integration/test_every_sample.py::test_every_sample_is_applied_or_ignored_when_it_is_the_only_one",
    "tests/unit/test_sample_events.py::test_there_is_a_sample_of_every_type_that_is_synced",
    "tests/unit/test_sample_events.py::test_a_sample_of_a_synced_type_means_a_change_of_its_object",
    "tests/unit/test_imports.py::test_ingest_starts_without_what_only_sync_needs",
)


def texts(document: str, language: str) -> list[str]:
    """The blocks of a document in a language."""
    found = [block.text for block in all_blocks() if (block.document, block.language) == (document, language)]
    assert found
    return found


def executed(text: str, known: dict[str, Any]) -> dict[str, Any]:
    """The names defined by a Python block, with the imports and objects of its reader."""
    module = ModuleType("a_readers_module")
    vars(module).update(known)
    # Without this module's `from __future__ import annotations`, which would hide its types from pydantic.
    exec(compile(text, "a block", "exec", dont_inherit=True), vars(module))  # noqa: S102 - the document's own text
    return vars(module)


def test_the_tables_of_the_documents_are_protected_as_they_say(store: Store, admin: Connection) -> None:
    [tables] = texts("README.md", "sql")
    for_subscribers, policies = texts("docs/protect-your-tables.md", "sql")
    store.apply([organization("org_labs", at=1), user("user_ada", at=1), user("user_eve", at=1)])
    store.apply([membership("mem_ada", org_id="org_labs", user_id="user_ada", role="org:admin", at=1)])
    admin.execute(tables)
    admin.execute("""
        create table notes as select 'user_ada' as user_id;
        create table shared_notes as select 'org_labs' as organization_id;
    """)
    admin.execute(policies)
    admin.execute(for_subscribers)
    admin.execute("insert into reports (title, organization_id) values ('numbers', 'org_labs')")

    of_labs = ADA | {"o": {"id": "org_labs", "rol": "admin", "slg": "labs"}, "v": 2}
    with acting_as(admin, "authenticated", of_labs):
        admin.execute("insert into tasks (name) values ('write it down')")
        admin.execute("insert into documents (title) values ('minutes')")

    counts: LiteralString = """
        select (select count(*) from tasks), (select count(*) from documents),
            (select count(*) from notes), (select count(*) from shared_notes)
    """

    for claims, count in ((of_labs, 0), (of_labs | {"fea": "o:reports"}, 1)):
        with acting_as(admin, "authenticated", claims):
            assert value(admin, "select count(*) from reports") == count
    with acting_as(admin, "authenticated", ADA | {"v": 2, "pla": "u:pro"}), pytest.raises(InsufficientPrivilege):
        # The token names the plan, and no subscription is mirrored.
        admin.execute("insert into exports (name) values ('all')")

    def seen(claims: dict[str, Any]) -> tuple[int, ...]:
        with acting_as(admin, "authenticated", claims):
            [found] = rows(admin, counts)
        return found

    assert seen(of_labs) == (1, 1, 1, 1)
    assert seen(EVE) == (0, 0, 0, 0)


def test_files_belong_to_the_user_or_the_organization_of_their_folder(store: Store, admin: Connection) -> None:
    [buckets] = texts("docs/storage.md", "sql")
    store.apply([organization("org_labs", at=1), *(user(f"user_{name}", at=1) for name in ("ada", "eve"))])
    store.apply([membership("mem_ada", org_id="org_labs", user_id="user_ada", role="org:admin", at=1)])
    store.apply([membership("mem_eve", org_id="org_labs", user_id="user_eve", role="org:member", at=1)])
    # Of Supabase's Storage, the parts that the function names.
    admin.execute("""
        create schema storage;
        create table storage.buckets (id text primary key, name text, public boolean);
        create table storage.objects (bucket_id text, name text, primary key (bucket_id, name));
        create function storage.foldername(name text) returns text[] language sql immutable as
        $$ select (string_to_array(name, '/'))[1:cardinality(string_to_array(name, '/')) - 1] $$;
        alter table storage.objects enable row level security;
        grant usage on schema storage to authenticated;
        grant select, insert, update, delete on storage.objects to authenticated;
    """)
    admin.execute(buckets)

    def writes(claims: dict[str, Any], bucket: str, name: str) -> bool:
        try:
            with acting_as(admin, "authenticated", claims):
                admin.execute("insert into storage.objects values (%s, %s)", [bucket, name])
        except InsufficientPrivilege:
            return False
        return True

    def sees(claims: dict[str, Any]) -> set[str]:
        with acting_as(admin, "authenticated", claims):
            return {name for (name,) in rows(admin, "select name from storage.objects")}

    labs = {"v": 2, "o": {"id": "org_labs", "rol": "admin", "slg": "labs"}}
    assert writes(ADA, "photos", "user_ada/a.png")
    assert writes(ADA | labs, "papers", "org_labs/b.pdf")
    # Eve's token claims to be an admin's; the mirror knows better.
    for claims, bucket, name in (
        (EVE, "photos", "user_ada/c.png"),
        (EVE, "photos", "c.png"),
        (EVE, "other", "user_eve/c.png"),
        (EVE | labs, "papers", "org_labs/c.pdf"),
        (ADA, "papers", "org_labs/c.pdf"),
    ):
        assert not writes(claims, bucket, name)
    assert (sees(ADA), sees(ADA | labs)) == ({"user_ada/a.png"}, {"user_ada/a.png", "org_labs/b.pdf"})
    assert (sees(EVE), sees(EVE | labs)) == (set(), {"org_labs/b.pdf"})
    store.apply([user("user_ada", at=2, banned=True)])
    assert sees(ADA | labs) == set()


def test_a_private_channel_is_heard_by_the_members_of_the_organization_in_its_name(
    store: Store, admin: Connection
) -> None:
    [policies] = texts("docs/realtime.md", "sql")
    store.apply([organization("org_labs", at=1), *(user(f"user_{name}", at=1) for name in ("ada", "eve"))])
    store.apply([membership("mem_ada", org_id="org_labs", user_id="user_ada", role="org:admin", at=1)])
    store.apply([membership("mem_eve", org_id="org_labs", user_id="user_eve", role="org:guest", at=1)])
    admin.execute("""
        create schema realtime;
        create table realtime.messages (topic text not null, extension text not null);
        alter table realtime.messages enable row level security;
        grant usage on schema realtime to authenticated;
        grant select, insert on realtime.messages to authenticated;
    """)
    admin.execute(policies)

    def joins(claims: dict[str, Any], topic: str) -> tuple[bool, bool]:
        """The rights to hear and to send, found as by Realtime: read a row made before, and try to write another."""
        with admin.transaction(force_rollback=True):
            admin.execute("insert into realtime.messages values (%s, 'broadcast')", [topic])
            with acting_as(admin, "authenticated", claims):
                hears = rows(admin, "select 1 from realtime.messages") == [(1,)]
            try:
                with acting_as(admin, "authenticated", claims):
                    admin.execute("insert into realtime.messages values (%s, 'broadcast')", [topic])
            except InsufficientPrivilege:
                return hears, False
        return hears, True

    labs = {"v": 2, "o": {"id": "org_labs", "rol": "admin", "slg": "labs"}}
    assert joins(ADA | labs, "org_labs:board") == (True, True)
    assert joins(EVE | labs, "org_labs:board") == (True, False)
    for claims, topic in (
        (ADA, "org_labs:board"),
        (ADA | labs, "org_eves:board"),
        (ADA | labs, "room:org_labs"),
        (EVE | {"sub": "user_bob"} | labs, "org_labs:board"),
    ):
        assert joins(claims, topic) == (False, False)
    store.apply([user("user_ada", at=2, banned=True)])
    assert joins(ADA | labs, "org_labs:board") == (False, False)


def test_a_role_shows_the_present_keys_of_its_permissions(store: Store, admin: Connection) -> None:
    [view] = [text for text in texts("docs/from-your-app.md", "sql") if "role_permissions" in text]
    admin.execute(view)
    held = {"id": "perm_1", "key": "org:old:key"}
    store.apply([sample("role", "role_1", at=1, key="editor", permissions=[held, {"id": "perm_2"}])])
    store.apply([sample("permission", "perm_1", at=2, key="org:new:key"), sample("permission", "perm_2", at=2)])
    store.apply([deleted("permission", "perm_2", at=3)])
    assert rows(admin, "select role, permission from role_permissions") == [("org:editor", "org:new:key")]


def test_a_role_of_the_whole_app_decides_who_writes(store: Store, admin: Connection) -> None:
    [*_, articles] = texts("docs/from-your-app.md", "sql")
    admin.execute(articles)
    store.apply(
        [
            user("user_ada", at=1, public_metadata={"role": "editor"}),
            user("user_eve", at=1, unsafe_metadata={"role": "editor"}),
            user("user_mallory", at=1, public_metadata={"role": "editor"}, banned=True),
        ]
    )
    with acting_as(admin, "authenticated", ADA):
        admin.execute("insert into articles (title) values ('news')")
    for name in ("user_eve", "user_mallory", "user_unknown"):
        with acting_as(admin, "authenticated", EVE | {"sub": name}):
            assert rows(admin, "select title from articles") == [("news",)]
            assert rows(admin, "update articles set title = 'fake' returning 1") == []
        with pytest.raises(InsufficientPrivilege), acting_as(admin, "authenticated", EVE | {"sub": name}):
            admin.execute("insert into articles (title) values ('fake')")


def test_python_queries_as_the_user_of_a_token(store: Store, database: Database, admin: Connection) -> None:
    [text] = texts("docs/first-login.md", "python")
    [tasks] = texts("README.md", "sql")
    admin.execute(tasks)
    admin.execute("alter table tasks add is_done boolean not null default false")
    store.apply([user("user_ada", at=1), user("user_eve", at=1)])
    admin.execute("insert into tasks (name, user_id) values ('of ada', 'user_ada'), ('of eve', 'user_eve')")
    mint = Mint(KEY)
    verifier = SessionVerifier(mint.issuer, keys_in_pem(mint.key.public_pem))
    with closing(Store(Fixed(database.session_url))) as users:
        known = {"verifier": verifier, "store": users, "token": mint.session("user_ada")}
        assert executed(text, known)["tasks"] == [("of ada",)]


def test_a_python_server_answers_each_user_with_their_own_rows(
    store: Store, database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    [text] = texts("docs/clients.md", "python")
    [tasks] = texts("README.md", "sql")
    admin.execute(tasks)
    store.apply([user("user_ada", at=1), user("user_eve", at=1)])
    admin.execute("insert into tasks (name, user_id) values ('of ada', 'user_ada'), ('of eve', 'user_eve')")
    mint = Mint(KEY)
    monkeypatch.setenv("CLERK_ISSUER", mint.issuer)
    monkeypatch.setenv("CLERK_JWT_KEY", mint.key.public_pem)
    monkeypatch.setenv("SESSION_DATABASE_URL", database.session_url)
    server = ASGITransport(app=executed(text, {})["app"])

    def asked(token: str) -> Response:
        return asyncio.run(get(token))

    async def get(token: str) -> Response:
        async with AsyncClient(transport=server, base_url="http://server.test") as client:
            return await client.get("/tasks", headers={"Authorization": f"Bearer {token}"})

    assert asked(mint.session("user_ada")).json() == ["of ada"]
    assert asked(mint.session("user_eve")).json() == ["of eve"]
    assert asked(Mint(OTHER_KEY).session("user_ada")).status_code == 401
    store.apply([user("user_ada", at=2, banned=True)])
    assert asked(mint.session("user_ada")).json() == []


def test_another_type_is_synced_with_two_new_files(
    database: Database, admin: Connection, root: Path, tmp_path: Path
) -> None:
    """A copy of the checkout gets the two files, and two files of a kind that reconcile compares."""
    for name in ("cli", "events", "functions", "layers", "sql", "tests"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "template.yaml"):
        shutil.copy(root / name, tmp_path)
    written = text_of(root / "docs" / "sync-another-type.md")
    for language, folder in (("sql", "sql/migrations"), ("python", "layers/shared/clerk_supabase/model/kinds")):
        [text] = texts("docs/sync-another-type.md", language)
        [name] = {each for each in re.findall(r"`([^`\n]+)`", written) if each.startswith(f"{folder}/")}
        (tmp_path / name).write_text(text, encoding="utf-8")
    compared = root / "tests" / "kit" / "apps_kind"
    shutil.copy(compared / "9002_create_role_sets.sql", tmp_path / "sql" / "migrations")
    shutil.copy(compared / "role_set.py", tmp_path / "layers" / "shared" / "clerk_supabase" / "model" / "kinds")
    shutil.copy(compared / "test_role_sets.py", tmp_path / "tests" / "integration")
    # A copy that a file system leaves beside a module is no kind.
    (tmp_path / "layers" / "shared" / "clerk_supabase" / "model" / "kinds" / "._role_set.py").write_bytes(b"\0")

    assert list(migrate(database.url, tmp_path)) == ["9001_create_sent_emails", "9002_create_role_sets"]
    admin.execute("insert into clerk.users (clerk_id) values ('user_ada')")
    admin.execute("insert into public.sent_emails (clerk_email_id, clerk_user_id) values ('ema_1', 'user_ada')")
    query: LiteralString = "select clerk_email_id from public.sent_emails"
    with acting_as(admin, "authenticated", ADA):
        assert rows(admin, query) == [("ema_1",)]
    with acting_as(admin, "authenticated", EVE):
        assert rows(admin, query) == []

    packages = os.pathsep.join([str(tmp_path / "layers" / "shared"), str(tmp_path / "cli")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *TESTS_OF_KINDS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": packages},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "[email.created] PASSED" in done.stdout


def test_the_mapping_of_the_document_switches_the_table_of_the_document(
    store: Store, admin: Connection, database: Database, tmp_path: Path
) -> None:
    [mapping] = texts("docs/adopt.md", "toml")
    (tmp_path / "adopt.toml").write_text(mapping)
    admin.execute(
        "create table public.profiles (id uuid primary key default gen_random_uuid(), clerk_user_id text unique, "
        "username text not null unique, email text, full_name text, bio text)"
    )
    store.apply([user("user_ada", at=1)])
    Command({"DATABASE_URL": database.url}).run("adopt", "switch", "--mapping", str(tmp_path / "adopt.toml"), "--write")
    assert rows(admin, "select clerk_user_id, username, email, full_name, bio from public.profiles") == [
        ("user_ada", "user_ada", "ada@example.test", "Ada Example", None)
    ]


def test_no_role_of_the_api_can_make_a_trigger_on_a_table_that_triggers_write(admin: Connection, root: Path) -> None:
    text = " ".join(text_of(root / "docs" / "operate.md").split())
    [statement] = re.findall(r"If your own triggers on the table write other tables, run `(revoke [^`]+)`", text)
    roles = ("anon", "authenticated", "service_role")
    admin.execute("create table public.log (line text); grant all on public.log to anon, authenticated, service_role")
    admin.execute(statement.encode())
    assert [value(admin, "select has_table_privilege(%s, 'public.log', 'trigger')", role) for role in roles] == [
        False
    ] * 3


def test_forged_rows_are_corrected_as_the_document_says(database: Database, admin: Connection) -> None:
    look, forget, lift = texts("docs/security.md", "sql")
    with rig_with(database, 30) as rig:
        ada, eve = list(rig.world.users)[:2]
        rig.run()
        leak = value(admin, "select clock_timestamp()::text")
        tomorrow = rig.world.now + 86_000_000
        rig.store.apply(
            alone(
                upsert(ada, version=tomorrow, first_name="Mallory"),
                upsert("user_invented", version=tomorrow),
                Delete("user", eve, rig.world.now),
            )
        )
        # The forged version is newer than anything Clerk says.
        rig.run()
        assert rig.column(ada, "first_name") == "Mallory"

        assert {row[2] for row in admin.execute(look.replace("2026-01-31 12:00+00", leak))} >= {
            ada,
            eve,
            "user_invented",
        }
        admin.execute(forget.replace("2026-01-31 12:00+00", leak))
        report = rig.run()
        assert rig.column(ada, "first_name") == rig.world.users[ada]["first_name"]
        assert {key for key, each in rig.findings(report).items() if each.difference == "deleted here"} == {eve}
        admin.execute(lift.replace("42", str(report.run_id)))
        rig.run()
        assert rig.agrees()


@pytest.mark.parametrize(
    "query", [each.arguments[-1] for each in commands({"psql"}) if each.program == "psql" and "-c" in each.arguments]
)
def test_a_query_that_is_typed_into_psql_runs(query: str, admin: Connection) -> None:
    if query.startswith("\\password "):
        assert value(admin, "select to_regrole(%s) is not null", query.split()[1])
    else:
        admin.execute(query)


def test_a_forged_membership_opens_what_asks_the_rows_alone_and_no_table_of_secure(
    store: Store, admin: Connection
) -> None:
    """The claims of docs/security.md about somebody with the webhook secret."""
    [tables] = texts("README.md", "sql")
    admin.execute(tables)
    admin.execute("insert into documents (title, organization_id) values ('minutes', 'org_labs')")
    store.apply([organization("org_labs", at=1), user("user_eve", at=1)])
    store.apply([membership("mem_forged", org_id="org_labs", user_id="user_eve", role="org:admin", at=1)])
    store.apply([invitation("inv_1", org_id="org_labs", at=1)])
    with acting_as(admin, "authenticated", EVE):
        assert rows(admin, "select 1 from clerk.organization_invitations") == [(1,)]
        assert rows(admin, "select 1 from documents") == []
