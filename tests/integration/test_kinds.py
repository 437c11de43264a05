from __future__ import annotations

from clerk_supabase.model.changes import MODELS
from clerk_supabase.model.kinds import FACTS, READ_KINDS
from tests.kit.databases import Connection, rows


def test_the_facts_about_each_kind_are_those_of_the_database(admin: Connection) -> None:
    registered = "select kind, relation, key_column, parents from clerk_sync.kinds where kind <> 'private_metadata'"
    assert rows(admin, f"{registered} order by write_order") == [
        (kind, f"clerk.{facts.table}", facts.key, facts.parents) for kind, facts in FACTS.items()
    ]


def test_each_kind_that_has_events_has_a_model() -> None:
    assert list(MODELS) == list(FACTS)


def test_each_kind_that_reconcile_compares_has_facts() -> None:
    assert set(READ_KINDS) <= set(FACTS)
