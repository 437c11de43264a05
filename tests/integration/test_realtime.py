"""docs/from-your-app.md: what Supabase Realtime learns of the published tables, by Postgres's own messages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import LiteralString

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
from tests.kit.parked import Command

_CHANGES = """
    select data from pg_logical_slot_get_binary_changes(
        'realtime', null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime'
    )
"""


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    """A migrated database whose log of changes can be read."""
    with EmbeddedPostgres(settings={"wal_level": "logical"}) as server:
        url = server.create_database("app")
        prepare_plain_postgres(url, root)
        assert list(migrate(url, root))
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("create role supabase_realtime_admin; create publication supabase_realtime")
        yield url


@pytest.fixture
def published(server: str) -> Iterator[tuple[Connection, Store]]:
    """A database whose changes are read as Realtime reads them, with the tables that the document publishes."""
    [typed] = [block.text for block in all_blocks() if "clerk-supabase publish" in block.text]
    command = Command({"DATABASE_URL": server})
    for line in typed.splitlines():
        command.run(*shlex.split(line, comments=True)[1:])
    with (
        psycopg.connect(server, autocommit=True, row_factory=tuple_row) as owner,
        closing(Store(Fixed(f"{server}?sslmode=disable"))) as store,
    ):
        owner.execute("select pg_create_logical_replication_slot('realtime', 'pgoutput')")
        yield owner, store
        owner.execute("select pg_drop_replication_slot('realtime')")


def changes(owner: Connection, kinds: bytes) -> list[bytes]:
    """The messages of these kinds: I, U or D."""
    return [bytes(data) for (data,) in rows(owner, _CHANGES) if bytes(data[:1]) in kinds]


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
    owner.execute("update clerk.users set first_name = 'Ada' where clerk_id = 'user_ada'")
    changes(owner, b"U")
    owner.execute("delete from clerk.users where clerk_id = 'user_ada'")
    [deleted] = changes(owner, b"D")
    # After the letter and the number of the table: K for a key, where O would be the whole old row.
    assert deleted[5:6] == b"K"
    assert b"user_ada" in deleted
    assert b"Ada" not in deleted


def test_a_sign_in_that_changes_nothing_sends_no_message(published: tuple[Connection, Store]) -> None:
    owner, store = published
    store.apply([webhooks.user("user_bob", at=1, first_name="Bob")])
    assert len(changes(owner, b"IUD")) == 1
    version: LiteralString = "select (version).source_updated_at from clerk_sync.entities where id = 'user_bob'"
    before = value(owner, version)
    # Clerk sends user.updated at each sign-in, with a newer time, and with no other field that is mirrored.
    store.apply([webhooks.user("user_bob", at=2, first_name="Bob", last_sign_in_at=1700000000000)])
    assert value(owner, version) == before + 1
    assert changes(owner, b"IUD") == []
    store.apply([webhooks.user("user_bob", at=3, first_name="Robert")])
    assert len(changes(owner, b"IUD")) == 1


def test_only_tables_whose_policies_decide_are_published(server: str) -> None:
    command = Command({"DATABASE_URL": server})
    with psycopg.connect(server, autocommit=True) as owner:
        owner.execute("""
            create function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
            create table public.notes (id int primary key);
            select clerk_sync.secure('public.notes', 'user');
            create table public.open (id int primary key);
            create table public.keyless (id int);
            create table public.uids (id int primary key, owner uuid);
            grant select on public.uids to authenticated;
            alter table public.keyless enable row level security;
            alter table public.uids enable row level security;
            create policy own on public.uids for select to authenticated using (owner = auth.uid());
            alter table public.uids replica identity full;
        """)
        rejected = {
            "clerk_sync.entities": "no table of your app",
            "public.open": "clerk-supabase secure public.open user",
            "public.keyless": "has no primary key",
            "public.uids": "fails with Clerk's token (22P02)",
            "public.gone": "create the table first",
            "16384000": "spell it schema.table",
        }
        for table, said in rejected.items():
            # One bad table, and nothing is published.
            failed = command.run("publish", "public.notes", table, "--write", status=1)
            assert said in str(failed.exception), table
            assert "grant select on clerk_sync" not in str(failed.exception)

        listed = "select count(*) from pg_publication_tables where tablename = 'notes'"
        tried = command.run("publish", "public.notes")
        assert "alter publication supabase_realtime add table public.notes;" in tried.stdout
        assert "a delete goes to every subscriber, whatever the policies say, with the primary key (id)" in tried.stdout
        assert value(owner, listed) == 0
        command.run("publish", "public.notes", "--write")
        assert "nothing to do" in command.run("publish", "public.notes", "--write").stderr
        assert value(owner, listed) == 1
        assert "public.notes" in command.json("publish")["tables"]
        command.run("publish", "public.notes", "--remove", "--write")
        assert "nothing to do" in command.run("publish", "public.notes", "--remove").stderr
        assert value(owner, listed) == 0

        owner.execute("drop policy own on public.uids")
        said = command.run("publish", "public.uids").stdout
        assert "replica identity full: each update also sends the old values" in said
        assert "nobody will hear of inserts and updates" in said
        owner.execute("drop table public.uids, public.notes; drop function auth.uid()")
