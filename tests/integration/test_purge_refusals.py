"""A row that the app refuses to delete delays no other row: it is named once, and all others are purged and pruned."""

from __future__ import annotations

import io
from contextlib import closing
from typing import Any, LiteralString

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin import samples
from tests.integration.test_housekeeping import personal_data_of
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT
from tests.kit.parked import Command
from tests.kit.purging import allow_at_once, purge
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, user

AT_ONCE = Keep(hold_back_days=0, deliveries_days=1)
NAME = "Lovelace"


@pytest.fixture
def due(store: Store, admin: Connection) -> Store:
    """Five deleted users after their hold-back, one of them called Lovelace, and a delivery after its time."""
    allow_at_once(admin)
    admin.execute("update clerk_sync.retention set deliveries_days = 0")
    names = {2: NAME}
    ids = [f"user_{number}" for number in range(5)]
    store.apply([user(user_id, at=1, last_name=names.get(n, "Smith")) for n, user_id in enumerate(ids)])
    store.apply([user("user_9", at=1, svix_id="msg_old")])
    store.apply([deleted("user", user_id, at=2) for user_id in ids])
    admin.execute("update clerk_sync.deliveries set applied_at = now() - interval '101 days'")
    return store


def let_a_trigger_refuse(admin: Connection, statement: str, moment: LiteralString = "before update or delete") -> None:
    """A trigger of the app refuses to change the user Lovelace."""
    admin.execute(
        f"create function public.hold() returns trigger language plpgsql as $$ begin "
        f"if old.last_name = '{NAME}' then {statement}; end if; return coalesce(new, old); end $$"
    )
    admin.execute("create trigger hold " + moment + " on clerk.users for each row execute function public.hold()")


REFUSALS = {
    "as usual": "raise exception '%', old.last_name",
    "with a SQLSTATE of its own": "raise exception '%', old.last_name using errcode = 'R0BOT'",
    "as if it were a conflict": "raise exception '%', old.last_name using errcode = '40001'",
    "as if it were cancelled": "raise exception '%', old.last_name using errcode = '57014'",
    "as if it were locked": "raise exception '%', old.last_name using errcode = '55P03'",
    "as a right that is missing": "raise exception '%', old.last_name using errcode = '42501'",
    "by a failed assertion": "assert false, old.last_name",
    "by a mistake": "perform 1 / (length(old.last_name) - 8)",
}


@pytest.mark.each_value("statement", "how")
@pytest.mark.parametrize("how", ["scrub", "delete"])
@pytest.mark.parametrize("statement", REFUSALS.values(), ids=REFUSALS)
def test_a_user_kept_by_a_trigger_of_the_app_is_named_once_and_the_others_are_purged(
    how: Any, statement: str, due: Store, admin: Connection, log: io.StringIO
) -> None:
    admin.execute("update clerk_sync.retention set purge_by = 'delete'")
    let_a_trigger_refuse(admin, statement)
    housekeeping = Housekeeping(due, Keep(hold_back_days=0, deliveries_days=1, purge_by=how))

    assert housekeeping.run() == 4

    assert personal_data_of(admin, "Smith") == []
    assert value(admin, "select count(*) from clerk_sync.deliveries") == 0
    [(kind, user_id, reason, tries)] = rows(admin, "select kind, id, reason, tries from clerk_sync.not_purged")
    assert (kind, user_id, tries) == ("user", "user_2", 1)
    assert reason.startswith("SQLSTATE ")
    assert reason.endswith(" in public.hold()")
    assert NAME not in log.getvalue()
    assert metrics.metric_set["HousekeepingFailed"]["Value"] == [1]

    assert housekeeping.run() == 0
    assert log.getvalue().count("neither deleted nor scrubbed") == 1


BROUGHT_BACK = (
    "insert into clerk.users (clerk_id, last_name, deleted_at) values (old.clerk_id, old.last_name, old.deleted_at)"
)
# The action of the trigger, its time, and the ways of purging in which it keeps a user.
IN_SILENCE: dict[str, tuple[str, LiteralString, set[str]]] = {
    "skips the statement": ("return null", "before update or delete", {"scrub", "delete"}),
    "puts the old values back": ("return old", "before update or delete", {"scrub"}),
    "brings the row back": (BROUGHT_BACK, "after delete", set()),
}


