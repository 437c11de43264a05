"""Triggers of the app on a mirrored table: each real change calls them once, and nothing else calls them."""

from __future__ import annotations

import pytest

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, rows
from tests.kit.histories import alone, delete, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.webhooks import deleted, membership

_TRIGGERS = """
create table public.calls (place bigint generated always as identity, call text, key text);
create function public.note_call() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    changed jsonb := case when tg_level = 'ROW' then to_jsonb(coalesce(new, old)) end;
begin
    insert into public.calls (call, key) values (
        lower(concat_ws(' ', tg_when, tg_op, case when tg_level = 'STATEMENT' then 'statement' end)),
        coalesce(changed ->> 'clerk_membership_id', changed ->> 'clerk_id')
    );
    return new;
end
$$;
create trigger app_before before insert or update or delete on clerk.{table}
for each row execute function public.note_call();
create trigger app_after after insert or update or delete on clerk.{table}
for each row execute function public.note_call();
create trigger app_after_statement after insert or update or delete on clerk.{table}
for each statement execute function public.note_call();
"""


@pytest.fixture
def calls(admin: Connection) -> _Calls:
    admin.execute(_TRIGGERS.replace("{table}", "users").encode())
    return _Calls(admin)


class _Calls:
    def __init__(self, admin: Connection) -> None:
        self._admin = admin

    def taken(self) -> list[tuple[object, ...]]:
        """The calls since the last look, in their order."""
        taken = rows(self._admin, "select call, key from public.calls order by place")
        self._admin.execute("delete from public.calls")
        return taken


def test_an_insert_calls_the_triggers_of_inserts_once(store: Store, calls: _Calls) -> None:
    assert store.apply(alone(upsert("user_1"), upsert("user_2"))) == ["created", "created"]
    assert calls.taken() == [
        ("before insert", "user_1"),
        ("before insert", "user_2"),
        ("after insert", "user_1"),
        ("after insert", "user_2"),
        ("after insert statement", None),
    ]


def test_an_update_calls_the_triggers_of_updates_once(store: Store, calls: _Calls) -> None:
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    calls.taken()
    changes = alone(upsert("user_1", version=2, first_name="New"), upsert("user_2", version=2))
    assert store.apply(changes) == ["updated", "unchanged"]
    assert calls.taken() == [
        ("before update", "user_1"),
        ("after update", "user_1"),
        ("after update statement", None),
    ]


def test_inserts_and_updates_of_one_batch_call_their_own_triggers_once(store: Store, calls: _Calls) -> None:
    store.apply(alone(upsert("user_1")))
    calls.taken()
    store.apply(alone(upsert("user_1", version=2, first_name="New"), upsert("user_2")))
    assert sorted(map(str, calls.taken())) == sorted(
        map(
            str,
            [
                ("before update", "user_1"),
                ("after update", "user_1"),
                ("after update statement", None),
                ("before insert", "user_2"),
                ("after insert", "user_2"),
                ("after insert statement", None),
            ],
        )
    )


def test_a_change_without_a_difference_calls_no_trigger(store: Store, calls: _Calls) -> None:
    store.apply(alone(upsert(version=1)))
    calls.taken()
    assert store.apply(alone(upsert(version=2))) == ["unchanged"]
    assert calls.taken() == []


def test_a_stale_change_calls_no_trigger(store: Store, calls: _Calls) -> None:
    store.apply(alone(upsert(version=2)))
    calls.taken()
    assert store.apply(alone(upsert(version=1, first_name="Old"))) == ["stale"]
    assert calls.taken() == []


def test_a_delete_calls_the_triggers_of_updates_once_and_a_late_change_none(store: Store, calls: _Calls) -> None:
    store.apply(alone(upsert(version=1)))
    calls.taken()
    assert store.apply(alone(delete(at=2))) == ["deleted"]
    once = [("before update", "user_1"), ("after update", "user_1"), ("after update statement", None)]
    assert calls.taken() == once
    assert store.apply(alone(delete(at=3))) == ["deleted"]
    assert store.apply(alone(upsert(version=1))) == ["deleted_before"]
    assert calls.taken() == []


