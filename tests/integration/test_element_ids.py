"""An element writes the row of its id, and of no other, whatever key its content holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clerk_supabase.model.changes import Delete
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.examples import examples_besides
from tests.kit.histories import CREATED_AT, alone
from tests.kit.kinds import APPS, OUR_KINDS
from tests.kit.webhooks import domain, invitation, membership, organization, told, user

_OWN: dict[Kind, str] = {
    "user": "user_ada",
    "organization": "org_ada",
    "membership": "orgmem_ada",
    "invitation": "orginv_ada",
    "domain": "orgdmn_ada",
    "private_metadata": "user_ada",
}
ADA: dict[Kind, str] = {kind: _OWN.get(kind, f"{kind}_ada") for kind in OUR_KINDS}
FILLED: tuple[Kind, ...] = tuple(kind for kind in OUR_KINDS if kind not in FACTS or not FACTS[kind].parents)


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.worker_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def content(store: Store, admin: Connection) -> dict[str, dict[str, Any]]:
    """Of each kind the content of a row of Ada's, all of which were deleted since."""
    ada = samples.user("user_ada", created_at=CREATED_AT, updated_at=CREATED_AT + 1, private_metadata={"note": "Ada"})
    store.apply(
        [
            told("user.updated", ada, at=1, keep_private_metadata=True),
            organization("org_ada", at=1),
            *(user("user_2", at=1), organization("org_2", at=1)),
            membership("orgmem_ada", at=1, org_id="org_2", user_id="user_2"),
            invitation("orginv_ada", at=1, org_id="org_2"),
            domain("orgdmn_ada", at=1, org_id="org_2"),
            *examples_besides(*_OWN, at=1, user_id="user_2", org_id="org_2"),
        ]
    )
    found = {}
    for kind, relation, key in rows(admin, "select kind, relation, key_column::text from clerk_sync.kinds"):
        if kind in APPS:
            continue
        query = sql.SQL("select to_jsonb(r) - 'deleted_at' from {} as r where {} = %s").format(
            sql.Identifier(*relation.split(".")), sql.Identifier(key)
        )
        [(found[kind],)] = admin.execute(query, [ADA[kind]])
    store.apply(alone(*(Delete(kind, object_id, CREATED_AT + 5) for kind, object_id in ADA.items())))
    return found


def row(admin: Connection, kind: str, object_id: str) -> Any:
    """The row of an object as JSON, and its physical place; None without a row."""
    [(relation, key)] = rows(admin, "select relation, key_column::text from clerk_sync.kinds where kind = %s", kind)
    query = sql.SQL("select to_jsonb(r), r.ctid::text from {} as r where {} = %s").format(
        sql.Identifier(*relation.split(".")), sql.Identifier(key)
    )
    return admin.execute(query, [object_id]).fetchone()


def element(kind: str, content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An unknown object, with a content that names Ada's."""
    return {"kind": kind, "id": "fresh", "source_updated_at": 10**13, "observed_at": 10**13, "content": content[kind]}


def test_every_kind_is_tried_below(admin: Connection) -> None:
    assert set(OUR_KINDS) == ADA.keys()
    assert {kind for (kind,) in rows(admin, "select kind from clerk_sync.kinds")} - APPS == ADA.keys()
    found = rows(admin, "select substr(proname, 6) from pg_proc where proname like 'fill\\_%'")
    # fill_feed() fills tables of the app.
    assert {kind for (kind,) in found} - APPS - {"feed"} == set(FILLED)


@pytest.mark.parametrize("kind", ADA)
def test_apply_writes_the_row_of_the_id_and_leaves_the_row_that_the_content_names(
    kind: Kind, worker: Connection, admin: Connection, content: dict[str, dict[str, Any]]
) -> None:
    before = row(admin, kind, ADA[kind])
    for _ in range(2):
        worker.execute("select * from clerk_sync.apply(%s::jsonb)", [json.dumps([element(kind, content)])])
        assert row(admin, kind, ADA[kind]) == before
        assert row(admin, kind, "fresh")[0]["deleted_at"] is None


@pytest.mark.parametrize("kind", FILLED)
def test_fill_writes_the_row_of_the_id_and_leaves_the_row_that_the_content_names(
    kind: Kind, worker: Connection, admin: Connection, content: dict[str, dict[str, Any]]
) -> None:
    before = row(admin, kind, ADA[kind])
    run = begin(worker)
    asked = {"run": run["run_id"], "page": [element(kind, content)]}
    assert value(worker, "select clerk_sync.fill(%s::jsonb)", json.dumps(asked)) == []
    assert row(admin, kind, ADA[kind]) == before
    assert row(admin, kind, "fresh")[0]["deleted_at"] is None


@pytest.mark.parametrize("kind", ADA)
def test_compare_looks_at_the_row_of_the_id(
    kind: Kind, worker: Connection, admin: Connection, content: dict[str, dict[str, Any]]
) -> None:
    admin.execute("insert into clerk_sync.entities (kind, id, version) values (%s, 'fresh', row(1, 1, 1))", [kind])
    run = begin(worker)
    asked = {"run": run["run_id"], "lease": run["lease"], "number": 0, "kind": "user", "tally": {}}
    answer = value(
        worker, "select clerk_sync.compare(%s::jsonb)", json.dumps(asked | {"page": [element(kind, content)]})
    )
    assert answer == [[kind, "fresh", "missing", "repair"]]


def begin(worker: Connection) -> Any:
    """Begins a run that is at work."""
    asked = {"instance_id": "ins_1", "mode": "full", "dry_run": False, "versions_only": False, "allow_deletes": None}
    request = json.dumps(asked | {"as_of": 1, "lease_seconds": 60})
    return value(worker, "select clerk_sync.begin_run(%s::jsonb)", request)["run"]
