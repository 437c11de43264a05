"""The limits of a stolen password of the worker or of the session function, with which any SQL may run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import sql

from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from tests.kit.databases import SESSION, WORKER, Connection, Database, rows, value
from tests.kit.webhooks import deleted, user

NOW: Final = int(time.time() * 1000)
DAYS: Final = asdict(Keep())
FLAGS: Final = (
    *("email_verified", "phone_verified", "has_image", "password_enabled", "two_factor_enabled"),
    *("banned", "locked", "deprovisioned"),
)
LISTS: Final = ("email_addresses", "phone_numbers", "web3_wallets", "external_accounts", "enterprise_accounts")
Json = dict[str, Any]


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.worker_url, autocommit=True) as connection:
        yield connection


def element(user_id: str, **content: object) -> Json:
    """An element of a batch as an attacker writes it."""
    usual: Json = dict.fromkeys(FLAGS, False) | {each: [] for each in LISTS}
    usual |= {"public_metadata": {}, "unsafe_metadata": {}}
    return {
        "kind": "user",
        "id": user_id,
        "source_updated_at": NOW,
        "observed_at": NOW,
        "cause": "delivery",
        "content": usual | content,
    }


def call(connection: Connection, function: str, argument: object) -> Any:
    """The answer of a function of clerk_sync."""
    statement = sql.SQL("select clerk_sync.{}(%s::jsonb)").format(sql.Identifier(function))
    return connection.execute(statement, [json.dumps(argument)]).fetchall()


def begin_run(worker: Connection) -> Json:
    request = {"instance_id": "ins_1", "mode": "full", "dry_run": False, "versions_only": False}
    [(begun,)] = call(worker, "begin_run", request | {"as_of": NOW, "lease_seconds": 60})
    return {"run": begun["run"]["run_id"], "lease": begun["run"]["lease"]}


# Triggers that wait for the commit


def test_housekeeping_runs_no_trigger_that_its_caller_left_waiting(worker: Connection) -> None:
    # Before Postgres 18 such a trigger runs as the role that fires it: the owner.
    ran: list[str] = []
    worker.add_notice_handler(lambda notice: ran.append(notice.message_primary or ""))
    worker.execute(
        """
        create function pg_temp.spy() returns trigger language plpgsql
        as $$ begin raise notice 'ran as %', current_user; return null; end $$;
        create temporary table bait (id int);
        create constraint trigger spy after insert on bait deferrable initially deferred
        for each row execute function pg_temp.spy()
        """
    )
    with worker.transaction():
        worker.execute("insert into bait values (1)")
        call(worker, "keep_house", DAYS)
        assert ran == []
    assert ran == [f"ran as {WORKER}"]


def test_no_function_of_ours_ends_the_wait_of_triggers_without_a_look_at_whose_they_are(admin: Connection) -> None:
    query: LiteralString = """
        select oid::regprocedure::text, has_function_privilege('clerk_sync_worker', oid, 'execute'), prosecdef
        from pg_proc where pronamespace = 'clerk_sync'::regnamespace and prosrc ~* 'set\\s+constraints'
    """
    assert rows(admin, query + " order by 1") == [
        ("clerk_sync.check_apps_keys_at_once(text)", False, False),
        ("clerk_sync.check_keys_at_once()", False, False),
        # With the worker's own rights, which are enough without this function.
        ("clerk_sync.without_deferral(jsonb)", True, False),
    ]


# Errors


@pytest.mark.parametrize("role", [WORKER, SESSION])
def test_an_error_does_not_quote_what_the_app_keeps_in_a_row(
    role: str, database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, svix_id="msg_1")])
    admin.execute("alter table clerk.users add column notes text")
    admin.execute("update clerk.users set notes = 'of the app'")
    url = {WORKER: database.worker_url, SESSION: database.session_url}[role]
    with psycopg.connect(url, autocommit=True) as attacker, pytest.raises(psycopg.errors.NotNullViolation) as refused:
        call(attacker, "apply", [element("user_1", banned=None)])
    assert refused.value.diag.message_detail is None
    assert refused.value.diag.column_name == "banned"
    assert "of the app" not in str(refused.value)


def test_an_error_of_a_back_fill_does_not_quote_what_the_app_keeps_in_a_row(
    worker: Connection, admin: Connection
) -> None:
    admin.execute("alter table clerk.users add column notes text, add check (email is null or notes is null)")
    admin.execute("insert into clerk.users (clerk_id, notes) values ('user_9', 'of the app')")
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        call(worker, "fill", begin_run(worker) | {"page": [element("user_9", email="x")]})
    assert refused.value.diag.message_detail is None
    assert refused.value.diag.constraint_name == "users_check"


def test_an_error_of_housekeeping_does_not_quote_what_the_app_keeps_in_a_row(
    worker: Connection, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, svix_id="msg_1"), deleted("user", "user_1", at=2, svix_id="msg_2")])
    admin.execute("alter table clerk.users add column notes text, add check (created_at is not null or notes is null)")
    admin.execute("update clerk.users set notes = 'of the app'")
    admin.execute("update clerk_sync.entities set delete_recorded_at = now() - interval '60 days'")
    answer = str(call(worker, "keep_house", DAYS))
    assert "users_check" in answer
    assert "of the app" not in answer
    assert "of the app" not in str(rows(admin, "select n from clerk_sync.not_purged as n"))


# Nothing outlasts the password


def test_a_back_fill_without_a_version_does_not_outdate_later_events(
    worker: Connection, store: Store, admin: Connection
) -> None:
    forged = element("user_1", first_name="Forged") | {"source_updated_at": None, "observed_at": None}
    call(worker, "fill", begin_run(worker) | {"page": [forged]})
    store.apply([user(at=1, svix_id="msg_1")])
    assert value(admin, "select first_name from clerk.users") != "Forged"


@pytest.mark.parametrize("deleted_at", [2**63 - 1, -(2**63), -1, 253_402_300_800_000])
def test_no_delete_is_recorded_at_a_moment_that_no_timestamp_holds(
    deleted_at: int, worker: Connection, admin: Connection
) -> None:
    for kind in ("user", "organization", "private_metadata"):
        with pytest.raises(psycopg.errors.CheckViolation):
            call(worker, "apply", [{"kind": kind, "id": "x_1", "deleted_at": deleted_at}])
    assert value(admin, "select count(*) from clerk_sync.entities") == 0


@pytest.mark.parametrize("created_at", ["infinity", "-infinity", "4000-01-01 BC", "1960-01-01"])
def test_a_user_who_was_invented_at_no_time_of_clerks_is_found_and_stops_no_run(
    created_at: str, worker: Connection, store: Store
) -> None:
    store.apply([user(at=1, svix_id="msg_1")])
    invented = [element(f"user_invented_{number}", created_at=created_at) for number in range(2)]
    call(worker, "apply", [each | {"source_updated_at": 1, "observed_at": 1} for each in invented])
    call(worker, "cut_users", {"every": 1, "before": NOW})
    run = begin_run(worker)
    call(worker, "find_unseen", run | {"kind": "user"})
    [(found,)] = call(worker, "delete_candidates", run | {"kind": "user", "after": "", "limit": 10})
    assert [each for each, *_ in found] == ["user_invented_0", "user_invented_1"]


@pytest.mark.parametrize("moment", [9 * 10**15, -9 * 10**13])
def test_no_delivery_or_parked_event_has_a_moment_that_the_command_cannot_read(
    moment: int, worker: Connection, admin: Connection
) -> None:
    sent = element("user_1") | {"svix_id": "msg_1", "event_type": "user.updated"}
    for occurred, received in ((moment, NOW), (NOW, moment)):
        with pytest.raises(psycopg.errors.CheckViolation):
            call(worker, "apply", [sent | {"observed_at": occurred, "received_at": received}])
    with pytest.raises(psycopg.errors.CheckViolation):
        call(worker, "park", [parked(received_at=moment)])
    assert value(admin, "select count(*) from clerk_sync.deliveries") == 0


# Evidence


def parked(**more: object) -> Json:
    usual: Json = {"svix_id": "msg_p", "user_id": "user_1", "body": "e30=", "reason_class": "refused", "reason": "why"}
    return usual | {"attempts": 1, "received_at": NOW} | more


def test_the_body_of_a_parked_event_is_replaced_by_no_other(worker: Connection, admin: Connection) -> None:
    call(worker, "park", [parked()])
    call(worker, "park", [parked(body="Zm9yZ2Vk", user_id="user_2", attempts=2)])
    assert rows(admin, "select body, user_id, attempts from clerk_sync.parked_events") == [(b"{}", "user_1", 2)]


def test_a_parked_event_loses_its_body_to_no_forged_user(worker: Connection, store: Store, admin: Connection) -> None:
    call(worker, "park", [parked()])
    store.apply([deleted("user", "user_2", at=2, svix_id="msg_2")])
    call(worker, "park", [parked(user_id="user_2")])
    assert value(admin, "select body from clerk_sync.parked_events") == b"{}"


def test_the_caller_of_housekeeping_cannot_choose_the_cause_of_its_changes(
    worker: Connection, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, svix_id="msg_1"), deleted("user", "user_1", at=2, svix_id="msg_2")])
    admin.execute("update clerk_sync.entities set delete_recorded_at = now() - interval '60 days'")
    worker.execute("""set clerk_sync.causes = '{"": ["operator", "forged"], "user_1": ["operator", "forged"]}'""")
    call(worker, "keep_house", DAYS)
    newest: LiteralString = "select cause, svix_id from clerk_sync.audit_log order by audit_id desc limit 1"
    assert rows(admin, newest) == [(f"direct:{WORKER}", None)]
