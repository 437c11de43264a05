"""The audit log replays to the row, and profiles agree with users, beside triggers of the app."""

from __future__ import annotations

from typing import Any, LiteralString

import pytest

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, rows
from tests.kit.webhooks import deleted, membership, organization, user

TABLES: dict[str, tuple[str, str]] = {
    "user": ("clerk.users", "clerk_id"),
    "organization": ("clerk.organizations", "clerk_org_id"),
    "membership": ("clerk.organization_memberships", "clerk_membership_id"),
}


def replayed(admin: Connection) -> dict[tuple[str, str], Any]:
    """The rows computed from the log, each change applied to the result of the one before."""
    state: dict[tuple[str, str], Any] = {}
    query: LiteralString = """
        select kind, entity_id, operation, old_values, new_values from clerk_sync.audit_log order by audit_id
    """
    for kind, entity_id, operation, old, new in rows(admin, query):
        key = (kind, entity_id)
        if operation == "insert":
            assert state.get(key) is None
            state[key] = new
        elif operation == "update":
            assert {name: state[key][name] for name in old} == old
            state[key] = state[key] | new
        else:
            assert state.pop(key) == old
    return state


def as_it_is(admin: Connection) -> dict[tuple[str, str], Any]:
    return {
        (kind, row[key]): row
        for kind, (table, key) in TABLES.items()
        for (row,) in rows(admin, f"select to_jsonb(r) from {table} as r")  # noqa: S608 - the names above
    }


def agrees(admin: Connection) -> bool:
    profiles: LiteralString = """
        select
            clerk_id, username, first_name, last_name, avatar_url, deleted_at
        from clerk.users_public
        except
        select
            clerk_id, case when deleted_at is null then username end, case when deleted_at is null then first_name end,
            case when deleted_at is null then last_name end, case when deleted_at is null then image_url end, deleted_at
        from clerk.users
    """
    counts: LiteralString = "select (select count(*) from clerk.users) = (select count(*) from clerk.users_public)"
    return replayed(admin) == as_it_is(admin) and rows(admin, profiles) == [] and rows(admin, counts) == [(True,)]


def let_a_trigger(admin: Connection, table: str, action: str, when: str) -> None:
    """An AFTER trigger of the app; triggers with names like this one run before and after ours."""
    admin.execute(
        f"create function public.again() returns trigger language plpgsql as $$ begin {action}; return null; end $$; "
        f"create trigger a after {when} execute function public.again()".replace("TABLE", table)
    )


REWRITES = {
    "clerk.users": "update clerk.users set first_name = upper(first_name) where first_name <> upper(first_name)",
    "clerk.organizations": "update clerk.organizations set name = upper(name) where name <> upper(name)",
    "clerk.organization_memberships": (
        "update clerk.organization_memberships set role_name = upper(role_name) where role_name <> upper(role_name)"
    ),
}


def history(store: Store) -> None:
    """Changes of every sort, first in one batch, then one event after the other."""
    events = [
        [user("user_1", at=1, first_name="Ada"), user("user_2", at=1, first_name="Eve"), membership(at=1)],
        [user("user_1", at=2, first_name="Bob"), organization(at=2, name="New"), membership(at=2, role_name="x")],
        [user("user_1", at=3, first_name="Cyd", last_name="L"), user("user_2", at=3, locked=True)],
        [deleted("organization", "org_1", at=4)],
        [deleted("user", "user_2", at=5), user("user_3", at=5)],
    ]
    for batch in events:
        assert all(isinstance(outcome, str) for outcome in store.apply(batch))


@pytest.mark.parametrize("level", ["for each row", "for each statement"])
@pytest.mark.parametrize("table", REWRITES)
def test_a_trigger_of_the_app_that_rewrites_a_column_comes_after_what_it_rewrites(
    table: str, level: str, store: Store, admin: Connection
) -> None:
    let_a_trigger(admin, table, REWRITES[table], f"insert or update on {table} {level} when (pg_trigger_depth() < 3)")
    history(store)
    assert agrees(admin)


def test_triggers_within_triggers_come_one_after_the_other(store: Store, admin: Connection) -> None:
    action = """
        update clerk.users set first_name = first_name || 'x'
        where clerk_id = new.clerk_id and length(first_name) < 8
    """
    let_a_trigger(admin, "clerk.users", action, "insert or update on clerk.users for each row")
    history(store)
    assert agrees(admin)
    assert rows(admin, "select distinct length(first_name) from clerk.users where first_name is not null") == [(8,)]


