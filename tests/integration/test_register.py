"""clerk_sync.register(): what it generates for the table of a kind, and what a column more needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.errors import InvalidParameterValue, NotNullViolation, UndefinedParameter

from clerk_supabase.model.changes import Upsert
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.operate.install.migrations import is_of_the_app, read_migrations
from clerk_supabase_cli.operate.objects.manifest import read_manifest
from tests.kit.databases import Connection, rows, value
from tests.kit.examples import example
from tests.kit.histories import CREATED_AT
from tests.kit.kinds import APPS, OURS
from tests.kit.webhooks import told, user


def test_a_column_that_a_later_migration_mirrors_is_written_audited_and_compared(
    store: Store, admin: Connection
) -> None:
    admin.execute("select clerk_sync.mirror_column('user', 'birthday', 'date')")
    store.apply([user("user_ada", at=1)])
    content = value(admin, "select to_jsonb(u) from clerk.users as u") | {"birthday": "2000-02-29"}
    newer = {"kind": "user", "id": "user_ada", "content": content, "cause": "operator"}
    newer |= {"source_updated_at": CREATED_AT + 10_000, "observed_at": CREATED_AT + 10_000}

    assert value(admin, "select outcome from clerk_sync.apply(%s::jsonb)", json.dumps([newer])) == "updated"

    assert value(admin, "select birthday::text from clerk.users") == "2000-02-29"
    [*_, (last,)] = rows(admin, "select changed_columns from clerk_sync.audit_log order by audit_id")
    assert last == ["birthday"]
    other = [newer | {"content": content | {"birthday": None}}]
    differing = "select fields, emptied from clerk_sync.differing_user(%s::jsonb)"
    assert admin.execute(differing, [json.dumps(other)]).fetchall() == [(["birthday"], ["birthday"])]


def test_a_column_that_functions_of_an_earlier_version_cannot_fill_is_not_mirrored(
    store: Store, admin: Connection
) -> None:
    """Each event of a new user would be parked until the functions are deployed."""
    with pytest.raises(NotNullViolation, match=r"the new column is_adult of clerk\.users has to be nullable"):
        admin.execute("select clerk_sync.mirror_column('user', 'is_adult', 'boolean not null default false')")
    assert store.apply([user("user_ada", at=1)]) == ["created"]


@pytest.mark.parametrize("kind", [kind for kind in OURS if FACTS[kind].verbs])
def test_content_as_an_array_differs_from_a_row_where_the_same_content_as_an_object_does(
    kind: str, store: Store, admin: Connection
) -> None:
    parents: Any = {"user_id": "user_1", "org_id": "org_1"}
    object_of_kind = example(kind, f"{kind}_1", created_at=CREATED_AT, **parents, updated_at=CREATED_AT + 1)
    event = told(FACTS[kind].whole, object_of_kind, at=1)
    store.apply([event])
    change = event[0].main
    assert isinstance(change, Upsert)
    same = dict(change.content)
    changed = [{**same, name: other} for name, value in same.items() for other in (None, _another(value))]
    shorter = {name: _another(value) for name, value in list(same.items())[:-1]}
    for contents in ([same, *changed], [shorter]):
        as_objects = json.dumps([{"kind": kind, "id": change.id, "content": content} for content in contents])
        as_arrays = json.dumps([[change.id, 1, 1, *content.values()] for content in contents])
        function = sql.Identifier("clerk_sync", f"differing_{kind}")
        found = admin.execute(sql.SQL("select * from {}(%s)").format(function), [as_objects]).fetchall()
        by_place = sql.SQL("select * from {}(%s, %s)").format(function)
        assert admin.execute(by_place, [as_arrays, list(contents[0])]).fetchall() == found
        assert found


def _another(value: Any) -> Any:
    """Another value of the type of a column."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return "2001-01-01T00:00:00+00:00"
        case list():
            return [*value, "another"]
        case dict():
            return {"another": 1}
        case _:
            return None


def test_arrays_without_the_names_of_their_columns_are_an_error(admin: Connection) -> None:
    arrays = json.dumps({"user": [["user_1", 1, 1, "Ada"]]})
    with pytest.raises(InvalidParameterValue, match="names no columns of user"):
        admin.execute("select clerk_sync.find_differing('[]', %s)", [arrays])


def test_all_columns_of_a_synced_table_are_mirrored_but_its_key_its_parents_and_its_delete(admin: Connection) -> None:
    left = rows(
        admin,
        """
        select k.kind, a.attname::text from clerk_sync.kinds as k
        inner join pg_attribute as a on a.attrelid = k.relation::regclass and a.attnum > 0
        where a.attname <> all(k.mirrored_columns)
        """,
    )
    expected = {kind: {FACTS[kind].key, *FACTS[kind].parents, "deleted_at"} for kind in OURS}
    expected["private_metadata"] = {"entity_id", "deleted_at"}
    assert {each for each in left if each[0] not in APPS} == {
        (kind, column) for kind, columns in expected.items() for column in columns
    }


def test_the_numbers_of_this_project_and_of_the_app_never_meet(root: Path) -> None:
    ours = {facts.write_order for facts in FACTS.values() if facts.is_in_mirror}
    apps = {facts.write_order for facts in FACTS.values() if not facts.is_in_mirror}
    assert max(ours) < 9001 <= min(apps, default=9001)
    listed = set(read_manifest(root).migrations)
    assert listed == {migration.name for migration in read_migrations(root) if migration.name < "9001"}
    assert not any(map(is_of_the_app, listed))


@pytest.mark.parametrize("number", [1, 6, 9000])
def test_a_kind_of_the_app_cannot_take_the_place_of_a_later_kind_of_this_project(
    admin: Connection, number: int
) -> None:
    admin.execute("create table public.letters (letter_id text primary key, deleted_at timestamptz)")
    with pytest.raises(InvalidParameterValue, match="give a place from 9001 on"):
        admin.execute("select clerk_sync.register('letter', %s, 'public.letters', 'letter_id')", [number])


def test_a_statement_is_filled_once_and_never_with_a_hole_left(admin: Connection) -> None:
    holes = json.dumps({"table": "{key}", "key": "id"})
    filled = "select clerk_sync.statement_of('select {key} from {table}', %s::jsonb)"
    assert value(admin, filled, holes) == "select id from {key}"
    with pytest.raises(UndefinedParameter, match=r"nothing fills the hole \{key\}"):
        admin.execute("select clerk_sync.statement_of('select {key}', '{}')")
