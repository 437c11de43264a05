"""The baseline: the webhook handler of many guides, made correct. Every event has a transaction of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from clerk_supabase.model.changes import Delete, Upsert
from tests.bench.traffic import Applied

# It keeps versions where such handlers do: in the table itself. A column for them costs less than a table.
_VERSIONS: Final = """
alter table clerk.users
    add column if not exists source_updated_at bigint,
    add column if not exists observed_at bigint
"""
_KNOWN: Final = """
select source_updated_at, observed_at, deleted_at from clerk.users where clerk_id = %s for update
"""
_DELETE: Final = "update clerk.users set deleted_at = to_timestamp(%s / 1000.0) where clerk_id = %s"
_RECORD: Final = """
insert into clerk_sync.deliveries (svix_id, event_type, entity_id, outcome, occurred_at, received_at)
values (%s, %s, %s, 'updated', to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0))
on conflict do nothing
"""


class PastedHandler:
    """Five round trips for an event: begin, look, write, record, commit. The connection is kept, statements are
    prepared."""

    def __init__(self, url: str) -> None:
        """*url*: a migrated database of its own, as superuser."""
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(_VERSIONS)
        self._upsert: sql.Composed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def apply(self, changes: Sequence[Applied]) -> None:
        """Applies one event after the other."""
        for applied, delivery in changes:
            assert delivery is not None
            change = applied.main
            with self._connection.transaction():
                known = self._connection.execute(_KNOWN, [change.id]).fetchone()
                if isinstance(change, Upsert):
                    occurred_at = change.version.observed_at
                    if _is_newer(change, known):
                        self._write(change)
                else:
                    occurred_at = change.deleted_at
                    self._delete(change, known)
                self._connection.execute(
                    _RECORD,
                    [delivery.svix_id, delivery.event_type, change.id, occurred_at, delivery.received_at],
                )

    def _write(self, change: Upsert) -> None:
        row = dict(change.content) | {
            "source_updated_at": change.version.source_updated_at,
            "observed_at": change.version.observed_at,
        }
        if self._upsert is None:
            self._upsert = _upsert_of(row)
        values = [Jsonb(value) if isinstance(value, dict | list) else value for value in row.values()]
        self._connection.execute(self._upsert, values)

    def _delete(self, change: Delete, known: tuple[Any, ...] | None) -> None:
        if known is not None and known[2] is None:
            self._connection.execute(_DELETE, [change.deleted_at, change.id])


def _is_newer(change: Upsert, known: tuple[Any, ...] | None) -> bool:
    return known is None or (change.version.source_updated_at, change.version.observed_at) > known[:2]


def _upsert_of(row: Mapping[str, Any]) -> sql.Composed:
    columns = [sql.Identifier(name) for name in row]
    return sql.SQL("insert into clerk.users ({}) values ({}) on conflict (clerk_id) do update set {}").format(
        sql.SQL(", ").join(columns),
        sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
        sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(column) for column in columns[1:]),
    )
