"""`clerk-supabase adopt supabase-auth export`: users of Supabase Auth as files for Clerk's import."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clerk_supabase_cli.adopt.supabase_auth.export.files import export
from clerk_supabase_cli.adopt.supabase_auth.export.safe_place import alone_in
from clerk_supabase_cli.operate.database import open_database
from tests.kit.databases import Connection, Database
from tests.kit.parked import Command
from tests.kit.supabase_auth import ADA, AUTH, BCRYPT, BOB, EVE, MAX, SUE, app_of_three, user

STEPS = ("adopt", "supabase-auth")


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    """Ada and Bob own a project each, and Bob is a member of Ada's; Eve never verified her address."""
    return app_of_three(database, admin)


def exported(folder: Path) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in json.loads((folder / "users.json").read_text())}


def left_out(folder: Path) -> set[tuple[str, str]]:
    lines = (folder / "left_out.ndjson").read_text().splitlines()
    return {(each["id"], each["what"]) for each in map(json.loads, lines)}


def test_the_export_keeps_secrets_and_trust_where_they_belong(
    command: Command, admin: Connection, tmp_path: Path
) -> None:
    admin.execute('update auth.users set raw_app_meta_data = raw_app_meta_data || \'{"plan": "pro"}\'')
    user(admin, MAX, phone="4915112345678", password="$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=a2V5$c2FsdA==$aGFzaA==")
    user(admin, SUE, "sue@example.test", banned_until="2999-01-01", password="$argon2d$v=19$m=16,t=2,p=1$YQ$YQ")
    folder = tmp_path / "secret"
    said = command.run(*STEPS, "export", str(folder))
    assert BCRYPT not in said.output
    found = exported(folder)
    assert found[ADA] == {
        "id": ADA,
        "primary_email_address": "ada@example.test",
        "first_name": "Ada",
        "last_name": "King Lovelace",
        "password_digest": BCRYPT,
        "password_hasher": "bcrypt",
        "public_metadata": {"plan": "pro"},
        "unsafe_metadata": {"full_name": "Ada King Lovelace", "role": "admin"},
        "created_at": "2025-01-01T00:00:00Z",
    }
    assert (found[MAX]["primary_phone_number"], found[MAX]["password_digest"]) == (
        "+4915112345678",
        "aGFzaA==$c2FsdA==$a2V5$Bw==$8$14",
    )
    assert found[MAX]["password_hasher"] == "scrypt_firebase"
    assert "password_digest" not in found[SUE]
    assert found[SUE]["banned"] is True
    assert EVE not in found
    assert left_out(folder) == {(EVE, "email"), (EVE, "user"), (SUE, "password")}
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    command.run(*STEPS, "export", str(folder))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_garbage_is_left_out_and_its_user_is_not(admin: Connection, database: Database, tmp_path: Path) -> None:
    admin.execute(AUTH)
    garbage: list[tuple[str, dict[str, Any]]] = [
        ("user metadata", {"user_metadata": '["no", "object"]'}),
        ("user metadata", {"user_metadata": '{"far": 1e5000}'}),
        ("user metadata", {"user_metadata": "[" * 5_000 + "]" * 5_000}),
        ("metadata", {"user_metadata": json.dumps({"long": "x" * 100_000})}),
        ("user metadata", {"user_metadata": json.dumps({"long": "ü" * 4_100})}),
        ("password", {"password": "plain \\u0000 text"}),
        ("password", {"password": '{"key_id": "k", "alg": "aes-gcm-hkdf"}'}),
        ("password", {"password": f"{BCRYPT}\n"}),
    ]
    expected = set()
    for number, (what, columns) in enumerate(garbage):
        user_id = f"00000000-0000-4000-8000-{number:012}"
        user(admin, user_id, f"{number}@example.test", **columns)
        expected.add((user_id, what))
    Command({"DATABASE_URL": database.url}).run(*STEPS, "export", str(tmp_path))
    assert len(exported(tmp_path)) == len(garbage)
    assert left_out(tmp_path) == expected


def test_an_address_of_two_users_goes_to_neither_and_an_unverified_twin_takes_nothing(
    command: Command, admin: Connection, tmp_path: Path
) -> None:
    user(admin, MAX, "BOB@example.test")
    user(admin, SUE, "ADA@example.test", confirmed=False, phone="123")
    command.run(*STEPS, "export", str(tmp_path))
    assert [*exported(tmp_path)] == [ADA]
    assert {(MAX, "email"), (BOB, "email"), (SUE, "email")} <= left_out(tmp_path)


def test_hashes_are_not_written_where_git_would_take_them(command: Command, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    folder = tmp_path / "deep" / "export"
    failed = command.run(*STEPS, "export", str(folder), status=1)
    assert "password hashes could be committed" in str(failed.exception)
    assert not folder.exists()
    (tmp_path / ".gitignore").write_text("/deep/\n")
    command.run(*STEPS, "export", str(folder))
    assert ADA in exported(folder)


def test_a_date_that_no_program_takes_is_left_out_and_its_user_is_not(
    command: Command, admin: Connection, tmp_path: Path
) -> None:
    user(admin, MAX, "max@example.test", created_at="infinity")
    user(admin, SUE, "sue@example.test", created_at="0044-03-15 BC")
    command.run(*STEPS, "export", str(tmp_path))
    assert ["created_at" in exported(tmp_path)[each] for each in (ADA, MAX, SUE)] == [True, False, False]


def test_two_exports_to_one_folder_never_mix(command: Command, tmp_path: Path) -> None:
    with alone_in(tmp_path):
        failed = command.run(*STEPS, "export", str(tmp_path), status=1)
    assert "another export writes to" in str(failed.exception)
    assert [*tmp_path.iterdir()] == []


def test_a_role_that_does_not_see_all_users_exports_nothing(
    command: Command, admin: Connection, database: Database, tmp_path: Path
) -> None:
    admin.execute(
        "grant usage on schema auth to authenticated; grant select on all tables in schema auth to authenticated"
    )
    with open_database(database.url) as connection:
        connection.execute("set role authenticated")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            export(connection, tmp_path, "public")
    assert [*tmp_path.iterdir()] == []