def test_a_child_is_hidden_by_one_call_whichever_parents_are_deleted(store: Store, admin: Connection) -> None:
    store.apply([membership("orgmem_1", user_id="user_1", at=1), membership("orgmem_2", user_id="user_2", at=1)])
    admin.execute(_TRIGGERS.replace("{table}", "organization_memberships").encode())
    calls = _Calls(admin)
    gone = [deleted("organization", "org_1", at=2), deleted("user", "user_1", at=2), deleted("user", "user_9", at=2)]
    assert store.apply(gone) == ["deleted", "deleted", "deleted"]
    assert calls.taken() == [
        ("before update", "orgmem_1"),
        ("before update", "orgmem_2"),
        ("after update", "orgmem_1"),
        ("after update", "orgmem_2"),
        ("after update statement", None),
    ]


def test_a_row_that_the_app_inserts_meanwhile_is_updated_once(
    database: Database, store: Store, admin: Connection, calls: _Calls
) -> None:
    outcomes: list[object] = []
    with database.connect() as app:
        with app.transaction():
            app.execute("insert into clerk.users (clerk_id) values ('user_1')")
            changes = alone(upsert("user_1", first_name="Ada"), upsert("user_2", first_name="Bo"))
            applying = started(lambda: outcomes.extend(store.apply(changes)))
            eventually(lambda: waiting(admin), bool)
        applying.join()
    assert outcomes == ["created", "created"]
    assert rows(admin, "select clerk_id, first_name from clerk.users order by 1") == [
        ("user_1", "Ada"),
        ("user_2", "Bo"),
    ]
    taken = calls.taken()
    # `before insert` of user_1: the app's own, and the attempt of the batch.
    assert [taken.count(("before insert", user)) for user in ("user_1", "user_2")] == [2, 1]
    assert [taken.count(("after insert", user)) for user in ("user_1", "user_2")] == [1, 1]
    assert [taken.count(("before update", user)) for user in ("user_1", "user_2")] == [1, 0]
    assert [taken.count(("after update", user)) for user in ("user_1", "user_2")] == [1, 0]


def test_a_row_that_a_trigger_makes_itself_is_made_once(store: Store, admin: Connection, calls: _Calls) -> None:
    admin.execute(
        """
        create function public.make_row() returns trigger language plpgsql as $$
        begin
            if pg_trigger_depth() = 1 then
                insert into clerk.users select (new).*;
                return null;
            end if;
            return new;
        end
        $$;
        create trigger app_makes before insert on clerk.users for each row execute function public.make_row();
        """
    )
    store.apply(alone(upsert("user_1", first_name="Ada")))
    assert rows(admin, "select clerk_id, first_name from clerk.users") == [("user_1", "Ada")]
    taken = calls.taken()
    assert taken.count(("after insert", "user_1")) == 1
    assert ("before update", "user_1") not in taken


def test_a_row_that_a_trigger_alters_is_written_once(
    database: Database, store: Store, admin: Connection, calls: _Calls
) -> None:
    admin.execute(
        """
        create function public.alter_name() returns trigger language plpgsql as
        $$ begin new.first_name := upper(new.first_name); return new; end $$;
        create trigger app_alters before insert on clerk.users for each row execute function public.alter_name();
        """
    )
    with database.connect() as app:
        with app.transaction():
            app.execute("insert into clerk.users (clerk_id) values ('user_2')")
            changes = alone(upsert("user_1", first_name="Ada"), upsert("user_2", first_name="Bo"))
            applying = started(lambda: store.apply(changes))
            eventually(lambda: waiting(admin), bool)
        applying.join()
    assert rows(admin, "select clerk_id, first_name from clerk.users order by 1") == [
        ("user_1", "ADA"),
        ("user_2", "Bo"),
    ]
    assert ("before update", "user_1") not in calls.taken()
