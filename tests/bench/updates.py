"""The CPU of Postgres for a batch of updates, against one statement that upserts the rows and records deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from psycopg import sql

from clerk_supabase.model.changes import Upsert
from clerk_supabase.postgres.batch import as_json, element_of, provenance
from tests.bench.results import Result
from tests.bench.traffic import Applied, Traffic
from tests.bench.turns import Turns, cost
from tests.kit.databases import Connection, Database, Databases

_USERS: Final = 2_000
_AT_MOST: Final = {10: 1.9, 100: 2.2}
_TURNS: Final = {10: 100, 100: 40}
# The tables without triggers.
_TABLES: Final = """
create schema bench;
create table bench.users (like clerk.users including all) with (fillfactor = 85);
create table bench.deliveries (like clerk_sync.deliveries including all);
"""
_UPSERT: Final = """
with given as materialized (
    select * from jsonb_to_recordset(%s::jsonb) as g (
        id text, content jsonb, observed_at bigint, svix_id text, event_type text, received_at bigint
    )
),
upserted as (
    insert into bench.users ({columns})
    select {row} from given cross join lateral jsonb_populate_record(null::bench.users, given.content) as r
    on conflict (clerk_id) do update set {assignments}
)
insert into bench.deliveries (occurred_at, received_at, svix_id, event_type, entity_id, outcome)
select
    to_timestamp(observed_at / 1000.0), to_timestamp(received_at / 1000.0), svix_id, event_type, id, 'updated'
from given
"""
_APPLY: Final = b"select outcome from clerk_sync.apply(%s::jsonb) order by position"


def measure(made: Databases) -> Iterator[Result]:
    """Measures batches of updates in turns; nothing without /proc, where Linux counts the CPU of a process."""
    traffic = Traffic()
    theirs, ours = made.take(), made.take()
    with theirs.connect() as plain, psycopg.connect(ours.worker_url, autocommit=True) as worker:
        if not _cpu_file(plain).exists():
            return
        upsert = _prepare(plain, traffic.sign_up())
        for _ in range(_USERS // 100):
            batch = [traffic.sign_up() for _ in range(100)]
            _cpu(plain, upsert, _as_objects(batch))
            _cpu(worker, _APPLY, _as_sent(batch))
        _analyze(theirs, ours)
        for size, many in _TURNS.items():

            def take(turns: Turns, size: int = size, many: int = many) -> None:
                for _ in range(many):
                    batch = traffic.edits(size)
                    turns.add(_cpu(plain, upsert, _as_objects(batch)), _cpu(worker, _APPLY, _as_sent(batch)))

            name = f"Postgres, CPU per update in a batch of {size}"
            yield cost(name, "one upsert plus deliveries", take, at_most=_AT_MOST[size], of=size)


def _prepare(plain: Connection, applied: Applied) -> bytes:
    """Makes the tables of the baseline; returns its statement."""
    plain.execute(_TABLES)
    change = applied[0].main
    assert isinstance(change, Upsert)
    names = [sql.Identifier(name) for name in change.content]
    statement = sql.SQL(_UPSERT).format(
        columns=sql.SQL(", ").join(names),
        row=sql.SQL(", ").join(sql.SQL("r.{}").format(name) for name in names),
        assignments=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in names),
    )
    return statement.as_bytes(plain)


def _as_objects(batch: Sequence[Applied]) -> str:
    """The batch as an app would write the JSON."""
    return as_json(
        [
            element_of(changes.main) | {"content": cast("Upsert", changes.main).content} | provenance(delivery)
            for changes, delivery in batch
        ]
    )


def _as_sent(batch: Sequence[Applied]) -> str:
    """The batch as the store writes the JSON."""
    return as_json([element_of(changes.main) | provenance(delivery) for changes, delivery in batch])


def _cpu_file(connection: psycopg.Connection[Any]) -> Path:
    return Path(f"/proc/{connection.info.backend_pid}/schedstat")


def _cpu(connection: psycopg.Connection[Any], query: bytes, batch: str) -> float:
    """Executes a statement; returns the seconds on a processor of the server's process."""
    file = _cpu_file(connection)
    before = int(file.read_text().split()[0])
    connection.execute(query, [batch], prepare=False)
    return (int(file.read_text().split()[0]) - before) / 1e9


def _analyze(*databases: Database) -> None:
    for database in databases:
        with database.connect() as admin:
            admin.execute("vacuum analyze")