@pytest.mark.parametrize("how", ["scrub", "delete"])
@pytest.mark.parametrize("name", IN_SILENCE)
def test_no_row_that_a_trigger_of_the_app_keeps_in_silence_counts_as_purged(
    how: Any, name: str, due: Store, admin: Connection
) -> None:
    statement, moment, keeps = IN_SILENCE[name]
    admin.execute("update clerk_sync.retention set purge_by = 'delete'")
    let_a_trigger_refuse(admin, statement, moment)
    Housekeeping(due, Keep(hold_back_days=0, deliveries_days=1, purge_by=how)).run()
    left = rows(admin, "select clerk_id from clerk.users where last_name is not null and clerk_id <> 'user_9'")
    named = rows(admin, "select id, reason from clerk_sync.not_purged")
    of_user: LiteralString = (
        "select purged_at is not null from clerk_sync.entities where (kind, id) = ('user', 'user_2')"
    )
    kept = [("user_2",)], [("user_2", "a trigger of the app keeps the row")], False
    assert (left, named, value(admin, of_user)) == (kept if how in keeps else ([], [], True))


def test_a_check_of_the_app_that_refuses_the_scrubbed_row_delays_no_other_row(due: Store, admin: Connection) -> None:
    admin.execute(
        "alter table clerk.users add constraint ada_has_a_name check (clerk_id <> 'user_2' or last_name is not null)"
    )
    assert Housekeeping(due, AT_ONCE).run() == 4
    assert rows(admin, "select id, reason from clerk_sync.not_purged") == [("user_2", "ada_has_a_name")]


def test_a_user_locked_by_the_app_is_named_once_and_purged_later(
    due: Store, database: Database, admin: Connection, log: io.StringIO
) -> None:
    with database.connect() as app, app.transaction():
        app.execute("select from clerk.users where clerk_id = 'user_2' for update")
        assert Housekeeping(due, AT_ONCE).run() == 4
    assert rows(admin, "select id, reason from clerk_sync.not_purged") == [("user_2", "locked by another transaction")]
    assert log.getvalue().count("locked by another transaction") == 1
    assert Housekeeping(due, AT_ONCE).run() == 0
    admin.execute("update clerk_sync.not_purged set try_again_at = now()")
    assert Housekeeping(due, AT_ONCE).run() == 1
    assert personal_data_of(admin, NAME) == []
    assert rows(admin, "select * from clerk_sync.not_purged") == []


def test_a_user_whose_trigger_takes_longer_than_a_statement_may_delays_others_only_briefly(
    due: Store, database: Database, admin: Connection
) -> None:
    let_a_trigger_refuse(admin, "perform pg_sleep(60)")
    with closing(Store(Fixed(database.worker_url_with(statement_timeout="3s")))) as store:
        assert Housekeeping(store, AT_ONCE).run() == 4
    admin.execute("drop trigger hold on clerk.users")
    assert rows(admin, "select id, reason from clerk_sync.not_purged") == [
        ("user_2", "SQLSTATE 57014 in public.hold()")
    ]
    assert personal_data_of(admin, "Smith") == []


def test_a_row_that_keeps_refusing_is_tried_less_and_less_often(
    due: Store, database: Database, admin: Connection
) -> None:
    let_a_trigger_refuse(admin, "raise exception 'no'")
    hours = []
    for _ in range(9):
        purge(database, hold_back="0")
        hours.append(
            value(admin, "select round(extract(epoch from try_again_at - now()) / 3600) from clerk_sync.not_purged")
        )
        admin.execute("update clerk_sync.not_purged set try_again_at = now()")
    assert hours == [12, 24, 48, 96, 192, 384, 768, 768, 768]


def test_rows_that_refuse_night_after_night_do_not_use_up_the_portion(
    due: Store, database: Database, admin: Connection
) -> None:
    admin.execute("alter table clerk.users add check (last_name = 'Smith' or last_name = 'Lovelace') not valid")
    admin.execute("alter table clerk.users alter column last_name set default 'nobody'")
    outcomes = [rows(admin, "select outcome, purged from clerk_sync.purge('0', 'scrub', 2)") for _ in range(4)]
    assert outcomes == [[("kept", 2)], [("kept", 2)], [("kept", 1)], []]
    admin.execute("update clerk_sync.not_purged set try_again_at = now()")
    outcomes = [rows(admin, "select outcome, purged from clerk_sync.purge('0', 'scrub', 2)") for _ in range(4)]
    assert outcomes == [[("still kept", 2)], [("still kept", 2)], [("still kept", 1)], []]


