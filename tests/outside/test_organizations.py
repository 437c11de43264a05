"""Documents of an organization, whose roles may do different things, through Supabase's API."""

from __future__ import annotations

import pytest

from clerk_supabase.tokens.claims import Organization
from tests.kit import webhooks
from tests.outside.callers import Caller, RequestRejected
from tests.outside.conftest import Project, TokenKind
from tests.outside.test_tasks import FORBIDDEN, KINDS


def joined(project: Project, user_id: str, org_id: str, role: str) -> None:
    """Makes a user a member, by an event that sync applies."""
    project.store.apply(
        [
            webhooks.user(user_id, at=1),
            webhooks.membership(f"orgmem_{user_id}{org_id}", at=1, org_id=org_id, user_id=user_id, role=role),
        ]
    )


def active(org_id: str, role: str) -> Organization:
    """The claims of a token about the organization."""
    return Organization(org_id, "acme", role, ())


@pytest.mark.parametrize("kind", KINDS)
def test_members_do_with_documents_what_their_role_allows(
    caller: Caller, project: Project, kind: TokenKind, acme: str
) -> None:
    tokens = {}
    for role in ("admin", "editor", "viewer"):
        user_id = f"user_{role}{acme}"
        joined(project, user_id, acme, f"org:{role}")
        tokens[role] = project.token(user_id, active(acme, f"org:{role}"), kind)

    [document] = caller.ask("insert", "documents", {"title": "Plan"}, token=tokens["editor"])
    assert document["organization_id"] == acme
    this = {"id": document["id"]}
    for token in tokens.values():
        assert [row["title"] for row in caller.ask("select", "documents", token=token)] == ["Plan"]

    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "documents", {"title": "Mine"}, token=tokens["viewer"])
    assert caller.ask("update", "documents", {"title": "Mine"}, token=tokens["viewer"], where=this) == []
    assert len(caller.ask("update", "documents", {"title": "Plan B"}, token=tokens["editor"], where=this)) == 1
    assert caller.ask("delete", "documents", token=tokens["editor"], where=this) == []
    assert len(caller.ask("delete", "documents", token=tokens["admin"], where=this)) == 1


def test_documents_are_those_of_the_organization_that_is_active(
    caller: Caller, project: Project, ada: str, acme: str
) -> None:
    other = f"{acme}2"
    for organization in (acme, other):
        joined(project, ada, organization, "org:admin")
        caller.ask(
            "insert", "documents", {"title": organization}, token=project.token(ada, active(organization, "org:admin"))
        )
    for organization in (acme, other):
        seen = caller.ask("select", "documents", token=project.token(ada, active(organization, "org:admin")))
        assert [row["title"] for row in seen] == [organization]
    assert caller.ask("select", "documents", token=project.token(ada)) == []


def test_a_token_alone_does_not_make_a_member_nor_an_admin(
    caller: Caller, project: Project, ada: str, eve: str, acme: str
) -> None:
    joined(project, ada, acme, "org:viewer")
    says_admin = active(acme, "org:admin")
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "documents", {"title": "Mine"}, token=project.token(ada, says_admin))
    stranger = project.token(eve, says_admin)
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "documents", {"title": "Mine"}, token=stranger)
    for table in ("clerk.organizations", "clerk.organization_memberships"):
        assert caller.ask("select", table, token=stranger) == []


def test_a_removed_member_loses_access_before_their_token_expires(
    caller: Caller, project: Project, ada: str, acme: str
) -> None:
    joined(project, ada, acme, "org:admin")
    token = project.token(ada, active(acme, "org:admin"))
    caller.ask("insert", "documents", {"title": "Plan"}, token=token)
    assert [row["clerk_org_id"] for row in caller.ask("select", "clerk.organizations", token=token)] == [acme]

    project.store.apply([webhooks.deleted("organizationMembership", f"orgmem_{ada}{acme}", at=2)])
    for table in ("documents", "clerk.organizations", "clerk.organization_memberships"):
        assert caller.ask("select", table, token=token) == []
    with pytest.raises(RequestRejected, match=FORBIDDEN):
        caller.ask("insert", "documents", {"title": "Revenge"}, token=token)


def test_invitations_are_read_by_admins_only(caller: Caller, project: Project, ada: str, eve: str, acme: str) -> None:
    joined(project, ada, acme, "org:admin")
    joined(project, eve, acme, "org:viewer")
    project.store.apply([webhooks.invitation(f"orginv_{acme}", at=1, org_id=acme)])
    assert len(caller.ask("select", "clerk.organization_invitations", token=project.token(ada))) == 1
    assert caller.ask("select", "clerk.organization_invitations", token=project.token(eve)) == []
