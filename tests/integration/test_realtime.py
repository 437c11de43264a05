"""docs/from-your-app.md: what Supabase Realtime learns of the published tables, by Postgres's own messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import tuple_row

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from tests.kit import webhooks
from tests.kit.databases import Connection, rows, value
from tests.kit.documents import all_blocks

_CHANGES = """
    select data from pg_logical_slot_get_binary_changes(
        'realtime', null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime'
    )
"""


@pytest.fixture
def published(root: Path) -> Iterator[tuple[Connection, Store]]:
    """A database whose changes are read as Realtime reads them, with the tables that the document publishes."""
    [statement] = [block.text for block in all_blocks() if "supabase_realtime" in block.text]
    with EmbeddedPostgres(settings={"wal_level": "logical"}) as server:
        url = server.create_database("app")
        prepare_plain_postgres(url, root)
        assert list(migrate(url, root))
        with (
            psycopg.connect(url, autocommit=True, row_factory=tuple_row) as owner,
            closing(Store(Fixed(f"{url}?sslmode=disable"))) as store,
        ):
            owner.execute("create role supabase_realtime_admin; create publication supabase_realtime")
            owner.execute(statement.encode())
            owner.execute("select pg_create_logical_replication_slot('realtime', 'pgoutput')")
            yield owner, store


def changes(owner: Connection, kind: bytes) -> list[bytes]:
    """The messages of one kind: I, U or D."""
    return [bytes(data) for (data,) in rows(owner, _CHANGES) if bytes(data[:1]) == kind]


def test_a_published_table_tells_only_the_key_of_a_deleted_row(published: tuple[Connection, Store]) -> None:
    owner, store = published
    assert value(owner, "select has_schema_privilege('supabase_realtime_admin', 'clerk', 'usage')")
    identities = "select distinct c.relreplident::text from pg_class as c where c.relnamespace = 'clerk'::regnamespace"
    assert rows(owner, f"{identities} and c.relkind = 'r'") == [("d",)]
    store.apply([webhooks.user("user_ada", at=1, first_name="Ada"), webhooks.organization(at=1)])
    [inserted] = changes(owner, b"I")  # organizations are not published
    assert b"user_ada" in inserted
    assert b"Ada" in inserted
    # Clerk's delete keeps the row: an update, which the policies then hide.
    store.apply([webhooks.deleted("user", "user_ada", at=2)])
    assert changes(owner, b"D") == []
    owner.execute("update clerk.users set first_name = 'Ada'")
    changes(owner, b"U")
    owner.execute("delete from clerk.users")
    [deleted] = changes(owner, b"D")
    # After the letter and the number of the table: K for a key, where O would be the whole old row.
    assert deleted[5:6] == b"K"
    assert b"user_ada" in deleted
    assert b"Ada" not in deleted
