"""Any two writers take locks in one order: each deadlock found once is played step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import LiteralString

import pytest

from clerk_supabase.clerk.walk import Window
from clerk_supabase.credentials import Fixed
from clerk_supabase.model.changes import Changes, Delete, Reconciled
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.settings import Keep
from tests.kit.databases import Connection, Database, Rows, rows, value
from tests.kit.histories import CREATED_AT
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually
from tests.kit.purging import purge
from tests.kit.webhooks import deleted, membership, organization, user

_GATE = 7


@contextmanager
def held_at(admin: Connection, database: Database, event: LiteralString) -> Iterator[None]:
    """Stops every session at this action on a table until the block ends; lock timeouts do not end the wait."""
    admin.execute(
        "create function public.gate() returns trigger language plpgsql as $$ begin "
        "while not pg_try_advisory_xact_lock_shared(7) loop perform pg_sleep(0.01); end loop; "
        "return coalesce(new, old); end $$"
    )
    admin.execute("create trigger gate before " + event + " for each row execute function public.gate()")
    with database.connect() as keeper:
        keeper.execute("select pg_advisory_lock(%s)", [_GATE])
        yield


def is_at_the_gate(admin: Connection) -> int:
    return int(value(admin, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"))


@pytest.mark.parametrize("is_due", [True, False], ids=["rows in another order", "rows that go with their parent"])
def test_a_purge_and_a_delete_of_the_same_memberships_do_not_deadlock(
    is_due: bool, database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    # Written first, and so purged first, is what comes last by key.
    store.apply([membership("orgmem_2", at=1, user_id="user_2")])
    store.apply([membership("orgmem_1", at=1, user_id="user_1"), organization("org_1", at=1)])
    if is_due:
        store.apply([deleted("organizationMembership", f"orgmem_{n}", at=2) for n in (1, 2)])
        other = [deleted("organization", "org_1", at=3)]
    else:
        store.apply([deleted("organization", "org_1", at=2)])
        admin.execute("update clerk.organization_memberships set deleted_at = null")
        other = [deleted("organizationMembership", f"orgmem_{n}", at=3) for n in (1, 2)]
    found: list[object] = []
    with closing(Store(Fixed(database.worker_url))) as worker:
        with held_at(admin, database, "delete on clerk.organization_memberships"):
            purging = started(lambda: found.append(purge(database, hold_back="0")))
            eventually(lambda: is_at_the_gate(admin), bool)
            deleting = started(lambda: found.append(worker.apply(other)))
            eventually(lambda: waiting(admin), bool)
        purging.join(60)
        deleting.join(60)
    assert len(found) == 2
    assert ["deleted"] * len(other) in found
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0
    assert rows(admin, "select * from clerk.organization_memberships") == []


def test_an_erasure_and_a_delete_of_a_new_user_do_not_deadlock(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    store.apply([user("user_1", at=1), deleted("user", "user_1", at=2)])
    request = json.dumps({"users": ["user_1"], "words": [], "purge_by": "scrub", "erased_by": "ops"})
    found: list[object] = []
    with (
        closing(Store(Fixed(database.worker_url))) as worker,
        database.connect() as other,
        database.connect() as operator,
    ):
        with other.transaction():
            # The erasure waits here, once it has locked the entity of the user.
            other.execute("lock table clerk_sync.parked_events in share mode")
            forgetting = started(
                lambda: found.append(operator.execute("select clerk_sync.forget(%s::jsonb)", [request]).fetchall())
            )
            eventually(lambda: waiting(admin), bool)
            # The new user's delete takes parked events before the known entity is asked for.
            batch = [deleted("user", "user_new", at=3), user("user_1", at=3)]
            arriving = started(lambda: found.append(worker.apply(batch)))
            eventually(lambda: waiting(admin), lambda number: number == 2)
        forgetting.join(60)
        arriving.join(60)
    assert len(found) == 2
    assert ["deleted", "deleted_before"] in found
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0


def test_the_parent_of_a_new_child_is_locked_also_if_the_batch_has_old_content_of_the_parent(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user("user_1", at=5), organization("org_1", at=5)])
    found: list[object] = []
    with closing(Store(Fixed(database.worker_url))) as worker, database.connect() as other:
        with other.transaction():
            other.execute("select from clerk_sync.entities where kind = 'user' for update")
            arriving = started(lambda: found.append(worker.apply([membership("orgmem_1", at=6), user("user_1", at=1)])))
            eventually(lambda: waiting(admin), bool)
        arriving.join(60)
    assert found == [["created", "stale"]]


def test_a_child_that_arrives_while_its_parent_is_purged_is_purged_later(
    database: Database, store: Store, admin: Connection
) -> None:
    store.apply([membership("orgmem_1", at=1), deleted("organization", "org_1", at=2)])
    found: list[object] = []
    with database.connect() as other:
        with other.transaction():
            # The purge has chosen its rows, and waits for an entity.
            other.execute("select from clerk_sync.entities where kind = 'membership' for update")
            purging = started(lambda: found.append(purge(database, hold_back="0")))
            eventually(lambda: waiting(admin), bool)
            store.apply([membership("orgmem_0", at=1, user_id="user_2")])
        purging.join(60)
    while purge(database, hold_back="0"):
        pass
    assert rows(admin, "select * from clerk.organizations") == []
    query: LiteralString = "select id from clerk_sync.entities where kind = 'membership' and purged_at is null"
    assert rows(admin, query) == []


def test_a_resync_waits_for_no_entity_once_it_has_rows_locked(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    store.apply([membership("orgmem_1", at=1), organization("org_1", at=1), user("user_1", at=1)])
    store.apply([deleted("user", "user_1", at=2)])
    admin.execute("update clerk.users set deleted_at = null")
    admin.execute("update clerk.organization_memberships set deleted_at = null")
    objects = json.dumps({"objects": {"user": ["user_1"], "membership": ["orgmem_1"]}})
    found: list[object] = []
    with closing(Store(Fixed(database.worker_url))) as worker, database.connect() as operator:
        with held_at(admin, database, "update on clerk.users"):
            resyncing = started(
                lambda: found.append(
                    operator.execute("select clerk_sync.check_objects(%s::jsonb)", [objects]).fetchall()
                )
            )
            eventually(lambda: is_at_the_gate(admin), bool)
            # It takes the entity of the membership before that of the user.
            arriving = started(lambda: found.append(worker.apply([membership("orgmem_1", at=3)])))
            eventually(lambda: waiting(admin), bool)
        resyncing.join(60)
        arriving.join(60)
    assert len(found) == 2
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0
    assert rows(admin, "select from clerk.organization_memberships where deleted_at is null") == []


UNDO: LiteralString = "select clerk_sync.undo_run(%s::jsonb)"


@dataclass
class Run:
    """A run at work that has found deleted users, and has one answer of Clerk about them."""

    runs: Runs
    run_id: int
    lease: str

    def find_gone(self, *user_ids: str) -> None:
        self.runs.find_unseen_among(self.run_id, "user", Window(0, None), [])
        self.runs.settle(self.run_id, "user", gone=dict.fromkeys(user_ids, CREATED_AT + 10))

    def undo(self, admin: Connection) -> Rows:
        return rows(admin, UNDO, json.dumps({"run": self.run_id}))


@pytest.fixture
def run(store: Store) -> Run:
    runs = Runs(store)
    begun = runs.begin(Request("full"), "ins_1", CREATED_AT + 20, 60, 0)
    return Run(runs, begun.run.run_id, begun.lease)


def test_the_outcomes_of_findings_are_recorded_before_their_run_is_undone_or_not_at_all(
    run: Run, database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    store.apply([user("user_1", at=1), user("user_2", at=1)])
    run.find_gone("user_1")
    found: list[object] = []

    def settle() -> None:
        run.runs.settle(run.run_id, "user", present=["user_1"], gone={"user_2": CREATED_AT + 11})
        found.append("settled")

    with database.connect() as operator:
        with held_at(admin, database, "delete on clerk_sync.absences"):
            # It forgets that user_1 was missed, and is about to write down that user_2 is.
            settling = started(settle)
            eventually(lambda: is_at_the_gate(admin), bool)
            undoing = started(lambda: found.append(run.undo(operator)))
            eventually(lambda: waiting(admin), bool)
        settling.join(60)
        undoing.join(60)
    assert len(found) == 2
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0
    assert rows(admin, "select * from clerk_sync.absences") == []


def test_rows_of_a_run_are_repaired_before_the_run_is_undone_or_not_at_all(
    run: Run, database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    store.apply([user("user_1", at=1)])
    run.find_gone("user_1")
    store.apply([(Changes(Delete("user", "user_1", CREATED_AT + 10)), Reconciled(f"reconcile-{run.run_id}-user_1"))])
    admin.execute("update clerk.users set deleted_at = null")
    found: list[object] = []
    with database.connect() as operator:
        with held_at(admin, database, "update on clerk.users"):
            checking = started(lambda: found.append(run.runs.check_rows(run.run_id, run.lease, "user", 100)))
            eventually(lambda: is_at_the_gate(admin), bool)
            undoing = started(lambda: found.append(run.undo(operator)))
            eventually(lambda: waiting(admin), bool)
        checking.join(60)
        undoing.join(60)
    assert len(found) == 2
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0
    assert rows(admin, "select deleted_at from clerk.users") == [(None,)]


def test_no_run_begins_between_two_steps_of_an_undo(
    run: Run, database: Database, store: Store, admin: Connection
) -> None:
    found: list[object] = []
    with (
        closing(Store(Fixed(database.worker_url))) as worker,
        database.connect() as other,
        database.connect() as operator,
    ):
        with other.transaction():
            other.execute("select from clerk_sync.reconcile_runs for key share")
            undoing = started(lambda: found.append(run.undo(operator)))
            eventually(lambda: waiting(admin), bool)
            beginning = started(
                lambda: found.append(Runs(worker).begin(Request("full"), "ins_1", CREATED_AT + 30, 60, 0).is_busy)
            )
            eventually(lambda: waiting(admin), lambda number: number == 2)
        undoing.join(60)
        beginning.join(60)
    assert len(found) == 2


def test_a_run_whose_findings_another_run_settles_is_pruned_the_next_time(
    run: Run, database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user("user_1", at=1)])
    run.find_gone("user_1")
    run.runs.end(run.run_id, run.lease, "incomplete", None, calls=1)
    Runs(store).begin(Request("full"), "ins_1", CREATED_AT + 30, 60, 0)
    admin.execute("update clerk_sync.reconcile_runs set state = 'complete' where run_id > %s", [run.run_id])
    admin.execute("update clerk_sync.reconcile_runs set finished_at = '2020-01-01'")
    keep = json.dumps(asdict(Keep()))
    prune: LiteralString = "select clerk_sync.keep_house(%s::jsonb) -> 'pruned' -> 'runs'"
    with database.connect() as other:
        with other.transaction():
            other.execute("select from clerk_sync.absences for update")
            admin.execute("set lock_timeout = '2s'")
            assert value(admin, prune, keep) == 0
        assert value(admin, prune, keep) == 1


def test_of_two_runs_that_are_undone_at_once_none_keeps_what_both_deleted(
    run: Run, database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user("user_1", at=1)])
    run.find_gone("user_1")
    store.apply([(Changes(Delete("user", "user_1", CREATED_AT + 10)), Reconciled(f"reconcile-{run.run_id}-user_1"))])
    run.runs.end(run.run_id, run.lease, "complete", None, calls=1)
    other = Runs(store).begin(Request("full"), "ins_1", CREATED_AT + 30, 60, 0).run.run_id
    admin.execute(
        "insert into clerk_sync.reconcile_findings "
        "(run_id, kind, entity_id, difference, action, cause, observed_at, sent_at) "
        "select %s, 'user', 'user_1', 'extra', 'delete', 'gone', %s, now()",
        [other, CREATED_AT + 10],
    )
    found: list[object] = []
    with database.connect() as operator, database.connect() as another:
        with held_at(admin, database, "delete on clerk_sync.absences"):
            admin.execute(
                "insert into clerk_sync.absences values ('user', 'user_0', 1, %s) on conflict do nothing", [run.run_id]
            )
            first = started(lambda: found.append(run.undo(operator)))
            eventually(lambda: is_at_the_gate(admin), bool)
            second = started(lambda: found.append(rows(another, UNDO, json.dumps({"run": other}))))
            eventually(lambda: waiting(admin), bool)
        first.join(60)
        second.join(60)
    assert len(found) == 2
    assert rows(admin, "select delete_run, deleted_at from clerk_sync.entities where kind = 'user'") == [(None, None)]


def test_two_purges_that_note_and_forget_the_same_row_do_not_deadlock(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
    store.apply([user("user_1", at=1), user("user_2", at=1)])
    store.apply([deleted("user", f"user_{number}", at=2) for number in (1, 2)])
    admin.execute("alter table clerk.users add constraint no_one check (first_name is not null)")
    admin.execute(
        "insert into clerk_sync.not_purged (kind, id, reason, try_again_at) values ('user', 'user_1', 'no_one', now())"
    )
    admin.execute("update clerk.users set deleted_at = null where clerk_id = 'user_1'")
    found: list[object] = []
    with held_at(admin, database, "delete on clerk_sync.not_purged"):
        forgetting = started(lambda: found.append(purge(database, hold_back="0")))
        eventually(lambda: is_at_the_gate(admin), bool)
        admin.execute("update clerk.users set deleted_at = '2020-01-01' where clerk_id = 'user_1'")
        noting = started(lambda: found.append(purge(database, hold_back="0")))
        eventually(lambda: waiting(admin), bool)
    forgetting.join(60)
    noting.join(60)
    assert len(found) == 2
    assert value(admin, "select deadlocks from pg_stat_database where datname = current_database()") == 0
