"""Organizations, invitations and domains in their tables: every field, any order, gone with their organization."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, empty, outcomes, rows, tables, value
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, user


def apply_each(store: Store, *events: Applied) -> list[object]:
    """Applies the events one by one, as a worker that receives them one by one."""
    return [answer for event in events for answer in store.apply([event])]


# Every field


def test_every_column_of_an_organization_arrives_as_clerk_sent_it(store: Store, admin: Connection) -> None:
    store.apply([organization(at=7, public_metadata={"plan": "pro", "seats": 3}, has_image=True, slug=None)])
    [row] = rows(
        admin,
        """
        select clerk_org_id, name, slug, image_url, has_image, public_metadata, max_allowed_memberships,
            admin_delete_enabled, created_by, extract(epoch from created_at) * 1000, deleted_at
        from clerk.organizations
        """,
    )
    assert row == (
        *("org_1", "Example Labs", None, "https://img.example.test/organization", True, {"plan": "pro", "seats": 3}, 5),
        *(True, "user_founder", CREATED_AT, None),
    )


def test_every_column_of_an_invitation_arrives_as_clerk_sent_it(store: Store, admin: Connection) -> None:
    sent: dict[str, Any] = {
        "status": "accepted",
        "user_id": "user_2",
        "public_metadata": {"team": "a"},
        "role": "admin",
    }
    store.apply([invitation(at=7, expires_at=CREATED_AT + 1_234, **sent)])
    [row] = rows(
        admin,
        """
        select clerk_invitation_id, clerk_org_id, email_address, role, status, inviter_id, accepted_by, public_metadata,
            extract(epoch from expires_at) * 1000, extract(epoch from created_at) * 1000, deleted_at
        from clerk.organization_invitations
        """,
    )
    assert row == (
        *("orginv_1", "org_1", "guest@example.test", "org:admin", "accepted", "user_founder", "user_2", {"team": "a"}),
        *(CREATED_AT + 1_234, CREATED_AT, None),
    )


def test_every_column_of_a_domain_arrives_as_clerk_sent_it(store: Store, admin: Connection) -> None:
    verified = {"status": "verified", "strategy": "affiliation_email_code", "attempts": 1}
    sent: dict[str, Any] = {"affiliation_email_address": "ada@example.test", "affiliation_verification": verified}
    store.apply([domain(at=7, ownership_verification={"status": "unverified"}, **sent)])
    [row] = rows(
        admin,
        """
        select clerk_domain_id, clerk_org_id, name, enrollment_mode, affiliation_email_address, affiliation_verified,
            ownership_verified, extract(epoch from created_at) * 1000, deleted_at
        from clerk.organization_domains
        """,
    )
    assert row == (
        *("orgdmn_1", "org_1", "example.test", "manual_invitation", "ada@example.test", True, False),
        *(CREATED_AT, None),
    )


def test_every_column_of_a_membership_arrives_as_clerk_sent_it(store: Store, admin: Connection) -> None:
    sent: dict[str, Any] = {
        "permissions": ["org:reports:read", 'org:Größe, "quoted" {}'],
        "public_metadata": {"desk": 7},
    }
    store.apply([membership(at=7, role="basic_member", **sent)])
    [row] = rows(
        admin,
        """
        select clerk_membership_id, clerk_org_id, clerk_user_id, role, permissions, public_metadata,
            extract(epoch from created_at) * 1000, deleted_at
        from clerk.organization_memberships
        """,
    )
    assert row == ("orgmem_1", "org_1", "user_1", "org:member", *sent.values(), CREATED_AT, None)


def test_a_record_of_a_delivery_names_its_object(store: Store, admin: Connection) -> None:
    store.apply(
        [
            organization(at=1, svix_id="msg_1"),
            membership(at=1, svix_id="msg_2"),
            invitation(at=1, svix_id="msg_3"),
            domain(at=1, svix_id="msg_4"),
            deleted("organizationDomain", "orgdmn_1", at=2, svix_id="msg_5"),
        ]
    )
    recorded = rows(admin, "select svix_id, entity_id, event_type from clerk_sync.deliveries order by svix_id")
    assert recorded == [
        ("msg_1", "org_1", "organization.updated"),
        ("msg_2", "orgmem_1", "organizationMembership.updated"),
        ("msg_3", "orginv_1", "organizationInvitation.created"),
        ("msg_4", "orgdmn_1", "organizationDomain.updated"),
        ("msg_5", "orgdmn_1", "organizationDomain.deleted"),
    ]
    assert outcomes(admin) == {
        "msg_1": "created",
        "msg_2": "created",
        "msg_3": "created",
        "msg_4": "deleted_before",
        "msg_5": "deleted",
    }


# Versions


@pytest.mark.parametrize("make", [organization, membership, invitation, domain])
def test_an_older_event_that_arrives_late_is_stale(make: object, store: Store) -> None:
    assert callable(make)
    assert apply_each(store, make(at=5), make(at=4), make(at=5), make(at=6)) == [
        "created",
        "stale",
        "unchanged",
        "unchanged",
    ]


def test_an_invitation_goes_through_its_states_whatever_the_order(store: Store, admin: Connection) -> None:
    life = [
        invitation(at=1),
        invitation(at=2, status="accepted", user_id="user_2"),
        invitation(at=3, status="revoked"),
    ]
    seen = []
    for order in itertools.permutations(life):
        empty(admin)
        apply_each(store, *order)
        seen.append(tables(admin))
        assert value(admin, "select status from clerk.organization_invitations") == "revoked"
    assert all(each == seen[0] for each in seen)


def test_two_organizations_may_hold_one_slug_for_a_moment(store: Store, admin: Connection) -> None:
    store.apply([organization("org_1", at=1, slug="same"), organization("org_2", at=1, slug="same")])
    assert value(admin, "select count(*) from clerk.organizations where slug = 'same'") == 2


# An organization that has not arrived


@pytest.mark.parametrize(
    "child", [invitation(at=5), domain(at=5), membership(at=5)], ids=["invitation", "domain", "membership"]
)
def test_a_child_and_its_organization_end_the_same_in_both_orders(
    child: Applied, store: Store, admin: Connection
) -> None:
    # The organization is older than its child by Clerk's clock, and still overrides what the child says of it.
    events = [organization(at=1, name="The true name"), child]
    apply_each(store, *events)
    in_order = tables(admin)
    for again in (events[::-1], [*events, *events], [*events[::-1], *events]):
        empty(admin)
        apply_each(store, *again)
        assert tables(admin) == in_order
    empty(admin)
    store.apply(events[::-1])
    assert tables(admin) == in_order
    assert value(admin, "select name from clerk.organizations") == "The true name"


@pytest.mark.parametrize("child", [invitation(at=5), domain(at=5)], ids=["invitation", "domain"])
def test_an_organization_of_which_only_the_id_is_known_takes_nothing_from_what_is_known(
    child: Applied, store: Store, admin: Connection
) -> None:
    # Data of a membership counts as known, too: chance would decide an exact tie.
    for first in (organization(at=1), membership(at=1)):
        empty(admin)
        apply_each(store, first, child)
        assert value(admin, "select name from clerk.organizations") == "Example Labs"
        empty(admin)
        apply_each(store, child, first)
        assert value(admin, "select name from clerk.organizations") == "Example Labs"


# Deletes

FAMILY = [organization(at=1), membership(at=2), invitation(at=3), domain(at=4)]
HIDDEN = """
    select 'organization', clerk_org_id, deleted_at from clerk.organizations
    union all select 'membership', clerk_membership_id, deleted_at from clerk.organization_memberships
    union all select 'invitation', clerk_invitation_id, deleted_at from clerk.organization_invitations
    union all select 'domain', clerk_domain_id, deleted_at from clerk.organization_domains
