"""The verdict of a comparison about one object, from the version and the row here and the version in Clerk's list."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from psycopg.types.json import Jsonb

from tests.kit.databases import Database, value

# Clerk's list is of the moment 1,000, and has the version 100 of the object. The margin is 50.
LISTED, LISTED_AT, MARGIN = 100, 1_000, 50


class Known(NamedTuple):
    """The entity of the object."""

    version: int
    observed_at: int = 900
    deleted_at: int | None = None


@pytest.mark.parametrize(
    ("known", "row", "verdict"),
    [
        (None, "agrees", "missing"),
        (Known(100), "agrees", None),
        (Known(100), "differs", "different"),
        (Known(100), "is missing", "missing"),
        # A webhook came after the list.
        (Known(100, observed_at=1_000), "agrees", None),
        (Known(100, observed_at=1_000), "differs", None),
        (Known(100, observed_at=1_000), "is missing", None),
        (Known(99), "agrees", "stale"),
        (Known(99, observed_at=1_000), "differs", "stale"),
        (Known(99, observed_at=1_000), "is missing", "missing"),
        # Clerk's own clock went back; or a webhook was faster than the list.
        (Known(101, observed_at=949), "agrees", None),
        (Known(101, observed_at=949), "differs", "different"),
        (Known(101, observed_at=949), "is missing", "missing"),
        (Known(101, observed_at=950), "differs", None),
        (Known(101, observed_at=950), "is missing", None),
        (Known(100, deleted_at=949), "is missing", "deleted here"),
        (Known(100, deleted_at=950), "is missing", None),
        (Known(99, deleted_at=950), "is missing", None),
    ],
)
def test_the_verdict_depends_on_both_versions_the_row_and_the_moments(
    known: Known | None, row: str, verdict: str | None, shared_database: Database
) -> None:
    entity = known and {
        "kind": "user",
        "id": "user_1",
        "version": {"source_updated_at": known.version, "observed_at": known.observed_at},
        "deleted_at": known.deleted_at,
    }
    difference = {"agrees": {}, "differs": {"id": "user_1", "fields": ["name"]}, "is missing": {"id": "user_1"}}[row]
    with shared_database.connect() as connection:
        found = value(
            connection,
            """
            select clerk_sync.difference(
                jsonb_populate_record(null::clerk_sync.entities, %s),
                jsonb_populate_record(null::clerk_sync.difference, %s), %s, %s, %s
            )
            """,
            *(entity and Jsonb(entity), Jsonb(difference), LISTED, LISTED_AT, MARGIN),
        )
    assert found == verdict
