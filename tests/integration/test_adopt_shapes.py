"""`adopt inspect` and `adopt compare` on the tables of apps that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.mapping import Mapping, parse_mappings
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


@pytest.fixture
def command(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command({"DATABASE_URL": database.url})


def test_inspect_and_compare_find_the_users_and_each_difference_and_change_nothing(
    shape: Shape, command: Command, admin: Connection, store: Store
) -> None:
    store.apply(alone(mirrored("user_ada"), mirrored("user_eve")))
    before = fingerprint(admin)
    found = command.json("adopt", "inspect")
    assert fingerprint(admin) == before
    if not shape.table:
        assert found["candidates"] == []
        assert "no table is mapped" in str(command.run("adopt", "compare", status=1).exception)
        return
    find_the_users(shape, found)
    write_what_a_person_would(shape, command)

    for user in ("user_ada", "user_eve", "user_gone"):
        shape.old_upsert(admin, person(user))
    shape.old_delete(admin, "user_gone")
    assert command.json("adopt", "compare")["equal"]

    store.apply(alone(mirrored("user_new"), mirrored("user_ada", version=5, first_name="Augusta", email_addresses=[])))
    store.apply(alone(delete("user_eve", at=9)))
    shape.old_upsert(admin, person("user_late"))
    before = fingerprint(admin)
    [differs] = command.json("adopt", "compare", status=3)["tables"]
    assert fingerprint(admin) == before
    assert (differs["missing"], differs["unknown"], differs["deleted"], differs["kept"]) == (1, 1, 0, 1)
    changed = {column for column, number in differs["columns"].items() if number}
    assert changed == {
        column for column, text in mapped(shape).update.items() if "first_name" in text or "email" in text
    }


def find_the_users(shape: Shape, found: dict[str, Any]) -> None:
    """Compares the report of inspect with the table of the shape."""
    column = shape.key or "clerk_user_id"
    [candidate] = [each for each in found["candidates"] if (each["table"], each["column"]) == (shape.table, column)]
    assert (candidate["linked"], candidate["unknown"], candidate["double"]) == (2, 0, 0)


def write_what_a_person_would(shape: Shape, command: Command) -> None:
    """Compares the mapping that inspect wrote with the columns of the handler, and completes it."""
    file = Path("adopt.toml")
    if shape.keys:
        assert "key.tenant_id is still to do" in str(command.run("adopt", "compare", status=1).exception)
        file.write_text(file.read_text().replace("TODO: a value of the type integer", "1"))
    users = mapped(shape)
    # The rows agree, so that these two are kept equal.
    kept = shape.on_insert.keys() & {"username", "display_name"}
    assert set(users.update) == set(shape.update) | kept
    assert users.on_insert.keys() == shape.on_insert.keys() - kept
    file.write_text(toml(users.as_json()))


def mapped(shape: Shape) -> Mapping:
    """The mapping of the users in adopt.toml."""
    [users] = [each for each in parse_mappings(Path("adopt.toml").read_text()) if each.kind == "user"]
    assert (users.table, set(users.key)) == (shape.table, {shape.key or "clerk_user_id", *shape.keys})
    return users
