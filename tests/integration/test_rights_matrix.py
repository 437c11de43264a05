"""docs/rights.md lists the rights of each identity on each object of the database: no more and no fewer exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice
from typing import LiteralString

import pytest

from tests.kit.databases import Connection, Database
from tests.kit.documents import ROOT
from tests.kit.rights_matrix import document, fill, forget_nobody

_DOCUMENT = ROOT / "docs" / "rights.md"


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        fill(connection)
        yield connection
        forget_nobody(connection)


def test_each_identity_has_the_documented_rights_and_no_others(owner: Connection) -> None:
    if differing := list(_differences(owner)):
        pytest.fail("\n".join(["docs/rights.md and the database differ:", *differing]), pytrace=False)


@pytest.mark.parametrize(
    "statement",
    [
        "create table clerk_sync.planted (id int)",
        "create view clerk.planted as select clerk_id from clerk.users",
        "create materialized view clerk.planted as select clerk_id from clerk.users",
        "create sequence clerk_sync.planted",
        "create function clerk_sync.planted() returns int language sql return 1",
        "create type clerk_sync.planted as enum ('one')",
        "create domain clerk.planted as text",
    ],
)
def test_an_object_without_a_row_is_found(owner: Connection, statement: LiteralString) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute(statement)
        assert [line for line in _differences(owner) if line.startswith("+") and "planted" in line]


@pytest.mark.parametrize(
    "statement",
    [
        "grant select on clerk.users to anon",
        "grant select (email) on clerk.users to anon",
        "grant truncate on clerk.organizations to service_role",
        "grant trigger on clerk.users to authenticated",
        "grant update on clerk.users_public to service_role",
        "grant usage on schema clerk_sync to authenticated",
        "grant create on schema clerk to authenticated",
        "grant execute on function clerk_sync.undo_run(jsonb) to clerk_sync_worker",
        "grant execute on function clerk_sync.apply(jsonb) to public",
        "grant usage on sequence clerk_sync.audit_log_audit_id_seq to clerk_sync_worker",
        "grant clerk_sync_session to clerk_sync_worker with inherit true",
        "create policy planted on clerk.users for select to authenticated using (true)",
        "drop policy users_read_own on clerk.users",
    ],
)
def test_an_undocumented_right_is_found(owner: Connection, statement: LiteralString) -> None:
    # Without the statement nothing differs: the first test.
    with owner.transaction(force_rollback=True):
        owner.execute(statement)
        assert list(_differences(owner))


def _differences(owner: Connection) -> Iterator[str]:
    """Lines of the document alone (-) or of the database alone (+)."""
    written = _DOCUMENT.read_text(encoding="utf-8")
    for heading, table in document(owner).items():
        _, _, below = written.partition(f"\n## {heading}\n")
        section = below.partition("\n## ")[0].strip()
        # Without the first two lines, which name files. ndiff() would compare the letters of long lines, too.
        lines = islice(difflib.unified_diff(section.splitlines(), table.splitlines(), n=0, lineterm=""), 2, None)
        yield from (line for line in lines if line[0] in "+-")