def test_the_status_names_what_could_not_be_purged_as_long_as_it_is_there(
    due: Store, database: Database, admin: Connection
) -> None:
    let_a_trigger_refuse(admin, "raise exception 'no'")
    Housekeeping(due, AT_ONCE).run()
    command = Command({"DATABASE_URL": database.url})
    said = "1 deleted user row could not be purged since"
    assert said in " ".join(command.run("status", status=1).output.split())
    admin.execute("drop trigger hold on clerk.users")
    admin.execute("update clerk_sync.not_purged set try_again_at = now()")
    Housekeeping(due, AT_ONCE).run()
    assert said not in " ".join(command.run("status").output.split())


@pytest.mark.parametrize("lock", [False, True])
def test_a_membership_that_refuses_keeps_neither_its_neighbours_nor_its_organization(
    lock: bool, store: Store, database: Database, admin: Connection
) -> None:
    allow_at_once(admin)
    store.apply([membership(f"orgmem_{n}", user_id=f"user_{n}", at=1) for n in range(3)])
    store.apply(
        [organization("org_2", at=1), deleted("organization", "org_1", at=2), deleted("organization", "org_2", at=2)]
    )
    if not lock:
        admin.execute(
            "create function public.hold() returns trigger language plpgsql as $$ begin "
            "if old.clerk_membership_id = 'orgmem_1' then raise exception 'no'; end if; return old; end $$; "
            "create trigger hold before delete on clerk.organization_memberships "
            "for each row execute function public.hold()"
        )
    with database.connect() as app, app.transaction():
        if lock:
            app.execute("select from clerk.organization_memberships where clerk_membership_id = 'orgmem_1' for update")
        found = [*purge(database, hold_back="0"), *purge(database, hold_back="0")]
    assert ("membership", "deleted", None, 2) in found
    assert ("organization", "deleted", None, 1) in found
    [(_, outcome, reason, number)] = [row for row in found if row[0] == "membership" and row[1] != "deleted"]
    assert number == 1
    assert (outcome, reason) == (
        ("kept", "locked by another transaction") if lock else ("refused", "SQLSTATE P0001 in public.hold()")
    )
    assert rows(admin, "select clerk_org_id, name from clerk.organizations") == [("org_1", None)]


def test_an_organization_waits_for_its_own_memberships_that_are_due(store: Store, admin: Connection) -> None:
    store.apply([membership(f"orgmem_{n}", org_id=f"org_{n}", user_id=f"user_{n}", at=1) for n in (1, 2)])
    store.apply([deleted("organization", f"org_{n}", at=2) for n in (1, 2)])
    admin.execute(
        "insert into clerk_sync.not_purged (kind, id, reason, try_again_at) values"
        " ('membership', 'orgmem_1', '', now() + '1 day'), ('membership', 'orgmem_2', '', now())"
    )
    due = "select clerk_sync.due_rows(k, now() + '1 day', 10, '{}') from clerk_sync.kinds as k where k.kind = %s"
    assert value(admin, due, "organization") == ["org_1"]


def test_a_purge_that_cannot_be_done_at_all_does_not_keep_records_from_being_pruned(
    due: Store, admin: Connection, log: io.StringIO
) -> None:
    admin.execute("alter function clerk_sync.domains_with(text[]) rename to domains_later")
    assert Housekeeping(due, AT_ONCE).run() == 0
    assert value(admin, "select count(*) from clerk_sync.deliveries") == 0
    assert "SQLSTATE 42883 in clerk_sync.purge" in log.getvalue()
    assert metrics.metric_set["HousekeepingFailed"]["Value"] == [1]


# Children beyond a portion


@pytest.mark.parametrize("how", ["scrub", "delete"])
def test_an_organization_with_more_invitations_than_a_portion_leaves_none_of_their_addresses(
    how: LiteralString, store: Store, admin: Connection
) -> None:
    ids = [f"orginv_{number}" for number in range(25)]
    store.apply([invitation(each, at=1, email_address=f"{each}@{NAME}.test") for each in ids])
    store.apply([invitation(each, at=2, email_address=f"{each}@{NAME}.test", status="revoked") for each in ids])
    store.apply([deleted("organization", "org_1", at=3)])
    portions = 0
    while rows(admin, "select * from clerk_sync.purge('0', %s, 10)", how):
        portions += 1
    assert portions == 3
    assert personal_data_of(admin, NAME) == []
    assert rows(admin, "select * from clerk.organizations") == []
    query: LiteralString = (
        "select count(*) from clerk_sync.entities where kind = 'invitation' and purged_at is not null"
    )
    assert value(admin, query) == len(ids)


