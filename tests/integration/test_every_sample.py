"""Every event of events/clerk on its whole way: applied when its type is synced, ignored otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from clerk_supabase.aws.queue import messages_of
from clerk_supabase.model.found_kinds import SYNCED_TYPES
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.project import find_root
from tests.kit.aws import Account
from tests.kit.databases import Connection, Rows, empty, outcomes, rows, tables, value
from tests.kit.pipeline import Pipeline
from tests.kit.stored import tables_with

FILES = sorted((find_root(Path(__file__).parent) / "events" / "clerk").glob("*.json"))
RECEIVED_AT = 1_763_800_000_000
"""The day after the samples."""

# Codes, links and texts that give access; each is put into every sample that can hold it.
SECRETS = {
    "otp_code": "424242-otp",
    "body": "Your code is 424242-otp",
    "body_plain": "Your code is 424242-otp",
    "message": "Your code is 424242-otp",
    "url": "https://clerk.example.test/accept?ticket=424242-ticket",
    "backup_codes": ["424242-backup"],
    "token": "424242-token",
}


def is_synced(file: Path) -> bool:
    return json.loads(file.read_bytes())["type"] in SYNCED_TYPES


def send(pipeline: Pipeline, admin: Connection, files: Sequence[Path], *, batch: int = 10, repeat: int = 1) -> None:
    """Delivers these files in this order, in batches of this size; no event may be parked or come again."""
    for start in range(0, len(files), batch):
        for file in files[start : start + batch]:
            for _ in range(repeat):
                answer = pipeline.post(file.read_text(), f"msg_{file.stem}")
                assert answer.status == (202 if is_synced(file) else 200), file.name
        assert pipeline.drain() == []
    assert pipeline.parked(admin) == {}


@pytest.fixture
def pipeline(account: Account, store: Store) -> Pipeline:
    return Pipeline(account, store, RECEIVED_AT, keep_private_metadata=True)


def test_every_sample_is_applied_or_ignored_when_it_is_the_only_one(pipeline: Pipeline, admin: Connection) -> None:
    for file in FILES:
        send(pipeline, admin, [file])
        expected = {f"msg_{file.stem}"} if is_synced(file) else set()
        assert outcomes(admin).keys() == expected
        empty(admin)


def test_all_samples_end_in_the_same_tables_in_any_order_and_however_often_they_come(
    pipeline: Pipeline, admin: Connection
) -> None:
    send(pipeline, admin, FILES)
    in_file_order = tables(admin)
    delivered = {f"msg_{file.stem}" for file in FILES if is_synced(file)}
    assert outcomes(admin).keys() == delivered

    for order, batch, repeat in (
        (FILES[::-1], 10, 1),
        (FILES, 10, 2),
        (FILES[::-1], 1, 2),
        (FILES[::2] + FILES[1::2], 100, 1),
        (FILES + FILES[::-1], 7, 1),
    ):
        empty(admin)
        send(pipeline, admin, order, batch=batch, repeat=repeat)
        assert tables(admin) == in_file_order
        assert outcomes(admin).keys() == delivered


def test_after_all_samples_the_user_and_the_organization_are_deleted(pipeline: Pipeline, admin: Connection) -> None:
    send(pipeline, admin, FILES)
    sample_organization: Rows = rows(admin, "select name, deleted_at is null from clerk.organizations")
    assert sample_organization == [("Example Labs Ltd", False)]
    for table in ("memberships", "invitations", "domains"):
        assert tables(admin)[table]
    assert value(admin, "select count(*) from clerk.organization_memberships where deleted_at is null") == 0
    assert value(admin, "select count(*) from clerk.organization_invitations where deleted_at is null") == 0
    assert value(admin, "select count(*) from clerk.organization_domains where deleted_at is null") == 0


def test_no_code_no_link_and_no_text_of_a_message_is_stored_anywhere(pipeline: Pipeline, admin: Connection) -> None:
    for number, file in enumerate(FILES):
        event = json.loads(file.read_bytes())
        event["data"] = with_secrets(event["data"])
        assert "424242" in json.dumps(event)
        answer = pipeline.post(json.dumps(event), f"msg_{number}")
        assert answer.status in (200, 202)
    waiting = messages_of(pipeline.account.lambda_event(pipeline.account.sync_queue_url))
    # Events of other types reached no queue; e-mails and text messages are among them.
    assert len(waiting) == sum(map(is_synced, FILES))
    assert pipeline.sync.process(waiting) == []
    assert pipeline.parked(admin) == {}
    assert len(outcomes(admin)) == len(waiting)
    assert tables_with(admin, "424242") == []


def with_secrets(data: object) -> object:
    """The object with all secrets in it, and in every object inside it but metadata, where nothing is a secret."""
    if isinstance(data, list):
        return [with_secrets(each) for each in data]
    if not isinstance(data, dict):
        return data
    inside = {name: each if name.endswith("metadata") else with_secrets(each) for name, each in data.items()}
    return inside | SECRETS
