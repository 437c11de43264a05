"""The tables filled by sync, and the first login, through Supabase's API and with its own clients."""

from __future__ import annotations

import pytest

from tests.kit import webhooks
from tests.outside.callers import Caller, RequestRejected
from tests.outside.conftest import Project, TokenKind
from tests.outside.test_tasks import FORBIDDEN, KINDS

ALREADY_THERE = "23505"
# PostgREST knows it only since version 13; before, Postgres says so.
UNKNOWN_TABLE = r"PGRST205|42P01"


def users(caller: Caller, token: str) -> list[str]:
    return [row["clerk_id"] for row in caller.ask("select", "clerk.users", token=token)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_reads_their_own_row_and_no_other(
    caller: Caller, project: Project, kind: TokenKind, ada: str, eve: str
) -> None:
    project.store.apply([webhooks.user(ada, at=1), webhooks.user(eve, at=1)])
    assert users(caller, project.token(ada, kind=kind)) == [ada]
    assert users(caller, project.token(eve, kind=kind)) == [eve]


def test_a_signed_in_user_sees_the_public_side_of_others(caller: Caller, project: Project, ada: str, eve: str) -> None:
    project.store.apply([webhooks.user(ada, at=1, first_name="Ada"), webhooks.user(eve, at=1)])
    [seen] = caller.ask("select", "clerk.users_public", token=project.token(eve), where={"clerk_id": ada})
    assert seen["first_name"] == "Ada"
    assert not {"email", "primary_email", "public_metadata"} & seen.keys()
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("select", "clerk.users_public", where={"clerk_id": ada})


def test_a_user_does_not_write_what_clerk_says_about_them(caller: Caller, project: Project, ada: str) -> None:
    project.store.apply([webhooks.user(ada, at=1)])
    for verb in ("update", "delete"):
        with pytest.raises(RequestRejected, match=FORBIDDEN):
            caller.ask(verb, "clerk.users", {"username": "root"}, token=project.token(ada), where={"clerk_id": ada})


@pytest.mark.parametrize("kind", KINDS)
def test_at_first_login_a_user_makes_their_own_row_and_the_webhook_fills_it(
    caller: Caller, project: Project, kind: TokenKind, ada: str
) -> None:
    token = project.token(ada, kind=kind)
    assert users(caller, token) == []
    [made] = caller.ask("insert", "clerk.users", {"clerk_id": ada}, token=token)
    assert (made["clerk_id"], made["first_name"]) == (ada, None)

    project.store.apply([webhooks.user(ada, at=1, first_name="Ada")])
    [row] = caller.ask("select", "clerk.users", token=token)
    assert row["first_name"] == "Ada"


def test_a_second_first_login_changes_nothing(caller: Caller, project: Project, ada: str) -> None:
    token = project.token(ada)
    project.store.apply([webhooks.user(ada, at=1, first_name="Ada")])
    with pytest.raises(RequestRejected, match=ALREADY_THERE):
        caller.ask("insert", "clerk.users", {"clerk_id": ada}, token=token)
    assert caller.ask("insert_once", "clerk.users", {"clerk_id": ada}, token=token, key_column="clerk_id") == []
    [row] = caller.ask("select", "clerk.users", token=token)
    assert row["first_name"] == "Ada"


def test_a_first_login_can_say_that_the_row_may_be_there_already(caller: Caller, project: Project, ada: str) -> None:
    [made] = caller.ask(
        "insert_once", "clerk.users", {"clerk_id": ada}, token=project.token(ada), key_column="clerk_id"
    )
    assert made["clerk_id"] == ada


def test_nobody_makes_the_row_of_another_or_says_more_than_their_id(
    caller: Caller, project: Project, ada: str, eve: str
) -> None:
    for values in ({"clerk_id": ada}, {"clerk_id": eve, "username": "root"}):
        with pytest.raises(RequestRejected, match=FORBIDDEN):
            caller.ask("insert", "clerk.users", values, token=project.token(eve))
    assert users(caller, project.token(ada)) == []


def test_a_deleted_user_has_no_access_although_their_token_is_good(caller: Caller, project: Project, ada: str) -> None:
    token = project.token(ada)
    project.store.apply([webhooks.user(ada, at=1)])
    caller.ask("insert", "tasks", {"name": "left behind"}, token=token)
    project.store.apply([webhooks.deleted("user", ada, at=2)])
    assert users(caller, token) == []
    assert caller.ask("select", "tasks", token=token) == []
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "clerk.users", {"clerk_id": ada}, token=token)
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "tasks", {"name": "one more"}, token=token)


def test_a_banned_user_has_no_access_although_their_token_is_good(caller: Caller, project: Project, ada: str) -> None:
    project.store.apply([webhooks.user(ada, at=1, banned=True)])
    assert users(caller, project.token(ada)) == []
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "tasks", {"name": "spam"}, token=project.token(ada))


def test_the_machinery_is_not_served(caller: Caller, project: Project, ada: str) -> None:
    for table in ("entities", "deliveries", "audit_log", "caller"):
        with pytest.raises(RequestRejected, match=UNKNOWN_TABLE):
            caller.ask("select", table, token=project.token(ada))
    with pytest.raises(RequestRejected, match="PGRST106"):
        caller.ask("select", "clerk_sync.entities", token=project.token(ada))


def test_profiles_are_read_by_everybody_once_their_owner_publishes_them(
    caller: Caller, project: Project, ada: str, eve: str
) -> None:
    adas, his = project.token(ada), {"user_id": ada}
    caller.ask("insert", "profiles", {"display_name": "Ada"}, token=adas)
    assert caller.ask("select", "profiles", where=his) == []
    assert caller.ask("select", "profiles", token=project.token(eve), where=his) == []
    caller.ask("update", "profiles", {"is_public": True}, token=adas, where=his)
    assert len(caller.ask("select", "profiles", where=his)) == 1
    assert len(caller.ask("select", "profiles", token=project.token(eve), where=his)) == 1
    assert caller.ask("update", "profiles", {"about": "?"}, token=project.token(eve), where=his) == []
