"""One Clerk instance for each database: the first event decides, and events of another instance are only counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clerk_supabase.aws.queue import Message
from clerk_supabase.model.envelope import Envelope
from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin import samples
from tests.kit.databases import Connection, outcomes, rows, tables, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT

DEVELOPMENT, PRODUCTION = "ins_2Development", "ins_2Production"


@pytest.fixture
def sync(store: Store) -> Sync:
    return Sync(store, Parking(store))


def event(user_id: str, instance_id: str | None, svix_id: str = "", **fields: Any) -> Message:
    data = samples.user(user_id, created_at=CREATED_AT, updated_at=CREATED_AT) | fields
    body = samples.event("user.created", data, timestamp=CREATED_AT) | {"instance_id": instance_id}
    if instance_id is None:
        del body["instance_id"]
    svix_id = svix_id or f"msg_{user_id}"
    return Message(svix_id, Envelope(svix_id, json.dumps(body).encode(), RECEIVED_AT))


def users(admin: Connection) -> list[str]:
    return [user for (user,) in rows(admin, "select clerk_id from clerk.users order by 1")]


def mirrored(admin: Connection) -> str | None:
    found = rows(admin, "select instance_id from clerk_sync.instance")
    return found[0][0] if found else None


def wrong(admin: Connection) -> dict[str, int]:
    return dict(rows(admin, "select instance_id, events from clerk_sync.wrong_instances"))


def test_the_first_event_decides_and_a_batch_of_both_instances_is_applied_in_part(
    sync: Sync, admin: Connection
) -> None:
    batch = [
        event("user_old", None),
        event("user_1", PRODUCTION),
        event("user_dev", DEVELOPMENT, unsafe_metadata={"a": "\0"}),
        event("user_2", PRODUCTION),
    ]
    assert sync.process(batch) == []
    assert (mirrored(admin), users(admin)) == (PRODUCTION, ["user_1", "user_2", "user_old"])
    assert outcomes(admin) == dict.fromkeys(("msg_user_1", "msg_user_2", "msg_user_old"), "created")
    assert wrong(admin) == {DEVELOPMENT: 1}
    assert sum(metrics.metric_set["WrongInstance"]["Value"]) == 1
    before = tables(admin)
    assert sync.process([event("user_dev", DEVELOPMENT), event("user_dev", "garbage")]) == []
    assert tables(admin) == before
    assert wrong(admin) == {DEVELOPMENT: 2, "garbage": 1}
    untouched = (
        "select (select count(*) from clerk_sync.parked_events) + (select count(*) from clerk_sync.dropped_fields)"
    )
    assert value(admin, untouched) == 0


def test_an_event_that_was_rejected_is_applied_when_it_comes_again_after_the_instance_was_corrected(
    sync: Sync, admin: Connection
) -> None:
    sync.process([event("user_dev", DEVELOPMENT)])
    sync.process([event("user_1", PRODUCTION)])
    assert (mirrored(admin), users(admin)) == (DEVELOPMENT, ["user_dev"])
    admin.execute("update clerk_sync.instance set instance_id = %s", [PRODUCTION])
    sync.process([event("user_1", PRODUCTION)])
    assert outcomes(admin)["msg_user_1"] == "created"


def test_ids_without_end_make_no_rows_without_end(sync: Sync, admin: Connection) -> None:
    sync.process([event("user_1", PRODUCTION)])
    for first in (0, 100):
        sync.process([event(f"user_{n}", f"ins_{n}") for n in range(first, first + 60)])
    assert sum(wrong(admin).values()) == 120
    sync.process([event(f"user_{n}", f"ins_{n}") for n in range(900, 910)])
    assert wrong(admin)[""] == 10


def test_a_repair_of_a_run_from_before_a_switch_is_not_applied(sync: Sync, admin: Connection) -> None:
    admin.execute("insert into clerk_sync.instance (instance_id, first_run) values (%s, 8)", [PRODUCTION])
    data = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT)
    repair = {"type": "reconcile.user.updated", "object": "event", "timestamp": CREATED_AT, "data": data}
    for run, seen in ((7, []), (8, ["user_1"])):
        svix_id = f"reconcile-{run}-user_1"
        sync.process([Message(svix_id, Envelope(svix_id, json.dumps(repair).encode(), RECEIVED_AT))])
        assert users(admin) == seen
    assert wrong(admin) == {}
