"""The two ways of supabase-js to the mirror's tables: `.schema('clerk')`, and the views of `clerk-supabase expose`."""

from __future__ import annotations

import pytest

from tests.kit import webhooks
from tests.outside.callers import Caller, RequestRejected
from tests.outside.conftest import Project
from tests.outside.test_synced_tables import ALREADY_THERE
from tests.outside.test_tasks import FORBIDDEN

WAYS = pytest.mark.parametrize("way", ["clerk.", ""], ids=["schema", "views"])


@pytest.fixture
def caller(running_callers: dict[str, Caller]) -> Caller:
    """The client with supabase-js."""
    return running_callers["javascript"]


@pytest.fixture
def team(project: Project, ada: str, eve: str, acme: str) -> str:
    """An organization made by Ada, with Eve as a member and an invitation."""
    project.store.apply(
        [
            webhooks.user(ada, at=1, first_name="Ada"),
            webhooks.user(eve, at=1, first_name="Eve"),
            webhooks.organization(acme, at=1, name="Acme", created_by=ada),
            webhooks.membership(f"orgmem_{ada}", at=1, org_id=acme, user_id=ada, role="org:admin"),
            webhooks.membership(f"orgmem_{eve}", at=1, org_id=acme, user_id=eve, role="org:viewer"),
            webhooks.invitation(f"orginv_{acme}", at=1, org_id=acme, email_address="bob@example.test", inviter_id=ada),
        ]
    )
    return acme


@WAYS
def test_names_are_embedded_through_memberships(
    *, way: str, caller: Caller, project: Project, team: str, ada: str, eve: str
) -> None:
    token = project.token(ada)
    members = caller.ask(
        "select", f"{way}organization_memberships", token=token, columns="role, profile(first_name), organization(name)"
    )
    assert sorted(each["profile"]["first_name"] for each in members) == ["Ada", "Eve"]
    assert [each["organization"] for each in members] == [{"name": "Acme"}] * 2
    [found] = caller.ask(
        "select",
        f"{way}organizations",
        token=token,
        where={"clerk_org_id": team},
        columns="name, creator(first_name), organization_memberships(role, profile(first_name))",
    )
    assert found["creator"] == {"first_name": "Ada"}
    assert {"role": "org:viewer", "profile": {"first_name": "Eve"}} in found["organization_memberships"]
    columns = "email_address, inviter(first_name), organization(name)"
    [invitation] = caller.ask("select", f"{way}organization_invitations", token=token, columns=columns)
    assert (invitation["inviter"], invitation["organization"]) == ({"first_name": "Ada"}, {"name": "Acme"})
    [profile] = caller.ask(
        "select", f"{way}users_public", token=token, where={"clerk_id": eve}, columns="first_name, memberships(role)"
    )
    assert profile == {"first_name": "Eve", "memberships": [{"role": "org:viewer"}]}


@WAYS
def test_a_stranger_and_a_banned_admin_embed_nothing(
    *, way: str, caller: Caller, project: Project, team: str, ada: str, eve: str
) -> None:
    stranger = project.token(f"{eve}Stranger")
    [profile] = caller.ask(
        "select", f"{way}users_public", token=stranger, where={"clerk_id": eve}, columns="first_name, memberships(role)"
    )
    assert profile == {"first_name": "Eve", "memberships": []}
    assert caller.ask("select", f"{way}organization_memberships", token=stranger, columns="profile(*)") == []
    assert caller.ask("select", f"{way}organizations", token=stranger, where={"clerk_org_id": team}) == []
    project.store.apply([webhooks.user(ada, at=2, banned=True)])
    tables = ("users", "users_public", "organizations", "organization_memberships", "organization_invitations")
    for table in tables:
        assert caller.ask("select", f"{way}{table}", token=project.token(ada)) == []
        with pytest.raises(RequestRejected, match=FORBIDDEN):
            caller.ask("select", f"{way}{table}")  # without a user
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", f"{way}users", {"clerk_id": ada}, token=project.token(ada))


@WAYS
def test_a_user_makes_only_their_own_row_and_changes_nothing(
    way: str, caller: Caller, project: Project, ada: str, eve: str
) -> None:
    token = project.token(ada)
    [made] = caller.ask("insert_once", f"{way}users", {"clerk_id": ada}, token=token, key_column="clerk_id")
    assert (made["clerk_id"], made["first_name"]) == (ada, None)
    assert caller.ask("insert_once", f"{way}users", {"clerk_id": ada}, token=token, key_column="clerk_id") == []
    with pytest.raises(RequestRejected, match=ALREADY_THERE):
        caller.ask("insert", f"{way}users", {"clerk_id": ada}, token=token)
    for values in ({"clerk_id": eve}, {"clerk_id": f"{ada}2"}, {"clerk_id": ada, "banned": False}):
        with pytest.raises(RequestRejected, match=FORBIDDEN):
            caller.ask("insert", f"{way}users", values, token=token)
    for verb in ("update", "delete"):
        with pytest.raises(RequestRejected, match=FORBIDDEN):
            caller.ask(verb, f"{way}users", {"banned": True}, token=token, where={"clerk_id": ada})
    assert [each["clerk_id"] for each in caller.ask("select", f"{way}users", token=token)] == [ada]


def test_the_secret_key_reads_the_views_and_writes_only_the_tables(caller: Caller, project: Project, ada: str) -> None:
    key = project.key("service_role")
    project.store.apply([webhooks.user(ada, at=1)])
    assert len(caller.ask("select", "users", key=key, where={"clerk_id": ada})) == 1
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("update", "users", {"username": "x"}, key=key, where={"clerk_id": ada})
