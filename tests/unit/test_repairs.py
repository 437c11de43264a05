"""Repairs as messages: events like Clerk's, readable for every function on the way."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from clerk_supabase.model.changes import Delete, Upsert, Version, changes_of
from clerk_supabase.model.events import parse_event, subject_of
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import SYNCED_TYPES
from clerk_supabase.reconcile.corrections.repairs import Repair
from clerk_supabase_cli.standin import samples

NOW = 1_700_000_000_000
ORGANIZATION = samples.organization("org_1", created_at=NOW, updated_at=NOW)
USER = samples.user("user_1", created_at=NOW, updated_at=NOW, first_name="\N{GRINNING FACE}")
OBJECTS: dict[ReadKind, samples.Json] = {
    "user": USER,
    "organization": ORGANIZATION,
    "membership": samples.membership("orgmem_1", ORGANIZATION, USER, created_at=NOW, updated_at=NOW),
    "invitation": samples.invitation("orginv_1", "org_1", created_at=NOW, updated_at=NOW),
    "domain": samples.domain("orgdmn_1", "org_1", created_at=NOW, updated_at=NOW),
}


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_repair_means_the_same_through_the_queue_as_at_once(kind: ReadKind, keep: bool) -> None:
    found = OBJECTS[kind]
    repair = Repair(7, kind, found["id"], NOW + 5_000, json.dumps(found).encode())
    changes = repair.changes(NOW, keep_private_metadata=keep)
    assert changes == changes_of(parse_event(repair.envelope(NOW).body), NOW, keep_private_metadata=keep)
    assert isinstance(changes.main, Upsert)
    assert changes.main.version == Version(NOW, NOW + 5_000)


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_delete_means_the_same_through_the_queue_as_at_once(kind: ReadKind, keep: bool) -> None:
    repair = Repair(7, kind, OBJECTS[kind]["id"], NOW + 5_000, None)
    changes = repair.changes(NOW, keep_private_metadata=keep)
    assert changes == changes_of(parse_event(repair.envelope(NOW).body), NOW, keep_private_metadata=keep)
    assert changes.main == Delete(kind, OBJECTS[kind]["id"], NOW + 5_000)


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_version_that_an_answer_has_to_have_is_that_of_the_object_and_changes_nothing_else(kind: ReadKind) -> None:
    found = OBJECTS[kind]
    repair = Repair(7, kind, found["id"], NOW + 5_000, json.dumps(found).encode())
    plain = repair.changes(NOW, keep_private_metadata=True)
    raised = replace(repair, counts_as=NOW + 9).changes(NOW, keep_private_metadata=True)
    for before, after in zip((plain.main, *plain.companions), (raised.main, *raised.companions), strict=True):
        assert isinstance(before, Upsert)
        is_of_it = before.id == found["id"]
        assert after == before._replace(version=Version(NOW + 9, NOW + 5_000) if is_of_it else before.version)


def test_a_read_without_a_moment_stays_without_one() -> None:
    repair = Repair(7, "user", "user_1", 0, json.dumps(USER).encode())
    assert parse_event(repair.envelope(NOW).body).timestamp == 0


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("is_there", [True, False])
def test_no_webhook_can_pass_for_a_repair(kind: ReadKind, is_there: bool) -> None:
    found = json.dumps(OBJECTS[kind]).encode() if is_there else None
    event = parse_event(Repair(7, kind, OBJECTS[kind]["id"], NOW, found).envelope(NOW).body)
    assert event.type not in SYNCED_TYPES


def test_a_parked_repair_is_erased_with_its_user_like_any_event() -> None:
    body = Repair(7, "user", "user_1", NOW, json.dumps(USER).encode()).envelope(NOW).body
    assert subject_of(body).user_id == "user_1"
    membership = Repair(7, "membership", "orgmem_1", NOW, json.dumps(OBJECTS["membership"]).encode())
    assert subject_of(membership.envelope(NOW).body).user_id == "user_1"
