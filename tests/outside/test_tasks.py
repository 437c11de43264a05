"""The guide's to-do list, through Supabase's API and with its own clients."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clerk_supabase_cli.standin.token_mint import Mint, SigningKey, legacy_token
from tests.outside.callers import Caller, RequestRejected
from tests.outside.conftest import Project, TokenKind

FORBIDDEN = "42501"
# PostgREST does not believe the token.
BAD_TOKEN = "PGRST301"
KINDS: tuple[TokenKind, ...] = ("v1", "v2", "legacy")


def names(caller: Caller, token: str) -> list[str]:
    return sorted(row["name"] for row in caller.ask("select", "tasks", token=token))


@pytest.mark.parametrize("kind", KINDS)
def test_two_users_each_see_only_their_own_tasks(
    caller: Caller, project: Project, kind: TokenKind, ada: str, eve: str
) -> None:
    adas, eves = project.token(ada, kind=kind), project.token(eve, kind=kind)
    [written] = caller.ask("insert", "tasks", {"name": "Ada's"}, token=adas)
    assert written["user_id"] == ada
    caller.ask("insert", "tasks", {"name": "Eve's"}, token=eves)
    assert names(caller, adas) == ["Ada's"]
    assert names(caller, eves) == ["Eve's"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_changes_and_deletes_their_own_tasks_and_no_others(
    caller: Caller, project: Project, kind: TokenKind, ada: str, eve: str
) -> None:
    adas, eves = project.token(ada, kind=kind), project.token(eve, kind=kind)
    [task] = caller.ask("insert", "tasks", {"name": "mine"}, token=adas)
    this = {"id": task["id"]}

    assert caller.ask("update", "tasks", {"name": "stolen"}, token=eves, where=this) == []
    assert caller.ask("delete", "tasks", token=eves, where=this) == []

    [changed] = caller.ask("update", "tasks", {"is_done": True}, token=adas, where=this)
    assert (changed["name"], changed["is_done"]) == ("mine", True)
    assert len(caller.ask("delete", "tasks", token=adas, where=this)) == 1
    assert names(caller, adas) == []


def test_nobody_writes_or_gives_away_a_task_in_the_name_of_another(
    caller: Caller, project: Project, ada: str, eve: str
) -> None:
    token = project.token(eve)
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "tasks", {"name": "forged", "user_id": ada}, token=token)
    [task] = caller.ask("insert", "tasks", {"name": "a gift"}, token=token)
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("update", "tasks", {"user_id": ada}, token=token, where={"id": task["id"]})
    assert names(caller, project.token(ada)) == []


def test_without_a_token_nothing_is_read_and_nothing_is_written(caller: Caller) -> None:
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("select", "tasks")
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "tasks", {"name": "nobody's"})


def test_a_user_whose_token_names_no_one_sees_nothing(caller: Caller, project: Project, ada: str) -> None:
    caller.ask("insert", "tasks", {"name": "Ada's"}, token=project.token(ada))
    assert names(caller, project.mint.session(ada, sub=None)) == []


def test_claims_of_one_request_are_gone_in_the_next(caller: Caller, project: Project, ada: str) -> None:
    # The API has one connection: both requests use it.
    caller.ask("insert", "tasks", {"name": "Ada's"}, token=project.token(ada))
    assert names(caller, project.mint.session(ada, sub=None)) == []
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("select", "tasks")


# Tokens that name a user, and must be refused.
BAD_TOKENS: dict[str, Callable[[Mint, str], str]] = {
    "expired": lambda mint, user_id: mint.session(user_id, lifetime=-60),
    "not valid yet": lambda mint, user_id: mint.session(user_id, nbf=int(mint.clock()) + 120),
    "signed with another key of the same name": lambda _, user_id: Mint(SigningKey.generate()).session(user_id),
    "with the signature of another token": lambda mint, user_id: ".".join(
        (*mint.session(user_id).split(".")[:2], mint.session("user_eve").split(".")[2])
    ),
    "signed with nothing": lambda mint, user_id: (
        mint.key.sign(mint.payload(user_id), alg="none").rpartition(".")[0] + "."
    ),
    "signed with the public key as a secret": lambda mint, user_id: legacy_token(user_id, secret=mint.key.public_pem),
    "signed with the secret of another project": lambda _, user_id: legacy_token(user_id, secret="another" * 8),
    "of the former template, expired": lambda _, user_id: legacy_token(user_id, lifetime=-60),
}


@pytest.mark.parametrize("forge", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_forged_or_expired_token_opens_nothing(
    caller: Caller, project: Project, ada: str, forge: Callable[[Mint, str], str]
) -> None:
    caller.ask("insert", "tasks", {"name": "Ada's"}, token=project.token(ada))
    token = forge(project.mint, ada)
    with pytest.raises(RequestRejected, match=BAD_TOKEN):
        caller.ask("select", "tasks", token=token)
    with pytest.raises(RequestRejected, match=BAD_TOKEN):
        caller.ask("insert", "tasks", {"name": "forged"}, token=token)
    assert names(caller, project.token(ada)) == ["Ada's"]


def test_the_key_of_the_service_role_sees_everybodys(caller: Caller, project: Project, ada: str, eve: str) -> None:
    for user in (ada, eve):
        caller.ask("insert", "tasks", {"name": user}, token=project.token(user))
    seen = caller.ask("select", "tasks", key=project.key("service_role"))
    assert {ada, eve} <= {task["user_id"] for task in seen}
