"""Subscriptions, their items and payment attempts in their tables, in any order of the events."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from clerk_supabase.errors import ChangeRefused
from clerk_supabase.model.changes import Reconciled, changes_of_object
from clerk_supabase.model.events import subject_of
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.access import objects as access
from clerk_supabase_cli.standin.billing import objects as billing
from clerk_supabase_cli.standin.samples import Json
from tests.kit.billing import attempt, item, subscription
from tests.kit.databases import Connection, acting_as, empty, rows, tables
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.stored import tables_with
from tests.kit.webhooks import deleted, membership, organization, told, user

ITEMS = "select clerk_subscription_item_id, clerk_subscription_id, clerk_user_id, clerk_org_id, status"
TIMES = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 2}
PAYER = billing.payer("cpayer_1", user_id="user_1")


def pro(**fields: Any) -> Json:
    return billing.item("csub_item_1", billing.PLANS["pro"], payer=PAYER, subscription_id="csub_1", **TIMES) | fields


def test_every_column_of_an_item_is_filled_from_its_event(store: Store, admin: Connection) -> None:
    store.apply([item(at=1, org_id="org_1", seats={"quantity": 8}, is_free_trial=True)])
    [row] = rows(admin, "select to_jsonb(i) from clerk.subscription_items as i")
    assert row[0] == {
        "clerk_subscription_item_id": "csub_item_1",
        "clerk_subscription_id": "csub_1",
        "clerk_user_id": None,
        "clerk_org_id": "org_1",
        "payer_id": "cpayer_1",
        "status": "active",
        "plan_id": "cplan_2LocalPro",
        "plan_slug": "pro",
        "plan_name": "Pro",
        "plan_period": "month",
        "amount": 2000,
        "currency": "USD",
        "is_free_trial": True,
        "is_seat_based": True,
        "seats": 8,
        "period_start": "2020-09-13T12:26:40+00:00",
        "period_end": "2020-10-13T12:26:40+00:00",
        "created_at": "2020-09-13T12:26:40+00:00",
        "deleted_at": None,
    }


@pytest.mark.parametrize(
    ("fields", "is_seat_based", "seats"), [({}, False, None), ({"seats": {"quantity": None}}, True, None)]
)
def test_an_item_with_any_number_of_seats_differs_from_an_item_without_seats(
    store: Store, admin: Connection, fields: Json, is_seat_based: bool, seats: int | None
) -> None:
    store.apply([item(at=1, **fields)])
    assert rows(admin, "select is_seat_based, seats from clerk.subscription_items") == [(is_seat_based, seats)]


def test_events_about_a_payer_end_in_the_same_rows_in_any_order(store: Store, admin: Connection) -> None:
    """The item comes before its subscription, in both shapes, and its old state comes last."""
    events = [
        subscription(at=2, items=[billing.inner_item(pro())]),
        item(at=1, status="incomplete", subscription_id=None),
        item(at=3, status="canceled"),
    ]
    found = set()
    for order in itertools.permutations(events):
        empty(admin)
        for event in order:
            store.apply([event])
        found.add(str((rows(admin, f"{ITEMS} from clerk.subscription_items"), sorted(tables(admin)["subscriptions"]))))
    assert len(found) == 1
    assert rows(admin, f"{ITEMS} from clerk.subscription_items") == [
        ("csub_item_1", "csub_1", "user_1", None, "canceled")
    ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(item(at=1), item(at=2, plan=None, plan_id=None), id="a plan that is removed"),
        pytest.param(item(at=1), item(at=2, plan={"slug": "gold", "amount": "2 dollars"}), id="a price nobody reads"),
        pytest.param(attempt(at=1), attempt(at=2, totals=None), id="a payment without amounts"),
    ],
)
def test_a_value_that_the_latest_event_lacks_is_gone_in_any_order(
    earlier: Applied, later: Applied, store: Store, admin: Connection
) -> None:
    store.apply([later])
    alone = tables(admin)
    for order in ([earlier, later], [later, earlier]):
        empty(admin)
        for event in order:
            store.apply([event])
        assert tables(admin)["subscription_items"] == alone["subscription_items"]
        assert tables(admin)["payment_attempts"] == alone["payment_attempts"]


@pytest.mark.parametrize("missing", ["payer", "subscription_id"])
def test_an_item_without_its_payer_or_its_subscription_keeps_both(
    store: Store, admin: Connection, missing: str
) -> None:
    store.apply([item(at=1)])
    store.apply([item(at=2, status="ended", **dict[str, Any]({missing: None}))])
    assert rows(admin, f"{ITEMS} from clerk.subscription_items") == [("csub_item_1", "csub_1", "user_1", None, "ended")]


def test_an_item_of_a_deleted_payer_stays_hidden_when_its_event_names_no_payer(store: Store, admin: Connection) -> None:
    store.apply([item(at=1), user(at=1)])
    store.apply([deleted("user", "user_1", at=2)])
    store.apply([item(at=3, payer=None)])
    assert rows(admin, "select deleted_at is null from clerk.subscription_items") == [(False,)]


def test_the_item_of_a_default_plan_ends_and_is_active_again(store: Store, admin: Connection) -> None:
    for at, status in enumerate(("active", "ended", "upcoming", "active", "a status of next year"), 1):
        store.apply([item(at=at, status=status, period_end=None)])
        assert rows(admin, "select status, period_end from clerk.subscription_items") == [(status, None)]


def test_a_missing_item_of_a_subscription_stays_and_an_unreadable_item_is_left_out(
    store: Store, admin: Connection
) -> None:
    store.apply([item(at=1)])
    store.apply([subscription(at=2, items=[{"id": 7}, "item", billing.inner_item(pro(id="csub_item_2", plan=None))])])
    found = rows(admin, "select clerk_subscription_item_id, plan_slug from clerk.subscription_items order by 1")
    assert found == [("csub_item_1", "pro"), ("csub_item_2", None)]


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"is_free_trial": "maybe"}, "is_free_trial"),
        ({"created_at": "x"}, "created_at"),
        ({"created_at": 0}, "created_at"),
    ],
)
def test_a_field_of_an_unexpected_type_counts_as_missing(
    store: Store, admin: Connection, fields: Json, column: str
) -> None:
    assert store.apply([item(at=1, **fields)]) == ["created"]
    [row] = rows(admin, "select to_jsonb(i) from clerk.subscription_items as i")
    assert row[0][column] in (None, False)


@pytest.mark.parametrize("odd", [{"id": ""}, {"id": "x" * 256}, {"updated_at": None}, {"updated_at": "x"}])
def test_an_odd_item_keeps_away_neither_its_subscription_nor_other_items(
    store: Store, admin: Connection, odd: Json
) -> None:
    store.apply(
        [subscription(at=2, items=[billing.inner_item(pro() | odd), billing.inner_item(pro(id="csub_item_2"))])]
    )
    assert rows(admin, "select clerk_subscription_item_id from clerk.subscription_items") == [("csub_item_2",)]


def test_a_notice_of_an_unchanged_item_changes_nothing(store: Store, admin: Connection) -> None:
    """The trial ends in three days: the item is older than the event."""
    store.apply([item(at=1)])
    [outcome] = store.apply([item(at=1, told_at=1000)])
    assert outcome == "unchanged"
    [outcome] = store.apply([item(at=1)])
    assert outcome == "stale"


def test_an_item_inside_a_subscription_counts_by_its_own_time(store: Store, admin: Connection) -> None:
    store.apply([item(at=5, status="canceled")])
    store.apply([subscription(at=9, items=[billing.inner_item(pro())])])
    assert rows(admin, "select status from clerk.subscription_items") == [("canceled",)]


def test_the_api_names_fields_in_another_way_and_the_row_is_the_same(store: Store, admin: Connection) -> None:
    store.apply([item(at=2)])
    [before] = tables(admin)["subscription_items"]
    told = json.dumps(billing.told_item(pro())).encode()
    changes = changes_of_object("subscription_item", told, CREATED_AT + 9, CREATED_AT + 9)
    assert store.apply([(changes, Reconciled("reconcile-1-csub_item_1"))]) == ["unchanged"]
    assert tables(admin)["subscription_items"] == [before]


def test_an_object_of_no_payer_is_not_written(store: Store) -> None:
    with pytest.raises(ChangeRefused, match="payer_check"):
        raise next(each for each in store.apply([item(at=1, payer=None)]) if isinstance(each, Exception))


@pytest.mark.parametrize("table", ["subscriptions", "subscription_items", "payment_attempts"])
def test_a_payer_that_names_a_user_and_an_organization_is_the_organization(
    table: str, store: Store, admin: Connection
) -> None:
    makers: dict[str, Callable[..., Any]] = {
        "subscriptions": subscription,
        "subscription_items": item,
        "payment_attempts": attempt,
    }
    make = makers[table]
    changes, source = make(at=1, payer=billing.payer("cpayer_1", user_id="user_1", org_id="org_1"))
    assert changes.dropped == ("payer.user_id",)
    assert store.apply([(changes, source)]) == ["created"]
    payers = rows(admin, f"select clerk_user_id, clerk_org_id, payer_id from clerk.{table}")  # noqa: S608 - the names above
    assert payers == [(None, "org_1", "cpayer_1")]
    assert rows(admin, "select clerk_id from clerk.users") == []


def test_the_items_of_such_a_subscription_are_of_the_organization(store: Store, admin: Connection) -> None:
    both = billing.payer("cpayer_1", user_id="user_1", org_id="org_1")
    store.apply([subscription(at=9, payer=both, items=[billing.inner_item(pro())])])
    assert rows(admin, "select clerk_user_id, clerk_org_id from clerk.subscription_items") == [(None, "org_1")]


def test_a_payment_keeps_amounts_and_nothing_of_the_card_or_of_the_person(store: Store, admin: Connection) -> None:
    store.apply([attempt(at=1, status="failed", failed_at=CREATED_AT, failed_reason={"code": "card_declined"})])
    found = rows(admin, "select status, amount, currency, failure_code, clerk_user_id from clerk.payment_attempts")
    assert found == [("failed", 0, "USD", "card_declined", "user_1")]
    for secret in ("4242", "pi_2Local", "pm_2Local", "acct_2Local", "ada@example.test"):
        assert tables_with(admin, secret) == []


def test_the_body_of_a_billing_event_names_the_user_who_pays() -> None:
    body = json.dumps(samples.event("subscriptionItem.updated", pro(), timestamp=1)).encode()
    assert subject_of(body).user_id == "user_1"


# Who reads

TABLES = ("subscriptions", "subscription_items", "payment_attempts")


def seen(admin: Connection, user_id: str) -> set[str]:
    """The ids that a user sees in the three tables."""
    with acting_as(admin, "authenticated", {"sub": user_id, "role": "authenticated"}):
        return {
            str(each)
            for (each,) in admin.execute(
                """
                select clerk_subscription_id from clerk.subscriptions
                union all select clerk_subscription_item_id from clerk.subscription_items
                union all select clerk_payment_attempt_id from clerk.payment_attempts
                """
            ).fetchall()
        }


@pytest.fixture
def payers(store: Store) -> None:
    """Ada and an organization pay; Bob reads the billing of the organization, and Carol is a member."""
    store.apply(
        [
            *(subscription("csub_ada", at=1, user_id="user_ada"), subscription("csub_org", at=1, org_id="org_1")),
            *(item("item_ada", at=1, user_id="user_ada"), item("item_org", at=1, org_id="org_1")),
            *(attempt("cpa_ada", at=1, user_id="user_ada"), attempt("cpa_org", at=1, org_id="org_1")),
            membership("m_bob", at=1, user_id="user_bob", role="org:x", permissions=["org:sys_billing:read"]),
            membership("m_carol", at=1, user_id="user_carol", role="org:x", permissions=["org:billing:read"]),
            membership("m_dora", at=1, user_id="user_dora", role="org:admin", permissions=[]),
        ]
    )


@pytest.mark.usefixtures("payers")
def test_a_payer_reads_their_own_rows_and_a_member_with_the_permission_those_of_the_organization(
    admin: Connection,
) -> None:
    own, of_org = {"csub_ada", "item_ada", "cpa_ada"}, {"csub_org", "item_org", "cpa_org"}
    found = {user_id: seen(admin, f"user_{user_id}") for user_id in ("ada", "bob", "carol", "dora")}
    assert found == {"ada": own, "bob": of_org, "carol": set(), "dora": of_org}


def role(*permissions: str, at: int) -> Applied:
    """The role of Bob and Carol, with permissions as in Clerk at a time."""
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    held = [access.permission(f"perm_{key}", key, **times) for key in permissions]
    return told("role.updated", access.role("role_x", "org:x", held, **times), at=at)


@pytest.mark.usefixtures("payers")
def test_permissions_are_those_of_the_membership_whatever_the_role_says(store: Store, admin: Connection) -> None:
    of_org = {"csub_org", "item_org", "cpa_org"}
    for at, permissions in ((5, []), (7, ["org:reports:read"]), (9, ["org:sys_billing:read"])):
        store.apply([role(*permissions, at=at)])
        assert (seen(admin, "user_bob"), seen(admin, "user_carol")) == (of_org, set())
    store.apply([deleted("role", "role_x", at=11)])
    assert (seen(admin, "user_bob"), seen(admin, "user_carol")) == (of_org, set())


@pytest.mark.usefixtures("payers")
def test_nobody_reads_the_billing_of_a_deleted_or_banned_payer(store: Store, admin: Connection) -> None:
    store.apply([user("user_ada", at=2, banned=True), deleted("organization", "org_1", at=2)])
    assert {user_id: seen(admin, f"user_{user_id}") for user_id in ("ada", "bob", "dora")} == {
        "ada": set(),
        "bob": set(),
        "dora": set(),
    }


@pytest.mark.usefixtures("payers")
def test_a_user_writes_no_billing(admin: Connection) -> None:
    with acting_as(admin, "authenticated", {"sub": "user_ada", "role": "authenticated"}):
        for table in TABLES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), admin.transaction():
                admin.execute(f"update clerk.{table} set status = 'active'")  # noqa: S608 - names of this file


@pytest.mark.usefixtures("payers")
def test_the_rows_of_a_forgotten_payer_are_gone(store: Store, admin: Connection) -> None:
    store.apply([organization("org_1", at=1), deleted("user", "user_ada", at=2)])
    request = {"users": ["user_ada"], "words": [], "purge_by": "scrub", "erased_by": "test"}
    admin.execute("select clerk_sync.forget(%s::jsonb)", [json.dumps(request)])
    assert rows(admin, "select count(*) from clerk.subscription_items where clerk_user_id is not null") == [(0,)]
    assert rows(admin, "select count(*) from clerk.payment_attempts where clerk_user_id is not null") == [(0,)]
    assert rows(admin, "select count(*) from clerk.subscriptions where clerk_user_id is not null") == [(0,)]
