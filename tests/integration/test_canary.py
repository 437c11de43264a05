"""The canary takes the same way as every event, is recorded, and changes nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from clerk_supabase.model.found_kinds import CANARY_TYPE
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.doctor.canary import canary
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign_body
from tests.kit.aws import Account
from tests.kit.databases import Connection, outcomes, rows, tables, value
from tests.kit.parked import created
from tests.kit.pipeline import Pipeline


@pytest.fixture
def pipeline(account: Account, store: Store) -> Pipeline:
    return Pipeline(account, store, received_at=time.time_ns() // 1_000_000)


def test_a_canary_is_recorded_as_a_delivery_and_nothing_else_is_written(pipeline: Pipeline, admin: Connection) -> None:
    before = tables(admin)

    assert pipeline.post(json.dumps(canary()), "msg_canary").status == 202
    assert pipeline.drain() == []

    assert rows(admin, "select svix_id, event_type, entity_id, outcome from clerk_sync.deliveries") == [
        ("msg_canary", CANARY_TYPE, "canary", "unchanged")
    ]
    assert tables(admin) == before
    assert value(admin, "select count(*) from clerk_sync.audit_log") == 0


def test_a_canary_that_comes_twice_is_recorded_once(pipeline: Pipeline, admin: Connection) -> None:
    for _ in range(2):
        assert pipeline.post(json.dumps(canary()), "msg_canary").status == 202
        assert pipeline.drain() == []
    assert outcomes(admin) == {"msg_canary": "unchanged"}
    assert pipeline.parked(admin) == {}


@pytest.mark.parametrize(
    "more", [{"id": "user_1", "deleted": True}, {"id": "x" * 400}, {"id": "user_1", "updated_at": 2**60}]
)
def test_a_canary_changes_no_user_whatever_its_content(
    pipeline: Pipeline, admin: Connection, more: dict[str, Any]
) -> None:
    pipeline.post(json.dumps(created("user_1")), "msg_1")
    assert pipeline.drain() == []
    before = tables(admin)

    assert pipeline.post(json.dumps(canary() | {"data": more}), "msg_canary").status == 202
    assert pipeline.drain() == []

    assert tables(admin) == before
    assert outcomes(admin) == {"msg_1": "created", "msg_canary": "unchanged"}


def test_a_canary_that_nobody_signed_is_refused(pipeline: Pipeline) -> None:
    forged = sign_body(json.dumps(canary()), generate_secret())
    assert pipeline.ingest.answer(api_gateway_event(forged)).status == 401
    assert pipeline.drain() == []


def test_a_canary_that_cannot_be_recorded_comes_again_is_logged_and_delays_no_event(
    pipeline: Pipeline, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    admin.execute("revoke execute on function clerk_sync.record_canary(jsonb) from clerk_sync_worker")
    pipeline.post(json.dumps(canary()), "msg_canary")
    pipeline.post(json.dumps(created("user_1")), "msg_1")

    with caplog.at_level("ERROR"):
        assert len(pipeline.drain()) == 1
    assert outcomes(admin) == {"msg_1": "created"}
    [told] = [record for record in caplog.records if record.getMessage() == "not applied, SQS delivers again"]
    assert told.__dict__["svix_ids"] == ["msg_canary"]


def test_a_canary_of_a_time_that_cannot_be_is_parked(pipeline: Pipeline, admin: Connection) -> None:
    assert pipeline.post(json.dumps(canary() | {"timestamp": 2**62}), "msg_canary").status == 202
    assert pipeline.drain() == []
    assert list(pipeline.parked(admin)) == ["msg_canary"]
    assert outcomes(admin) == {}


def test_a_canary_does_not_count_as_a_webhook_of_clerk(pipeline: Pipeline, admin: Connection, store: Store) -> None:
    pipeline.post(json.dumps(canary()), "msg_canary")
    pipeline.drain()
    assert outcomes(admin) == {"msg_canary": "unchanged"}
    assert begun(store, admin)["newest_delivery"] is None

    pipeline.post(json.dumps(created("user_1")), "msg_1")
    pipeline.drain()
    assert begun(store, admin)["newest_delivery"] == pipeline.received_at


def begun(store: Store, admin: Connection) -> Any:
    """The state that a comparison reads at its beginning; its lease is over at once."""
    admin.execute("update clerk_sync.reconcile_runs set lease_until = now()")
    return store.call(
        "begin_run",
        {
            "instance_id": samples.INSTANCE_ID,
            "mode": "quick",
            "dry_run": False,
            "versions_only": True,
            "allow_deletes": None,
            "as_of": 1,
            "lease_seconds": 1,
        },
    )
