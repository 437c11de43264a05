"""Rows in which a trigger of the app stores another value than Clerk's: named as such, and never called repaired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import pytest

from clerk_supabase.errors import ChangeRefused
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.model.changes import Upsert, Version
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import alone, delete, delivered, upsert
from tests.kit.reconciling import Rig, rig_with, user
from tests.kit.webhooks import deleted, membership

NOTED: LiteralString = "select kind, id, fields from clerk_sync.altered_rows order by kind, id"
REMOVE: LiteralString = "drop function public.alters cascade"


def let_a_trigger(admin: Connection, body: LiteralString, when: LiteralString, table: LiteralString = "users") -> None:
    """Creates a trigger of the app for each row: `before insert or update` and the like."""
    admin.execute(f"create function public.alters() returns trigger language plpgsql as $$ begin {body}; end $$")
    admin.execute(f"create trigger alters {when} on clerk.{table} for each row execute function public.alters()")


BOTH: LiteralString = "before insert or update"
ALTERS: dict[str, tuple[LiteralString, LiteralString, list[str]]] = {
    "a column in lower case": ("new.first_name := lower(new.first_name); return new", BOTH, ["first_name"]),
    "another moment": ("new.created_at := new.created_at + interval '1 s'; return new", BOTH, ["created_at"]),
    "two columns": ("new.first_name := 'x'; new.banned := true; return new", BOTH, ["first_name", "banned"]),
    "its own statement afterwards": (
        "update clerk.users set first_name = 'x' where clerk_id = new.clerk_id and first_name <> 'x'; return null",
        "after insert or update",
        ["first_name"],
    ),
}


@pytest.mark.parametrize(("body", "when", "fields"), ALTERS.values(), ids=ALTERS)
def test_a_row_in_which_a_trigger_of_the_app_stores_another_value_is_called_altered(
    body: LiteralString, when: LiteralString, fields: list[str], store: Store, admin: Connection
) -> None:
    store.apply(alone(upsert("user_2", first_name="Bo")))
    let_a_trigger(admin, body, when)
    batch = [
        delivered(upsert("user_1", first_name="Ada"), "msg_1"),
        delivered(upsert("user_2", version=2, first_name="Bob"), "msg_2"),
    ]
    assert store.apply(batch) == ["altered", "altered"]
    assert rows(admin, "select outcome from clerk_sync.deliveries") == [("altered",)] * 2
    assert sorted(rows(admin, NOTED)[0][2]) == sorted(fields)
    assert [row[:2] for row in rows(admin, NOTED)] == [("user", "user_1"), ("user", "user_2")]
    assert store.apply(batch) == ["duplicate", "duplicate"]
    admin.execute(REMOVE)
    later = alone(upsert("user_1", version=3, first_name="Ada"), upsert("user_2", version=3, first_name="Bob"))
    assert store.apply(later) == ["updated", "updated"]
    assert rows(admin, "select first_name, banned from clerk.users order by clerk_id") == [
        ("Ada", False),
        ("Bob", False),
    ]


@pytest.mark.parametrize("when", ["insert", "update"])
def test_a_trigger_that_alters_private_metadata_afterwards_is_noted_too(
    when: LiteralString, store: Store, admin: Connection
) -> None:
    """No audit log of private metadata would show the statement of the trigger."""

    def write(version: int) -> None:
        content = {"entity_id": "user_1", "private_metadata": {"plan": f"is {version}"}}
        store.apply(alone(Upsert("private_metadata", "user_1", Version(version, version), content)))

    if when == "update":
        write(1)
    admin.execute(
        "create function public.alters() returns trigger language plpgsql as $$ begin "
        "update clerk_sync.private_metadata set private_metadata = '{}'; return null; end $$"
    )
    admin.execute(
        f"create trigger alters after {when} on clerk_sync.private_metadata "
        "when (pg_trigger_depth() = 0) execute function public.alters()"
    )
    write(2)
    assert rows(admin, NOTED) == [("private_metadata", "user_1", ["private_metadata"])]


def test_a_trigger_that_returns_the_old_row_makes_the_outcome_altered_too(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1", first_name="Ada"), upsert("user_2")))
    let_a_trigger(admin, "if old.clerk_id = 'user_1' then return old; end if; return new", "before update")
    changes = alone(upsert("user_1", version=2, banned=True), upsert("user_2", version=2, banned=True))
    assert store.apply(changes) == ["altered", "updated"]
    assert rows(admin, NOTED) == [("user", "user_1", ["banned"])]


def test_a_trigger_that_leaves_clerks_values_alone_alters_nothing(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk.users add column note text")
    let_a_trigger(admin, "new.note := 'mine'; new.first_name := lower(new.first_name); return new", BOTH)
    changes = alone(upsert("user_1", first_name="ada"), upsert("user_2", first_name="bo"))
    assert store.apply(changes) == ["created", "created"]
    assert store.apply(alone(upsert("user_1", version=2, first_name="eve"))) == ["updated"]
    assert store.apply(alone(upsert("user_1", version=3, first_name="eve"))) == ["unchanged"]
    assert rows(admin, NOTED) == []


@pytest.mark.parametrize(
    ("body", "when"),
    [
        ("if new.clerk_id = 'user_1' then new.clerk_id := 'user_x'; end if; return new", "before insert"),
        ("delete from clerk.users where clerk_id = new.clerk_id and clerk_id = 'user_1'; return null", "after insert"),
        (
            "delete from clerk.users where clerk_id = new.clerk_id and clerk_id = 'user_1' and new.banned; return null",
            "after update",
        ),
    ],
    ids=["another key", "a new row is removed", "a changed row is removed"],
)
def test_a_row_that_a_trigger_removes_or_writes_under_another_key_is_refused_by_name(
    body: LiteralString, when: LiteralString, store: Store, admin: Connection
) -> None:
    if "update" in when:
        store.apply(alone(upsert("user_1"), upsert("user_2")))
    let_a_trigger(admin, body, when)
    changes = alone(upsert("user_1", version=2, banned=True), upsert("user_2", version=2, banned=True))
    first, second = store.apply(changes)
    assert isinstance(first, ChangeRefused)
    assert "a trigger of the app removes the row, or changes its key" in str(first)
    assert "clerk.users" in str(first)
    assert second in {"created", "updated"}
    assert ("user_x",) not in rows(admin, "select clerk_id from clerk.users")


def test_a_trigger_that_shows_the_row_of_a_deleted_parent_again_is_refused(store: Store, admin: Connection) -> None:
    store.apply([membership("orgmem_1", at=1), deleted("organization", "org_1", at=2)])
    let_a_trigger(admin, "new.deleted_at := null; return new", "before insert", "organization_memberships")
    [answer] = store.apply([membership("orgmem_2", user_id="user_2", at=3)])
    assert isinstance(answer, ChangeRefused)
    assert "a trigger of the app keeps the row" in str(answer)


def test_a_delete_of_an_altered_row_and_its_purge_leave_nothing_behind(store: Store, admin: Connection) -> None:
    let_a_trigger(admin, "new.first_name := 'x'; return new", BOTH)
    assert store.apply(alone(upsert("user_1", first_name="Ada"))) == ["altered"]
    assert store.apply(alone(delete("user_1", at=9))) == ["deleted"]
    admin.execute("select count(*) from clerk_sync.purge(interval '0', 'delete')")
    Housekeeping(store, Keep()).run()
    assert rows(admin, NOTED) == []
    assert rows(admin, "select from clerk.users") == []


# Comparisons


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    with rig_with(database, 4) as made:
        let_a_trigger(made.admin, "new.first_name := upper(coalesce(new.first_name, 'none')) || '!'; return new", BOTH)
        yield made


def attempts(rig: Rig) -> object:
    return value(rig.admin, "select max(written_at) from clerk_sync.altered_rows")


def test_comparisons_name_the_table_and_the_column_once_and_claim_no_repair(rig: Rig) -> None:
    report = rig.run()
    counts = report.counts["user"]
    assert (counts["missing"], counts["altered"], counts.get("repaired", 0)) == (4, 4, 0)
    assert "triggers of the app keep rows different from Clerk: clerk.users.first_name (4)" in str(report.reason)
    written = attempts(rig)
    for mode in ("full", "quick", "full"):
        report = rig.run(mode)
        assert (report.state, report.findings) == ("complete", 0)
        if mode == "full":
            assert report.counts["user"]["altered"] == 4
            assert "clerk.users.first_name (4)" in str(report.reason)
            assert {each.outcome for each in rig.findings(report).values()} == {"nothing"}
            assert {each.difference for each in rig.findings(report).values()} == {"altered"}
        assert "repaired" not in report.counts["user"]
    assert attempts(rig) == written


def test_an_altered_row_is_written_again_after_a_week_and_then_the_trigger_may_be_gone(rig: Rig) -> None:
    rig.run()
    rig.admin.execute("drop trigger alters on clerk.users")
    assert rig.run().counts["user"]["altered"] == 4
    rig.admin.execute("update clerk_sync.altered_rows set written_at = written_at - interval '8 days'")
    report = rig.run()
    assert report.counts["user"]["repaired"] == 4
    assert rig.run().reason is None
    assert value(rig.admin, "select count(*) from clerk.users where first_name like '%!'") == 0


def test_another_column_that_somebody_edits_is_repaired_beside_the_altered_one(rig: Rig) -> None:
    rig.run()
    rig.admin.execute("update clerk.users set last_name = 'Mallory' where clerk_id = %s", [user(1)])
    report = rig.run()
    found = rig.findings(report)[user(1)]
    assert (found.difference, found.action) == ("different", "repair")
    assert rig.column(user(1), "last_name") != "Mallory"
    assert found.outcome == "altered"


def test_an_altered_column_that_somebody_edits_by_hand_is_written_again(rig: Rig) -> None:
    rig.run()
    rig.admin.execute("alter table clerk.users disable trigger alters")
    rig.admin.execute("update clerk.users set first_name = 'Mallory' where clerk_id = %s", [user(1)])
    rig.admin.execute("alter table clerk.users enable trigger alters")
    rig.run()
    assert str(rig.column(user(1), "first_name")).endswith("!")


def test_a_value_that_a_trigger_adds_never_counts_for_the_brake_of_emptied_columns(database: Database) -> None:
    with rig_with(database, 40) as rig:
        let_a_trigger(rig.admin, "new.username := coalesce(new.username, 'guest'); return new", BOTH)
        rig.world.users.update({key: {**dict(each), "username": None} for key, each in list(rig.world.users.items())})
        rig.run()
        for _ in range(2):
            report = rig.run()
            assert report.state == "complete"
            assert "clerk.users.username (40)" in str(report.reason)


def test_a_new_user_that_a_trigger_hides_is_never_called_repaired(database: Database) -> None:
    with rig_with(database, 4) as rig:
        let_a_trigger(
            rig.admin, "if new.clerk_id like '%2' then new.deleted_at := now(); end if; return new", "before insert"
        )
        report = rig.run()
        counts = report.counts["user"]
        assert (counts["missing"], counts["repaired"], counts["altered"]) == (4, 3, 1)
        assert "clerk.users.deleted_at (1)" in str(report.reason)
