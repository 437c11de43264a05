"""`clerk-supabase explain`: the events about one id, their outcomes, and the changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clerk_supabase.model.changes import Changes, Delivery, Reconciled, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.operate.monitor.explain import Moment, UnknownId, report, timeline
from clerk_supabase_cli.standin.sample_events import sample_event
from tests.kit.databases import Connection, Database
from tests.kit.histories import alone, delete, upsert
from tests.kit.parked import Command, created, park

ADA = "user_2Sample000000000000000000A"


def apply(store: Store, root: Path, name: str) -> None:
    event = parse_event(json.dumps(sample_event(root, name)).encode())
    store.apply([(changes_of(event, event.timestamp), Delivery(f"msg_{name}", event.type, event.timestamp))])


def test_the_timeline_shows_the_events_and_their_changes(store: Store, database: Database, root: Path) -> None:
    for name in ("user.created", "organizationMembership.created", "user.deleted"):
        apply(store, root, name)

    entities, moments = timeline(database.url, ADA)

    assert [(entity.kind, entity.deleted_at is not None) for entity in entities] == [("user", True)]
    assert [moment.what for moment in moments] == [
        "user insert",
        "webhook",
        "membership insert",
        "user update",
        "membership update",
        "webhook",
    ]
    assert moments[-1].details == "user.deleted: deleted"
    assert moments[-2].details == "deleted_at (cascade)"


def test_the_timeline_is_one_line_a_moment(store: Store, database: Database, root: Path) -> None:
    apply(store, root, "user.created")
    first, *moments = Command({"DATABASE_URL": database.url}).run("explain", ADA).stdout.splitlines()
    assert first.startswith(f"user {ADA}: version ")
    assert len(moments) == 2
    assert "user.created: created  msg_user.created" in moments[1]


def test_the_details_of_a_timeline_begin_at_the_same_place_also_for_kinds_with_long_names() -> None:
    moments = [
        Moment(datetime.now(UTC), what, "details", None, None, None)
        for what in ("subscription_item insert", "reconcile")
    ]
    lines = [each.plain for each in report("subi_1", [], moments)]
    assert {line.index("details") for line in lines} == {lines[0].index("insert  details") + len("insert  ")}


def test_the_timeline_is_json_for_machines(store: Store, database: Database, root: Path) -> None:
    apply(store, root, "user.created")
    found = Command({"DATABASE_URL": database.url}).json("explain", ADA)
    assert [each["kind"] for each in found["objects"]] == ["user"]
    assert [each["what"] for each in found["timeline"]] == ["user insert", "webhook"]
    assert found["timeline"][1]["svix_id"] == "msg_user.created"
    assert isinstance(found["timeline"][1]["lag_seconds"], float)


def test_the_id_of_an_event_leads_to_the_timeline_of_its_object(store: Store, database: Database, root: Path) -> None:
    """Each line of a log has the id of an event, and Clerk's dashboard shows it."""
    apply(store, root, "user.created")
    park(store, "msg_parked", created("user_2"))
    command = Command({"DATABASE_URL": database.url})
    first, second, *_ = command.run("explain", "msg_user.created").stdout.splitlines()
    assert first == f"msg_user.created is an event of {ADA}"
    assert second.startswith(f"user {ADA}: version ")
    assert command.run("explain", "msg_parked").stdout.startswith("msg_parked is an event of user_2\n")
    assert command.run("explain", f"reconcile-7-{ADA}").stdout.startswith(f"reconcile-7-{ADA} is a repair of {ADA}\n")
    found = command.json("explain", "msg_user.created")
    assert (found["id"], found["objects"][0]["kind"]) == (ADA, "user")
    assert "nothing about msg_nobody" in str(command.run("explain", "msg_nobody", status=1).exception)


def test_explain_says_when_the_delete_of_a_user_was_recorded_here(store: Store, database: Database, root: Path) -> None:
    apply(store, root, "user.deleted")
    printed = Command({"DATABASE_URL": database.url}).run("explain", ADA).stdout
    assert f"which was recorded here {datetime.now(UTC):%Y-%m-%d}" in printed


def test_the_timeline_shows_parked_replayed_and_discarded_events(
    store: Store, database: Database, admin: Connection
) -> None:
    park(store, "msg_1", created(ADA), reason="first")
    park(store, "msg_1", created(ADA), reason="second")
    admin.execute("update clerk_sync.parked_events set replayed_at = now(), discarded_at = now(), discarded_by = 'ops'")
    park(store, "msg_2", created("user_2"))

    entities, moments = timeline(database.url, ADA)

    assert entities == []
    assert [(moment.what, moment.details, moment.svix_id) for moment in moments[:2]] == [
        ("parked", "user.created: refused: first", "msg_1"),
        ("parked again", "user.created: refused: second", "msg_1"),
    ]
    assert {(moment.what, moment.details) for moment in moments[2:]} == {
        ("replayed", "user.created"),
        ("discarded", "user.created by ops"),
    }


def test_an_unknown_id_is_called_unknown(database: Database) -> None:
    with pytest.raises(UnknownId, match="the database has nothing about user_nobody"):
        timeline(database.url, "user_nobody")


def test_explain_names_the_comparison_that_deleted_a_user_and_the_restore(
    store: Store, database: Database, admin: Connection
) -> None:
    admin.execute(
        "insert into clerk_sync.reconcile_runs (run_id, mode, is_dry_run, versions_only, as_of, state) "
        "overriding system value values (7, 'full', false, false, 1, 'complete')"
    )
    store.apply([*alone(upsert(version=20)), (Changes(delete(at=30)), Reconciled("reconcile-7-user_1"))])
    command = Command({"DATABASE_URL": database.url})
    assert "deleted 1970-01-01 00:00:00 by a comparison (run 7)" in command.run("explain", "user_1").stdout

    store.apply([(Changes(upsert(version=(20, 40))), Reconciled("reconcile-8-user_1"))])
    printed = command.run("explain", "user_1").stdout
    assert "exists" in printed.splitlines()[0]
    assert "restored (reconcile)  reconcile-8-user_1" in printed