def test_rows_made_visible_by_hand_are_purged_with_their_organization(store: Store, admin: Connection) -> None:
    store.apply([invitation(f"orginv_{n}", at=1, email_address=f"{n}@{NAME}.test") for n in range(3)])
    store.apply([deleted("organization", "org_1", at=2)])
    admin.execute("update clerk.organization_invitations set deleted_at = null")
    while rows(admin, "select * from clerk_sync.purge('0', 'scrub')"):
        pass
    assert personal_data_of(admin, NAME) == []
    query: LiteralString = (
        "select count(*) from clerk_sync.entities where kind = 'invitation' and purged_at is not null"
    )
    assert value(admin, query) == 3


# Addresses elsewhere


ADDRESS = f"{NAME.lower()}@canary.test"


def of(user_id: str, at: int, **email: Any) -> Any:
    element = samples.email_address("idn_1", ADDRESS, CREATED_AT) | email
    return user(user_id, at=at, email_addresses=[element], primary_email_address_id=email.get("id", "idn_1"))


@pytest.mark.parametrize("is_primary", [True, False])
@pytest.mark.parametrize("is_verified", [True, False])
def test_an_address_that_another_user_has_proven_to_be_theirs_by_now_stays_where_it_stands(
    is_primary: bool, is_verified: bool, store: Store, database: Database, admin: Connection
) -> None:
    store.apply([of("user_1", 1), domain(at=1, affiliation_email_address=ADDRESS), deleted("user", "user_1", at=2)])
    store.park([ParkedEvent(Envelope("msg_1", f'{{"about": "{ADDRESS}"}}'.encode(), RECEIVED_AT), "refused", "why")])
    verification = {"status": "verified" if is_verified else "unverified"}
    primary = "idn_1" if is_primary else None
    store.apply([of("user_2", 3, verification=verification) if is_primary else _second(verification, primary)])

    purge(database, hold_back="0")

    kept = [ADDRESS] if is_verified else [None]
    assert [each for (each,) in rows(admin, "select affiliation_email_address from clerk.organization_domains")] == kept
    assert value(admin, "select body is not null from clerk_sync.parked_events") is is_verified


def test_a_user_whose_address_stands_in_a_locked_parked_event_is_kept_until_it_is_free(
    store: Store, database: Database, admin: Connection
) -> None:
    store.apply([of("user_1", 1), deleted("user", "user_1", at=2)])
    store.park([ParkedEvent(Envelope("msg_1", f'{{"about": "{ADDRESS}"}}'.encode(), RECEIVED_AT), "refused", "why")])
    with database.connect() as other, other.transaction():
        other.execute("select from clerk_sync.parked_events for update")
        assert purge(database, hold_back="0") == [("user", "kept", "locked by another transaction", 1)]
    admin.execute("update clerk_sync.not_purged set try_again_at = now()")
    assert purge(database, hold_back="0") == [("user", "scrubbed", None, 1)]
    assert value(admin, "select body is null from clerk_sync.parked_events") is True


def _second(verification: dict[str, Any], primary: str | None) -> Any:
    element = samples.email_address("idn_1", ADDRESS, CREATED_AT) | {"verification": verification}
    return user("user_2", at=3, email_addresses=[element], primary_email_address_id=primary)


@pytest.mark.parametrize("is_locked", [True, False])
def test_a_domain_that_does_not_let_go_of_an_address_keeps_only_the_user_whose_address_it_is(
    is_locked: bool, store: Store, database: Database, admin: Connection
) -> None:
    store.apply([of("user_1", 1), user("user_2", at=1), domain(at=1, affiliation_email_address=ADDRESS)])
    store.apply([deleted("user", "user_1", at=2), deleted("user", "user_2", at=2)])
    with database.connect() as app, app.transaction():
        if is_locked:
            app.execute("select from clerk.organization_domains for update")
        else:
            admin.execute(
                "alter table clerk.organization_domains add constraint hold check (affiliation_email_address > '')"
            )
            admin.execute("alter table clerk.organization_domains alter column affiliation_email_address set not null")
        found = purge(database, hold_back="0")
    assert ("user", "scrubbed", None, 1) in found
    assert [row[:2] for row in found if row[1] != "scrubbed"] == [("user", "kept")]
    assert value(admin, "select id from clerk_sync.not_purged") == "user_1"
