"""`adopt inspect` and `adopt compare` on the tables of apps that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.mapping import parse_mappings
from tests.kit.app_shapes import SHAPES, Shape, fingerprint, mirrored, person, toml
from tests.kit.databases import Connection, Database
from tests.kit.histories import alone, delete
from tests.kit.parked import Command


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest, admin: Connection) -> Shape:
    """The tables of an app."""
    found: Shape = request.param
    found.install(admin)
    return found


def count(admin: Connection, shape: Shape) -> int:
    return int(admin.execute(f"select count(*) from {shape.table}".encode()).fetchall()[0][0])  # noqa: S608


def test_the_old_handler_of_a_shape_writes_and_deletes_a_user(shape: Shape, admin: Connection) -> None:
    if not shape.table:
        return
    before = count(admin, shape)
    for user in ("user_ada", "user_bo", "user_bo"):
        shape.old_upsert(admin, person(user))
    assert count(admin, shape) == before + 1
    shape.old_delete(admin, "user_bo")
    assert count(admin, shape) == before


@pytest.fixture
def command(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command({"DATABASE_URL": database.url})


def test_compare_counts_each_difference_and_changes_nothing(
    shape: Shape, command: Command, admin: Connection, store: Store, tmp_path: Path
) -> None:
    if not shape.table:
        return
    (tmp_path / "adopt.toml").write_text(toml(shape.users))
    store.apply(alone(mirrored("user_ada"), mirrored("user_eve")))
    shape.old_upsert(admin, person("user_ada"))
    shape.old_upsert(admin, person("user_eve"))
    [same] = command.json("adopt", "compare")["tables"]
    assert (same["rows"], same["objects"], set(same["columns"].values()) - {0}) == (2, 2, set())

    store.apply(alone(mirrored("user_new"), mirrored("user_ada", version=5, first_name="Augusta", email_addresses=[])))
    store.apply(alone(delete("user_eve", at=9)))
    shape.old_upsert(admin, person("user_late"))
    before = fingerprint(admin)
    [differs] = command.json("adopt", "compare", status=3)["tables"]
    assert (differs["missing"], differs["unknown"], differs["deleted"], differs["kept"]) == (1, 1, 0, 1)
    assert differs["columns"] == {
        column: int("first_name" in text or "email" in text) for column, text in shape.update.items()
    }
    assert fingerprint(admin) == before


def test_inspect_writes_a_mapping_that_compare_takes_and_changes_nothing(
    shape: Shape, command: Command, admin: Connection, store: Store, tmp_path: Path
) -> None:
    store.apply(alone(mirrored("user_ada"), mirrored("user_eve")))
    before = fingerprint(admin)
    found = command.json("adopt", "inspect")
    assert fingerprint(admin) == before
    file = tmp_path / "adopt.toml"
    if not shape.table:
        assert found["candidates"] == []
        assert "no table is mapped" in str(command.run("adopt", "compare", status=1).exception)
        return
    column = shape.key or "clerk_user_id"
    [candidate] = [each for each in found["candidates"] if (each["table"], each["column"]) == (shape.table, column)]
    assert (candidate["linked"], candidate["unknown"], candidate["double"]) == (2, 0, 0)
    if shape.keys:
        assert "key.tenant_id is still to do" in str(command.run("adopt", "compare", status=1).exception)
        file.write_text(file.read_text().replace("TODO: a value of the type integer", "1"))
    shape.old_upsert(admin, person("user_ada"))
    [users] = [each for each in parse_mappings(file.read_text()) if each.kind == "user"]
    assert (users.table, set(users.key)) == (shape.table, {column, *shape.keys})
    assert set(users.update) == set(shape.update) | (shape.on_insert.keys() & {"username", "display_name"})
    assert users.on_insert.keys() == shape.on_insert.keys() - {"username", "display_name"}
    file.write_text(toml(users.as_json()))
    assert command.json("adopt", "compare")["equal"]
