from __future__ import annotations

from clerk_supabase.model.found_kinds import FACTS, READ_KINDS, SYNCED_TYPES, model_of
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
    assert {kind: model_of(kind).kind for kind in FACTS} == {kind: kind for kind in FACTS}


def test_each_event_type_belongs_to_one_kind() -> None:
    assert len(SYNCED_TYPES) == sum(len(facts.verbs) for facts in FACTS.values())


def test_clerk_can_be_asked_for_each_object_that_reconcile_compares() -> None:
    """A path that ends with the id proves that an object without parents is gone, or the list of the instance."""
    alone = [FACTS[kind] for kind in READ_KINDS if not FACTS[kind].carrier]
    assert [facts.kind for facts in alone if not facts.again_path] == []
    parents = ("{user}", "{organization}")
    gone_paths = {facts.kind: facts.gone_path or facts.again_path for facts in alone}
    assert [
        kind
        for kind, gone in gone_paths.items()
        if not gone.endswith("/{id}")
        and gone.partition("?")[0] != FACTS[kind].list_path
        and not (FACTS[kind].parents and any(each in gone for each in parents))
    ] == []


def test_an_object_that_another_object_brings_is_read_by_any_of_its_parents_and_never_deleted() -> None:
    carried = [facts for facts in FACTS.values() if facts.carrier]
    assert [facts.kind for facts in carried if facts.is_list_whole or facts.is_read_by_id] == []
    paths = {facts.kind: FACTS[facts.carrier].paths_of_parents for facts in carried}
    assert {facts.kind: set(facts.parents.values()) for facts in carried} == {
        kind: set(of_kind) for kind, of_kind in paths.items()
    }
