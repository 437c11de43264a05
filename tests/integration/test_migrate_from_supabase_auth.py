"""docs/migrate-from-supabase-auth.md: its commands, typed word for word, on a database with users of Supabase Auth."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, acting_as, rows
from tests.kit.documents import OURS, ROOT, Block, blocks
from tests.kit.histories import alone, upsert
from tests.kit.parked import Command
from tests.kit.supabase_auth import APP, AUTH, user

ADA, BOB, EVE = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))


def import_users(file: Path, store: Store) -> None:
    """Clerk makes the users of a file, and its webhooks bring them."""
    users = json.loads(file.read_text())
    names = {each["id"]: each["primary_email_address"].partition("@")[0] for each in users}
    store.apply(alone(*(upsert(f"user_{name}", external_id=user_id) for user_id, name in names.items())))


def type_in(block: Block, command: Command, store: Store) -> str:
    """The output of the lines of a block; Clerk's own command is played."""
    said = ""
    for line in block.text.splitlines():
        program, *arguments = shlex.split(line)
        if program == OURS:
            said += command.run(*arguments).output
        elif "--dry-run" not in arguments:
            import_users(Path(arguments[2]), store)
    return said


def test_the_story_ends_with_clerks_ids_everywhere(
    admin: Connection, store: Store, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    admin.execute(AUTH)
    for user_id, name, confirmed in ((ADA, "ada", True), (BOB, "bob", True), (EVE, "eve", False)):
        user(admin, user_id, f"{name}@example.test", confirmed=confirmed, confirmation_sent_at="2025-01-01")
    admin.execute(APP)
    admin.execute("insert into public.projects (name, owner_id) values ('of ada', %s), ('of bob', %s)", [ADA, BOB])
    command = Command({"DATABASE_URL": database.url})
    said = {}
    for block in blocks(ROOT / "docs" / "migrate-from-supabase-auth.md"):
        if block.language == "sh":
            said[block.heading] = type_in(block, command, store)
        else:
            admin.execute(block.text.encode())
    assert "public.projects.owner_id (by key, on delete cascade): 2 of 2 rows" in said["1. Look"]
    assert f"{EVE} eve@example.test: no verified address" in said["3. Who is who"]
    assert rows(admin, "select name, owner_id from public.projects order by 1") == [
        ("of ada", "user_ada"),
        ("of bob", "user_bob"),
    ]
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        assert rows(admin, "select name from public.my_projects") == [("of ada",)]
    left = command.json("adopt", "supabase-auth", "inspect")["todo"]
    assert [each["what"] for each in left] == [
        "function public.is_mine(uuid)",
        "trigger on_auth_user_created on auth.users",
    ]
    admin.execute("delete from auth.users")
    assert rows(admin, "select count(*) from public.projects") == [(2,)]
