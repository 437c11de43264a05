"""`POST /session` for a user who is not let in: the answer, and the number of requests to Clerk."""

from __future__ import annotations

import time
from typing import Any, Literal, get_args

import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin.faults import Fault, answering
from tests.kit.databases import Connection, rows, tables
from tests.kit.histories import alone, delete, upsert
from tests.kit.sessions import ORIGIN, App

How = Literal["banned", "deleted", "unknown to Clerk"]
FORBIDDEN: tuple[How, ...] = get_args(How)
UNREACHABLE = "postgresql://clerk_sync_session:x@127.0.0.1:1/postgres?sslmode=disable"


# Forbidden users


def test_a_user_whom_clerk_does_not_know_is_forbidden_and_gets_no_row(app: App, admin: Connection) -> None:
    before = tables(admin)
    answer = app.post()
    assert (answer.status, answer.message) == (403, "forbidden")
    assert tables(admin) == before


@pytest.mark.parametrize("clerk_says", ["gone", "still there", "nothing"])
@pytest.mark.parametrize("kept", ["row", "tombstone"])
def test_a_deleted_user_is_never_restored(
    kept: Literal["row", "tombstone"],
    clerk_says: Literal["gone", "still there", "nothing"],
    app: App,
    store: Store,
    admin: Connection,
) -> None:
    store.apply(alone(upsert("user_ada"), delete("user_ada", at=time.time_ns() // 1_000_000 - 60_000)))
    if kept == "tombstone":
        admin.execute("delete from clerk.users")
    if clerk_says != "gone":
        app.signs_up()
    if clerk_says == "nothing":
        app.clerk.faults.add(answering(500), times=99)
    for _ in range(2):
        assert app.post().status == 403
    assert rows(admin, "select 1 from clerk.users where deleted_at is null") == []
    assert rows(admin, "select 1 from clerk.users_public where deleted_at is null") == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("flag", ["banned", "deprovisioned"])
def test_a_banned_or_deprovisioned_user_is_forbidden(
    flag: str, known: bool, app: App, store: Store, admin: Connection
) -> None:
    fields: dict[str, Any] = {flag: True}
    if known:
        store.apply(alone(upsert("user_ada", **fields)))
    app.signs_up(**fields)
    assert app.post().status == 403
    assert rows(admin, "select banned or deprovisioned from clerk.users") == [(True,)]
    app.clerk.faults.add(answering(500), times=99)
    assert app.post().status == 403


def test_a_user_whose_ban_was_lifted_signs_in_before_the_webhook(app: App, store: Store) -> None:
    store.apply(alone(upsert("user_ada", banned=True)))
    app.signs_up()
    assert app.post().status == 200


# A forbidden user costs no request to Clerk for a minute


def forbid(how: How, app: App, store: Store, user_id: str = "user_ada") -> None:
    """Makes a user forbidden: banned, deprovisioned or deleted."""
    if how == "deleted":
        store.apply(alone(upsert(user_id), delete(user_id, at=time.time_ns() // 1_000_000 - 60_000)))
    if how != "unknown to Clerk":
        app.signs_up(user_id, banned=how == "banned")


@pytest.mark.parametrize("how", FORBIDDEN)
def test_many_tokens_of_a_forbidden_user_cost_one_request_to_clerk(how: How, app: App, store: Store) -> None:
    forbid(how, app, store)
    answers = [app.post() for _ in range(20)]
    assert answers == [answers[0]] * 20
    assert (answers[0].status, app.calls) == (403, 1)


@pytest.mark.parametrize("how", FORBIDDEN)
def test_many_forbidden_users_cost_one_request_to_clerk_each(how: How, app: App, store: Store) -> None:
    users = [f"user_{number}" for number in range(10)]
    for user_id in users:
        forbid(how, app, store, user_id)
    for _ in range(3):
        assert {app.post(user_id).status for user_id in users} == {403}
    assert app.calls == len(users)


@pytest.mark.parametrize("how", FORBIDDEN)
def test_one_forbidden_user_does_not_keep_others_from_signing_in(how: How, app: App, store: Store) -> None:
    forbid(how, app, store, "user_eve")
    app.signs_up("user_ada")
    assert [app.post("user_eve").status, app.post("user_ada").status, app.post("user_eve").status] == [403, 200, 403]


def test_a_lifted_ban_is_noticed_within_a_minute_without_its_webhook(app: App) -> None:
    app.signs_up(banned=True)
    assert app.post().status == 403
    app.signs_up(banned=False)
    app.later.now = 59
    assert app.post().status == 403
    app.later.now = 61
    assert app.post().status == 200
    assert app.calls == 2


def test_a_lifted_ban_is_noticed_at_once_when_the_webhook_arrives(app: App, store: Store) -> None:
    app.signs_up(banned=True)
    assert app.post().status == 403
    store.apply(alone(upsert("user_ada", version=time.time_ns() // 1_000_000 + 60_000)))
    assert app.post().status == 200


def test_a_user_who_has_just_signed_up_and_whom_clerk_does_not_know_yet_waits_five_seconds_at_most(app: App) -> None:
    assert app.post().status == 403
    app.signs_up()
    app.later.now = 4
    assert app.post().status == 403
    app.later.now = 6
    assert app.post().status == 200
    assert app.calls == 2


def test_a_user_whom_clerk_does_not_know_costs_one_request_in_five_seconds(app: App) -> None:
    for app.later.now in range(20):
        assert app.post().status == 403
    assert app.calls == 4


def test_a_user_who_is_deleted_here_waits_a_minute_although_clerk_still_knows_them(app: App, store: Store) -> None:
    forbid("deleted", app, store)
    for app.later.now in (0, 6, 59, 61):
        assert app.post().status == 403
    assert app.calls == 2


def test_a_user_whom_the_api_shows_late_signs_in_as_soon_as_the_webhook_arrives(app: App, store: Store) -> None:
    assert app.post().status == 403
    store.apply(alone(upsert("user_ada")))
    assert app.post().status == 200


def test_a_forbidden_user_costs_a_failing_clerk_one_request_too(app: App, store: Store) -> None:
    store.apply(alone(upsert("user_ada", banned=True)))
    app.clerk.faults.add(answering(500), times=99)
    assert app.post().status == 403
    asked = app.clerk.counts.total()
    assert [app.post().status for _ in range(5)] == [403] * 5
    assert app.clerk.counts.total() == asked


def test_a_database_that_was_unavailable_is_not_remembered_against_the_user(app: App) -> None:
    app.signs_up()
    reachable, app.database.current = app.database.current, UNREACHABLE
    assert app.post().status == 503
    app.database.current = reachable
    assert app.post().status == 200


def test_a_database_that_went_while_clerk_was_asked_is_not_remembered_against_the_user(
    app: App, admin: Connection
) -> None:
    app.signs_up()
    reachable = app.database.current

    def goes() -> None:
        app.database.current = UNREACHABLE
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'clerk_sync_session'")

    app.clerk.faults.add(Fault(happening=goes))
    assert (app.post().status, app.calls) == (503, 1)
    app.database.current = reachable
    assert (app.post().status, app.calls) == (200, 2)


@pytest.mark.parametrize("fault", [answering(500), Fault(wire="reset")], ids=["500", "reset"])
def test_a_clerk_that_was_unavailable_is_not_remembered_against_the_user(fault: Fault, app: App) -> None:
    app.signs_up()
    app.clerk.faults.add(fault, times=99)
    assert app.post().status == 202
    app.clerk.faults.clear()
    assert app.post().status == 200


@pytest.mark.parametrize("how", FORBIDDEN)
def test_the_answer_does_not_say_why_a_user_is_forbidden(how: How, app: App, store: Store) -> None:
    forbid(how, app, store)
    # And after a minute as at first.
    for app.later.now in (0, 1, 61):
        answer = app.post()
        assert (answer.status, answer.message) == (403, "forbidden")
        assert answer.headers == {
            "access-control-allow-origin": ORIGIN,
            "access-control-expose-headers": "organization-membership",
            "vary": "origin",
        }