"""


def test_deleting_an_organization_takes_all_that_belongs_to_it_whatever_the_order(
    store: Store, admin: Connection
) -> None:
    seen = []
    for order in itertools.permutations([*FAMILY, deleted("organization", "org_1", at=9)]):
        empty(admin)
        apply_each(store, *order)
        seen.append(tables(admin))
        assert [kind for kind, _, deleted_at in rows(admin, HIDDEN) if deleted_at is None] == []
    assert all(each == seen[0] for each in seen)
    assert len(rows(admin, HIDDEN)) == 4


def test_deleting_an_organization_in_the_batch_that_makes_its_family_hides_all_of_it(
    store: Store, admin: Connection
) -> None:
    batch = [*FAMILY, deleted("organization", "org_1", at=9)]
    apply_each(store, *batch)
    one_by_one = tables(admin)
    for order in (batch, batch[::-1]):
        empty(admin)
        store.apply(order)
        assert tables(admin) == one_by_one


def test_rows_of_another_organization_stay(store: Store, admin: Connection) -> None:
    store.apply([*FAMILY, organization("org_2", at=1), membership("orgmem_2", at=1, org_id="org_2")])
    store.apply([invitation("orginv_2", at=1, org_id="org_2"), domain("orgdmn_2", at=1, org_id="org_2")])
    store.apply([deleted("organization", "org_1", at=9)])
    left = [key for _, key, deleted_at in rows(admin, HIDDEN) if deleted_at is None]
    assert sorted(left) == ["org_2", "orgdmn_2", "orginv_2", "orgmem_2"]


def test_a_late_event_about_a_child_does_not_restore_it(store: Store, admin: Connection) -> None:
    store.apply([*FAMILY, deleted("organization", "org_1", at=9)])
    store.apply([membership(at=99, role="org:admin"), invitation(at=99, status="revoked"), domain(at=99, name="new")])
    store.apply([organization(at=99, name="Still there?"), membership("orgmem_2", at=99)])
    assert [row for row in rows(admin, HIDDEN) if row[2] is None] == []


def test_a_domain_is_deleted_alone(store: Store, admin: Connection) -> None:
    store.apply(FAMILY)
    store.apply([deleted("organizationDomain", "orgdmn_1", at=9)])
    hidden = [kind for kind, _, deleted_at in rows(admin, HIDDEN) if deleted_at is not None]
    assert hidden == ["domain"]


def test_a_user_whom_an_organization_names_as_its_maker_may_be_gone(store: Store, admin: Connection) -> None:
    store.apply([user(at=1), organization(at=1, created_by="user_1"), invitation(at=1, inviter_id="user_nobody")])
    store.apply([deleted("user", "user_1", at=2)])
    assert value(admin, "select deleted_at from clerk.organizations") is None
    assert value(admin, "select deleted_at from clerk.organization_invitations") is None
