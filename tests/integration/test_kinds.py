from __future__ import annotations

from clerk_supabase.model.changes import MODELS
from clerk_supabase.model.found_kinds import FACTS, READ_KINDS, SYNCED_TYPES
from tests.kit.databases import Connection, rows


def test_the_facts_about_each_kind_are_those_of_the_database(admin: Connection) -> None:
    registered = (
        "select kind, write_order, relation, key_column, parents, is_read_by_id "
        "from clerk_sync.kinds where kind <> 'private_metadata'"
    )
    assert rows(admin, f"{registered} order by write_order") == [
        (kind, facts.write_order, facts.relation("clerk"), facts.key, facts.parents, facts.is_read_by_id)
        for kind, facts in FACTS.items()
    ]


def test_the_model_of_each_kind_names_its_kind() -> None:
    assert {kind: model.kind for kind, model in MODELS.items()} == {kind: kind for kind in FACTS}


def test_each_event_type_belongs_to_one_kind() -> None:
    assert len(SYNCED_TYPES) == sum(len(facts.verbs) for facts in FACTS.values())


def test_clerk_can_be_asked_for_each_object_that_reconcile_compares() -> None:
    """A path that ends with the id proves that an object without parents is gone, or the list of the instance."""
    paths = {kind: (FACTS[kind].again_path, FACTS[kind].gone_path or FACTS[kind].again_path) for kind in READ_KINDS}
    assert [kind for kind, (again, _) in paths.items() if not again] == []
    parents = ("{user}", "{organization}")
    assert [
        kind
        for kind, (_, gone) in paths.items()
        if not gone.endswith("/{id}")
        and gone.partition("?")[0] != FACTS[kind].list_path
        and not (FACTS[kind].parents and any(each in gone for each in parents))
    ] == []
