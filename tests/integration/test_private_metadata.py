"""Private metadata is stored only with the setting for it, and only where no user can read it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.errors import UnusableEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.simulator.sqs import record
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, acting_as, outcomes, rows, value
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.stored import tables_with
from tests.kit.webhooks import told, user

PRIVATE = "a very private value"
TIMES: dict[str, Any] = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 1}


def with_private_metadata() -> dict[str, dict[str, Any]]:
    """An event of every kind, each with private metadata wherever Clerk sends any."""
    private: dict[str, Any] = {"private_metadata": {"note": PRIVATE}}
    org = samples.organization("org_1", **TIMES, **private)
    member = samples.user("user_1", **TIMES, **private)
    return {
        "user.created": member,
        "organization.created": org,
        "organizationMembership.created": samples.membership("orgmem_1", org, member, **TIMES, **private),
        "organizationInvitation.created": samples.invitation("orginv_1", "org_1", **TIMES, **private),
        "organizationDomain.created": samples.domain("orgdmn_1", "org_1", **TIMES, **private),
    }


def kept(event_type: str = "user.updated", *, at: int, note: str = PRIVATE, **fields: Any) -> Applied:
    """An event whose private metadata is kept."""
    data = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT + at, private_metadata={"note": note})
    return told(event_type, data | fields, at=at, keep_private_metadata=True)


def notes(admin: Connection) -> list[str]:
    return [note for (note,) in rows(admin, "select private_metadata ->> 'note' from clerk_sync.private_metadata")]


@pytest.fixture
def handle_all(
    account: Account, database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | None], None]:
    """Runs the sync function after a cold start with this setting, on an event of every kind."""

    def handle(setting: str | None) -> None:
        monkeypatch.setenv("DATABASE_SECRET_ARN", account.put_secret("database", database.worker_url))
        monkeypatch.setenv("PARKED_QUEUE_URL", account.parked_queue_url)
        monkeypatch.delenv("KEEP_PRIVATE_METADATA", raising=False)
        if setting is not None:
            monkeypatch.setenv("KEEP_PRIVATE_METADATA", setting)
        module = runpy.run_path(str(root / "functions" / "sync" / "handler.py"))
        events = [samples.event(name, data, timestamp=CREATED_AT + 1) for name, data in with_private_metadata().items()]
        records = [
            record(f"message-{each['type']}", json.dumps(each), svix_id=f"msg_{each['type']}") for each in events
        ]
        assert module["lambda_handler"]({"Records": records}, None) == {"batchItemFailures": []}
        module["sync"]._store.close()
        assert account.received(account.parked_queue_url) == []

    return handle


@pytest.mark.parametrize("setting", [None, "", "false", "False", "0", "no"])
def test_private_metadata_is_stored_nowhere_unless_it_is_asked_for(
    setting: str | None, handle_all: Callable[[str | None], None], admin: Connection
) -> None:
    handle_all(setting)
    assert tables_with(admin, PRIVATE) == []
    assert sorted(outcomes(admin).values()) == ["created"] * 5


def test_private_metadata_that_is_asked_for_is_stored_in_one_table_only(
    handle_all: Callable[[str | None], None], admin: Connection
) -> None:
    handle_all("true")
    assert tables_with(admin, PRIVATE) == ["clerk_sync.private_metadata"]
    assert rows(admin, "select entity_id from clerk_sync.private_metadata order by 1") == [
        ("org_1",),
        ("orgmem_1",),
        ("user_1",),
    ]


def test_the_newest_private_metadata_wins_whatever_the_order(store: Store, admin: Connection) -> None:
    store.apply([kept(at=2, note="newer")])
    store.apply([kept(at=1, note="older")])
    assert notes(admin) == ["newer"]
    store.apply([kept(at=3, note="newest")])
    assert notes(admin) == ["newest"]


def test_a_change_of_private_metadata_alone_touches_nothing_the_app_sees(store: Store, admin: Connection) -> None:
    store.apply([kept(at=1, note="one")])
    before = rows(admin, "select ctid::text, xmin::text from clerk.users")
    admin.execute("delete from clerk_sync.audit_log")
    assert store.apply([kept(at=2, note="two")]) == ["unchanged"]
    assert notes(admin) == ["two"]
    assert rows(admin, "select ctid::text, xmin::text from clerk.users") == before
    assert rows(admin, "select * from clerk_sync.audit_log") == []


def test_private_metadata_that_was_emptied_is_empty(store: Store, admin: Connection) -> None:
    store.apply([kept(at=1)])
    store.apply([kept(at=2, private_metadata=None)])
    assert value(admin, "select private_metadata from clerk_sync.private_metadata") == {}


def test_private_metadata_of_a_deleted_user_is_marked_like_the_user(store: Store, admin: Connection) -> None:
    gone = told("user.deleted", {"id": "user_1", "deleted": True}, at=9, keep_private_metadata=True)
    for events in ([kept(at=1), gone], [gone, kept(at=1)]):
        for event in events:
            store.apply([event])
        query = "select p.deleted_at = u.deleted_at from clerk_sync.private_metadata as p, clerk.users as u"
        assert value(admin, query) is True


def test_of_private_metadata_only_the_member_that_cannot_be_stored_is_left_out(store: Store, admin: Connection) -> None:
    assert store.apply([kept(at=1, private_metadata={"plan": "pro", "note": "\x00"}), user("user_2", at=1)]) == [
        "created",
        "created",
    ]
    assert rows(admin, "select private_metadata from clerk_sync.private_metadata") == [({"plan": "pro"},)]
    assert rows(admin, "select fields from clerk_sync.dropped_fields") == [(["private_metadata"],)]


def test_private_metadata_that_are_none_are_refused_with_their_event() -> None:
    with pytest.raises(UnusableEvent):
        kept(at=1, private_metadata="none")


def test_stored_private_metadata_stays_unchanged_after_the_setting_is_switched_off(
    store: Store, admin: Connection
) -> None:
    store.apply([kept(at=1, note="kept")])
    store.apply([told("user.updated", samples.user("user_1", **TIMES, private_metadata={"note": "new"}), at=2)])
    assert notes(admin) == ["kept"]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "clerk_sync_worker"])
def test_nobody_but_the_owner_reads_it(role: str, store: Store, admin: Connection) -> None:
    store.apply([kept(at=1)])
    with pytest.raises(InsufficientPrivilege), acting_as(admin, role, {"sub": "user_1"}):
        admin.execute("select private_metadata from clerk_sync.private_metadata")
