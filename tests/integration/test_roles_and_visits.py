"""Permissions, roles, waitlist entries and sessions in Postgres: who reads them, and how long they stay."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, LiteralString

import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import Applied
from tests.kit.parked import Command
from tests.kit.webhooks import deleted, sample, user

DAY = 86_400_000
SEEN: LiteralString = """
select 'permission', clerk_permission_id from clerk.permissions union all
select 'role', clerk_role_id from clerk.roles union all
select 'session', clerk_session_id from clerk.sessions order by 1, 2
"""


def session(session_id: str, *, at: int = 1, user_id: str = "user_ada", **fields: Any) -> Applied:
    return sample("session", session_id, at=at, user_id=user_id, **{"status": "active", **fields})


def test_every_user_who_may_sign_in_reads_roles_and_permissions_and_only_their_own_sessions(
    store: Store, admin: Connection
) -> None:
    store.apply([user(f"user_{name}", at=1, banned=name == "ben") for name in ("ada", "ben", "eve")])
    store.apply([session(f"sess_{name}", user_id=f"user_{name}") for name in ("ada", "ben", "eve")])
    store.apply([sample("permission", "perm_1", at=1), sample("role", "role_1", at=1), sample("role", "role_2", at=1)])
    store.apply([sample("permission", "perm_2", at=1)])
    store.apply([deleted("role", "role_2", at=2), deleted("permission", "perm_2", at=2)])

    def seen_by(name: str) -> list[Any]:
        with acting_as(admin, "authenticated", {"sub": f"user_{name}", "role": "authenticated"}):
            return rows(admin, SEEN)

    assert seen_by("ada") == [("permission", "perm_1"), ("role", "role_1"), ("session", "sess_ada")]
    assert seen_by("ben") == []
    with acting_as(admin, "anon"), pytest.raises(InsufficientPrivilege):
        rows(admin, SEEN)


def test_nobody_but_the_service_role_reads_the_waitlist(store: Store, admin: Connection) -> None:
    store.apply([user("user_ada", at=1), sample("waitlist_entry", "wle_1", at=1)])
    query: LiteralString = "select email_address, status from clerk.waitlist_entries"
    with (
        acting_as(admin, "authenticated", {"sub": "user_ada", "role": "authenticated"}),
        pytest.raises(InsufficientPrivilege),
    ):
        rows(admin, query)
    with acting_as(admin, "service_role"):
        assert rows(admin, query) == [("carol@example.test", "invited")]


@pytest.mark.parametrize("kind", ["role", "permission"])
def test_no_late_event_restores_a_role_or_a_permission(kind: str, store: Store, admin: Connection) -> None:
    assert store.apply([sample(kind, "x_1", at=1)]) == ["created"]
    assert store.apply([deleted(kind, "x_1", at=2)]) == ["deleted"]
    store.apply([sample(kind, "x_1", at=3)])
    query = sql.SQL("select deleted_at is not null from {}").format(sql.Identifier("clerk", FACTS[kind].table))
    assert admin.execute(query).fetchall() == [(True,)]


# The clock of sessions


def keep_house(store: Store, sessions_days: int = 0) -> int:
    return Housekeeping(store, Keep(sessions_days=sessions_days)).run()


@pytest.fixture
def sessions(store: Store, admin: Connection) -> Connection:
    """One session that goes on, and one that ended on its own three days ago."""
    now = int(value(admin, "select extract(epoch from now()) * 1000"))
    ends = {"sess_on": now + DAY, "sess_over": now - 3 * DAY}
    store.apply([session(each, expire_at=at, abandon_at=at + DAY) for each, at in ends.items()])
    return admin


def left(admin: Connection) -> list[str]:
    return [each for (each,) in rows(admin, "select clerk_session_id from clerk.sessions order by 1")]


def test_sessions_are_deleted_so_many_days_after_their_end_and_no_event_brings_them_back(
    store: Store, sessions: Connection
) -> None:
    assert keep_house(store, sessions_days=4) == 0
    assert keep_house(store, sessions_days=2) == 1
    assert left(sessions) == ["sess_on"]
    assert rows(sessions, "select old_values, new_values from clerk_sync.audit_log where entity_id = 'sess_over'") == [
        (None, None),
        (None, None),
    ]
    store.apply([session("sess_over", at=9)])
    assert left(sessions) == ["sess_on"]


def test_entities_of_sessions_are_deleted_when_no_event_can_be_replayed(store: Store, sessions: Connection) -> None:
    keep_house(store)
    query: LiteralString = "select id from clerk_sync.entities where kind = 'session' order by 1"
    assert rows(sessions, query) == [("sess_on",), ("sess_over",)]
    sessions.execute("update clerk_sync.entities set purged_at = purged_at - interval '101 days'")
    keep_house(store)
    assert rows(sessions, query) == [("sess_on",)]


def test_the_owner_of_the_database_may_have_sessions_kept_longer(store: Store, sessions: Connection) -> None:
    sessions.execute("select clerk_sync.allowed_retention()")
    sessions.execute("update clerk_sync.retention set sessions_days = 4")
    assert keep_house(store) == 0
    assert left(sessions) == ["sess_on", "sess_over"]


def test_a_session_that_the_app_keeps_is_named_once_and_delays_no_other(
    store: Store, sessions: Connection, database: Database
) -> None:
    sessions.execute(
        """
        create function public.keep() returns trigger language plpgsql as $$ begin raise 'mine'; end $$;
        create trigger keep before update or delete on clerk.sessions
        for each row when (old.clerk_session_id = 'sess_kept') execute function public.keep();
        """
    )
    store.apply([session("sess_kept", status="ended", at=1)])
    keep = json.dumps(asdict(Keep()))
    with database.connect() as owner:
        first, second = (value(owner, "select clerk_sync.keep_house(%s::jsonb) -> 'purged'", keep) for _ in range(2))
    assert {(each["outcome"], each["rows"]) for each in first} == {("deleted", 1), ("kept", 1)}
    assert second == []
    assert left(sessions) == ["sess_kept", "sess_on"]


# A person


def test_a_person_is_exported_and_forgotten_with_sessions_and_with_the_entry_of_the_waitlist(
    store: Store, admin: Connection, database: Database
) -> None:
    address = "carol@example.test"
    store.apply([user("user_ada", at=1), session("sess_ada"), session("sess_eve", user_id="user_eve")])
    store.apply(
        [sample("waitlist_entry", "wle_1", at=1), sample("waitlist_entry", "wle_2", at=1, email_address="x@y.z")]
    )
    store.apply([deleted("user", "user_ada", at=2)])
    command = Command({"DATABASE_URL": database.url})
    exported = command.run("export", "user_ada", "--email", address).stdout
    assert ("sess_ada" in exported, "wle_1" in exported, "wle_2" in exported) == (True, True, False)
    command.run("forget", "user_ada", "--email", address, "--yes")
    assert left(admin) == ["sess_eve"]
    store.apply([sample("waitlist_entry", "wle_1", at=9), session("sess_ada", at=9)])
    assert left(admin) == ["sess_eve"]
    assert rows(admin, "select clerk_waitlist_entry_id from clerk.waitlist_entries") == [("wle_2",)]