@pytest.mark.parametrize(
    ("action", "when"),
    [
        ("delete from clerk.users where clerk_id = new.clerk_id", "insert on clerk.users for each row"),
        (
            "delete from clerk.users where clerk_id = new.clerk_id and new.first_name = 'Bob'",
            "update on clerk.users for each row",
        ),
        ("insert into clerk.users (clerk_id) values (old.clerk_id)", "delete on clerk.users for each row"),
        (
            "update clerk.users set first_name = 'Ada' where clerk_id = new.clerk_id and new.first_name <> 'Ada'",
            "update on clerk.users for each row",
        ),
    ],
    ids=["a new row is deleted", "a changed row is deleted", "a deleted row comes back", "a change is taken back"],
)
def test_the_log_holds_the_changes_of_a_trigger_to_the_row_in_order(
    action: str, when: str, store: Store, admin: Connection
) -> None:
    let_a_trigger(admin, "clerk.users", action, when)
    for at, name in enumerate(["Ada", "Bob", "Cyd"], start=1):
        store.apply([user("user_1", at=at, first_name=name), user("user_2", at=at, first_name=name)])
    admin.execute("delete from clerk.users where clerk_id = 'user_2'")
    assert agrees(admin)


def test_the_log_holds_a_transaction_of_the_app_in_order_too(store: Store, admin: Connection) -> None:
    let_a_trigger(admin, "clerk.users", REWRITES["clerk.users"], "insert or update on clerk.users for each row")
    admin.execute(
        "create table public.orders (id int); create function public.greet() returns trigger language plpgsql as "
        "$$ begin update clerk.users set first_name = 'greeted'; return null; end $$; "
        "create trigger a after insert on public.orders for each row execute function public.greet()"
    )
    store.apply([user("user_1", at=1), user("user_2", at=1)])
    with admin.transaction():
        admin.execute("insert into public.orders values (1)")
        admin.execute("update clerk.users set first_name = 'b' where clerk_id = 'user_1'")
        admin.execute("update clerk.users set first_name = 'c'")
        admin.execute("insert into public.orders values (2)")
        admin.execute("update clerk.users set last_name = 'd'")
    assert agrees(admin)


THERE_AND_BACK = {
    "a changed value": ("first_name = 'x' || first_name", "first_name = substr(first_name, 2)"),
    "another column": ("last_name = 'x'", "last_name = null"),
    "and on": (
        "first_name = 'x' || first_name",
        "first_name = substr(first_name, 2)",
        "first_name = 'y' || first_name",
    ),
    "several columns": (
        "first_name = 'x', last_name = 'y'",
        "first_name = 'y'",
        "first_name = 'Ada', last_name = null",
    ),
}


@pytest.mark.parametrize("level", ["for each row", "for each statement"])
@pytest.mark.parametrize("steps", THERE_AND_BACK.values(), ids=THERE_AND_BACK)
def test_a_trigger_may_change_a_row_and_change_it_back(
    steps: tuple[str, ...], level: str, store: Store, admin: Connection
) -> None:
    action = "; ".join(f"update clerk.users set {step}" for step in steps)  # noqa: S608 - the steps above
    when = f"insert or update on clerk.users {level} when (pg_trigger_depth() < 1)"
    let_a_trigger(admin, "clerk.users", action, when)
    for at, name in enumerate(["Ada", "Bob", "Ada", "Cyd", "Bob"], start=1):
        store.apply([user("user_1", at=at, first_name=name), user("user_2", at=at, first_name=name)])
    store.apply([deleted("user", "user_2", at=9), user("user_1", at=9, first_name="Ada")])
    assert agrees(admin)


def test_a_trigger_may_delete_a_row_again_that_it_brought_back(store: Store, admin: Connection) -> None:
    action = """
        if pg_trigger_depth() = 1 then
            insert into clerk.users (clerk_id) values (old.clerk_id);
            delete from clerk.users where clerk_id = old.clerk_id;
        end if
    """
    let_a_trigger(admin, "clerk.users", action, "delete on clerk.users for each row")
    store.apply([user("user_1", at=1), user("user_2", at=1)])
    admin.execute("delete from clerk.users where clerk_id = 'user_2'")
    assert agrees(admin)
