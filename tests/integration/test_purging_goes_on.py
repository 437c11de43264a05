"""Purging goes on: a purged row, or a row that the app keeps, prevents no other purge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import sql

from clerk_supabase.model.changes import Delete
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from tests.kit.databases import Connection, Database, Rows, rows, value
from tests.kit.histories import CREATED_AT, RECEIVED_AT, Applied, alone
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.purging import let_time_pass, purge, undo
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, told, user


def delete_users(store: Store, *user_ids: str) -> None:
    store.apply([each for user_id in user_ids for each in (user(user_id, at=1), deleted("user", user_id, at=2))])


def purge_some(admin: Connection, at_most: int) -> Rows:
    return rows(admin, "select kind, purged from clerk_sync.purge('0', 'scrub', %s)", at_most)


def test_purged_users_take_no_place_of_users_who_are_due(store: Store, admin: Connection) -> None:
    delete_users(store, "user_1", "user_2")
    assert purge_some(admin, 2) == [("user", 2)]
    # So that rows are read from the table in the order of the names.
    delete_users(store, "user_3", "user_4")
    admin.execute("create index sorted on clerk.users (clerk_id)")
    admin.execute("cluster clerk.users using sorted")
    admin.execute("drop index clerk.sorted")
    assert purge_some(admin, 2) == [("user", 2)]
    assert purge_some(admin, 2) == []
    assert value(admin, "select count(*) from clerk_sync.entities where kind = 'user' and purged_at is null") == 0


def test_private_metadata_of_a_purged_user_is_not_written_again_by_what_arrives_late(
    database: Database, store: Store, admin: Connection
) -> None:
    def seen(at: int) -> Any:
        data = samples.user("user_1", created_at=CREATED_AT, updated_at=CREATED_AT + at, private_metadata={"note": at})
        return told("user.updated", data, at=at, keep_private_metadata=True)

    store.apply([seen(1)])
    assert value(admin, "select count(*) from clerk_sync.private_metadata") == 1
    store.apply([deleted("user", "user_1", at=2)])
    let_time_pass(admin)
    purge(database)
    store.apply([seen(9)])
    assert value(admin, "select count(*) from clerk_sync.private_metadata") == 0
    purged = rows(admin, "select purged_at is not null from clerk_sync.entities where kind = 'private_metadata'")
    assert purged == [(True,)]


@pytest.mark.parametrize(
    "event", [membership(at=1), invitation(at=1), domain(at=1)], ids=lambda each: each[0].main.kind
)
def test_a_row_kept_by_a_foreign_key_of_the_app_is_named_and_the_others_are_purged(
    event: Applied, database: Database, store: Store, admin: Connection
) -> None:
    kept = event[0].main
    relation = value(admin, "select relation from clerk_sync.kinds where kind = %s", kept.kind)
    create = sql.SQL("create table public.kept (held text constraint kept_held_fkey references {})")
    admin.execute(create.format(sql.Identifier(*relation.split("."))))
    store.apply([event])
    admin.execute("insert into public.kept values (%s)", [kept.id])
    store.apply(alone(Delete(kept.kind, kept.id, CREATED_AT + 2)))
    delete_users(store, "user_9")
    let_time_pass(admin)
    assert sorted(purge(database)) == [(kept.kind, "refused", "kept_held_fkey", 1), ("user", "scrubbed", None, 1)]
    assert purge(database) == []
    assert value(admin, "select count(*) from public.kept") == 1


def test_a_row_kept_by_a_trigger_of_the_app_is_named_and_the_others_are_purged(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(
        """
        create function public.keep() returns trigger language plpgsql as
        $$ begin raise exception 'the books are kept for ten years'; end $$
        """
    )
    admin.execute(
        "create trigger keep before delete on clerk.organizations for each row "
        "when (old.clerk_org_id = 'org_1') execute function public.keep()"
    )
    store.apply([organization(at=1), organization("org_2", at=1)])
    store.apply([deleted("organization", "org_1", at=2), deleted("organization", "org_2", at=2)])
    delete_users(store, "user_9")
    let_time_pass(admin)
    assert sorted(purge(database)) == [
        ("organization", "deleted", None, 1),
        ("organization", "refused", "SQLSTATE P0001 in public.keep()", 1),
        ("user", "scrubbed", None, 1),
    ]
    assert rows(admin, "select clerk_org_id, name from clerk.organizations") == [("org_1", None)]


@contextmanager
def purging_meanwhile(database: Database, admin: Connection) -> Iterator[tuple[Connection, list[Rows]]]:
    """A transaction for which a purge waits, and the outcomes of that purge after the transaction."""
    purged: list[Rows] = []
    with database.connect() as other, other.transaction():
        yield other, purged
        purging = started(lambda: purged.append(purge(database)))
        eventually(lambda: waiting(admin), lambda sessions: sessions == 1)
    purging.join()


def test_a_delete_that_is_undone_while_a_purge_waits_is_not_purged(
    database: Database, store: Store, admin: Connection
) -> None:
    delete_users(store, "user_1", "user_2")
    let_time_pass(admin)
    with purging_meanwhile(database, admin) as (other, purged):
        assert undo(other) == [["user", "user_1"], ["user", "user_2"]]
    assert purged == [[]]
    assert value(admin, "select count(*) from clerk.users where first_name is not null and deleted_at is null") == 2


def test_a_user_deleted_again_while_a_purge_waits_is_held_back_from_then_on(
    database: Database, store: Store, admin: Connection
) -> None:
    delete_users(store, "user_1", "user_2")
    let_time_pass(admin)
    with purging_meanwhile(database, admin) as (other, purged):
        other.execute("update clerk_sync.entities set delete_recorded_at = now() where id = 'user_1'")
    assert purged == [[("user", "scrubbed", None, 1)]]
    assert value(admin, "select clerk_id from clerk.users where first_name is not null") == "user_1"


def test_what_another_purge_is_about_to_forget_is_not_waited_for(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user("user_1", at=1)])
    admin.execute(
        "insert into clerk_sync.not_purged (kind, id, reason, try_again_at) values ('user', 'user_1', 'why', now())"
    )
    admin.execute("set lock_timeout = '100ms'")
    with database.connect() as other, other.transaction():
        other.execute("select from clerk_sync.not_purged for update")
        admin.execute("select clerk_sync.forget_what_is_shown()")
    assert value(admin, "select count(*) from clerk_sync.not_purged") == 1
    admin.execute("select clerk_sync.forget_what_is_shown()")
    assert value(admin, "select count(*) from clerk_sync.not_purged") == 0


def test_a_parked_event_that_was_settled_lately_stays_for_as_long_as_its_delivery(
    store: Store, admin: Connection
) -> None:
    envelopes = [Envelope(svix_id, b"{}", RECEIVED_AT) for svix_id in ("msg_old", "msg_young", "msg_discarded")]
    store.park([ParkedEvent(envelope, "refused", "a constraint of the app") for envelope in envelopes])
    store.apply([user(at=1, svix_id="msg_old"), user(at=1, svix_id="msg_young")])
    admin.execute("update clerk_sync.deliveries set applied_at = now() - interval '101 days' where svix_id = 'msg_old'")
    admin.execute("update clerk_sync.parked_events set discarded_at = now() where svix_id = 'msg_discarded'")
    assert rows(admin, "select * from clerk_sync.prune('100 days', '365 days')") == [(1, 0, 1)]
    left = rows(admin, "select svix_id from clerk_sync.parked_events order by svix_id")
    assert left == [("msg_discarded",), ("msg_young",)]
