"""Deletes of comparisons: the ones that hold, in every order of their arrival and of all other events."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from clerk_supabase.model.changes import Changes, Delete, Reconciled, SignedIn, Source, Upsert, Version
from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, rows, tables, value
from tests.kit.histories import CREATED_AT, delete, upsert
from tests.kit.webhooks import deleted, domain, invitation, membership, organization

Step = tuple[Changes, Source]
RUNS = (7, 8, 9)
UNDONE = 9


@pytest.fixture
def runs(admin: Connection) -> Connection:
    """Three runs, the last of which was undone; no other is known."""
    admin.execute(
        """
        insert into clerk_sync.reconcile_runs (run_id, mode, is_dry_run, versions_only, as_of, state, undone_at)
        overriding system value
        select run_id, 'full', false, false, 1, 'complete', case when run_id = %s then now() end
        from unnest(%s::bigint[]) as run_id
        """,
        [UNDONE, list(RUNS)],
    )
    return admin


def forget_the_user(admin: Connection) -> None:
    admin.execute("delete from clerk.users")
    admin.execute("delete from clerk_sync.entities")


def update(version: int | tuple[int, int], **fields: Any) -> Step:
    """A webhook of a user, whose delivery is not recorded."""
    return Changes(upsert(version=version, **fields)), None


def read(version: tuple[int, int], run: int = 7, **fields: Any) -> Step:
    """An answer of Clerk's API with the user: the time of the user's change, and the time of the answer."""
    change = upsert(version=version, **fields)
    return Changes(change), Reconciled(f"reconcile-{run}-{change.id}")


def gone(at: int, run: int, kind: Any = "user", object_id: str = "user_1") -> Step:
    """The delete of a comparison: Clerk's API reported it at that moment."""
    return Changes(Delete(kind, object_id, at)), Reconciled(f"reconcile-{run}-{object_id}")


def ended(at: int) -> Step:
    """A webhook of the delete."""
    return Changes(delete(at=at)), None


def tombstone(admin: Connection, object_id: str = "user_1") -> tuple[int | None, int | None]:
    [(deleted_at, run)] = rows(
        admin, "select deleted_at, delete_run from clerk_sync.entities where id = %s and kind = 'user'", object_id
    )
    return deleted_at, run


def expected(steps: Sequence[Step]) -> tuple[int | None, int | None]:
    """The tombstone that the rules ask for, from the events alone."""
    told, shown, proofs = [], -1, []
    for changes, source in steps:
        match changes.main, source:
            case Delete(deleted_at=moment), Reconciled(name):
                proofs.append((moment, int(name.split("-")[1])))
            case Delete(deleted_at=moment), _:
                told.append(moment)
            case Upsert(version=version), Reconciled() | SignedIn():
                shown = max(shown, version.observed_at)
    if told:
        return min(told), None
    standing = [(moment, run) for moment, run in proofs if run in (0, 7, 8) and moment >= shown]
    return max(standing, default=(None, None))


@pytest.mark.parametrize(
    "steps",
    [
        [update(20), gone(30, 7), read((20, 40)), ended(50)],
        [update(20), gone(30, 7), read((10, 40)), ended(25)],
        [update((20, 45)), gone(30, 7), read((20, 40)), gone(30, 7)],
        [update((41, 41)), read((20, 40)), gone(30, 7), gone(35, 8)],
        [read((20, 40)), gone(30, 7), gone(50, 8), update((60, 60))],
        [gone(30, 7), gone(50, 8), read((20, 30)), update(20)],
        [gone(30, 7), gone(50, UNDONE), update(20), read((20, 25))],
        [gone(30, 7), gone(50, 1_000), update(20), ended(40)],
        [gone(30, 0), read((5, 29)), read((20, 31)), update(20)],
        [ended(50), gone(30, 7), ended(40), read((20, 60))],
    ],
    ids=range(1, 11),
)
def test_the_tables_end_the_same_in_any_order_and_with_any_duplicates(
    steps: list[Step], store: Store, runs: Connection
) -> None:
    seen = []
    for order in itertools.permutations(steps):
        forget_the_user(runs)
        for step in [*order, order[0]]:
            store.apply([step])
        assert tombstone(runs) == expected(steps)
        seen.append(tables(runs))
    assert all(each == seen[0] for each in seen)
    forget_the_user(runs)
    store.apply(steps)
    assert tables(runs) == seen[0]


def test_objects_of_a_restored_organization_are_restored_except_those_deleted_otherwise(
    store: Store, runs: Connection
) -> None:
    store.apply(
        [
            organization(at=1),
            *(membership(f"orgmem_{number}", at=1, user_id=f"user_{number}") for number in (1, 2, 3)),
            invitation(at=1),
            domain(at=1),
        ]
    )
    store.apply([gone(CREATED_AT + 10, 7, "organization", "org_1")])
    hidden = "select count(*) from clerk.organization_memberships where deleted_at is not null"
    assert value(runs, hidden) == 3
    store.apply([deleted("user", "user_2", at=5), deleted("organizationMembership", "orgmem_3", at=20)])
    [(back, _)] = [organization(at=1)]
    shown = Upsert("organization", "org_1", Version(CREATED_AT + 1, CREATED_AT + 30), back.main.content)  # type: ignore[union-attr]

    assert store.apply([(Changes(shown), Reconciled("reconcile-8-org_1"))]) == ["updated"]

    assert rows(runs, "select clerk_membership_id from clerk.organization_memberships where deleted_at is null") == [
        ("orgmem_1",)
    ]
    after = tables(runs)
    assert all(row[-1] is None for name in ("organizations", "invitations", "domains") for row in after[name])
    assert rows(
        runs,
        """
        select entity_id, cause, svix_id from clerk_sync.audit_log
        where operation = 'update' and new_values -> 'deleted_at' = 'null' order by entity_id
        """,
    ) == [
        ("org_1", "reconcile", "reconcile-8-org_1"),
        ("orgdmn_1", "cascade", None),
        ("orginv_1", "cascade", None),
        ("orgmem_1", "cascade", None),
    ]


def test_a_row_below_a_deleted_parent_changes_but_no_row_moves_there(store: Store, admin: Connection) -> None:
    store.apply([*(organization(f"org_{number}", at=1) for number in (1, 2, 3)), membership(at=1), invitation(at=1)])
    store.apply([deleted("organization", org_id, at=9) for org_id in ("org_1", "org_3")])
    store.apply([membership(at=5, role="org:admin"), invitation(at=5, org_id="org_3")])
    assert rows(admin, "select clerk_org_id, role from clerk.organization_memberships") == [("org_1", "org:admin")]
    assert rows(admin, "select clerk_org_id from clerk.organization_invitations") == [("org_1",)]


def test_a_sign_in_restores_the_user_whom_a_comparison_deleted(store: Store, runs: Connection) -> None:
    store.apply([update(20), gone(30, 7)])
    assert store.apply([(Changes(upsert(version=(20, 40))), SignedIn("sess_1"))]) == ["updated"]
    assert value(runs, "select count(*) from clerk.users_public where deleted_at is null") == 1
    assert value(runs, "select cause from clerk_sync.audit_log order by audit_id desc limit 1") == "session"


def test_private_metadata_is_deleted_and_restored_with_its_user(store: Store, runs: Connection) -> None:
    private = Upsert("private_metadata", "user_1", Version(20, 20), {"entity_id": "user_1", "private_metadata": {}})
    ends = Changes(Delete("user", "user_1", 30), (Delete("private_metadata", "user_1", 30),))
    store.apply([(Changes(upsert(version=20), (private,)), None), (ends, Reconciled("reconcile-7-user_1"))])
    assert value(runs, "select deleted_at is not null from clerk_sync.private_metadata")
    # The reader of the user may keep no private metadata.
    store.apply([read((20, 40))])
    assert value(runs, "select deleted_at is null from clerk_sync.private_metadata")
    store.apply([(ends, Reconciled("reconcile-7-user_1"))])
    assert value(runs, "select deleted_at is null from clerk_sync.private_metadata")


def test_purged_data_stays_purged(store: Store, runs: Connection) -> None:
    store.apply([update(20), gone(30, 7)])
    runs.execute("select clerk_sync.purge('0', 'scrub')")
    assert store.apply([read((20, 40))]) == ["deleted_before"]
    assert tombstone(runs) == (30, 7)
    assert value(runs, "select email is null and deleted_at is not null from clerk.users")


def test_a_moment_beyond_every_clock_shields_nobody_from_deletes(store: Store, runs: Connection) -> None:
    # With the worker's password any moment can be given, and the moment must not outlast the password.
    store.apply([read((20, 9_000_000_000_000)), gone(30, 7)])
    assert tombstone(runs) == (30, 7)


def test_a_comparison_of_which_nothing_is_known_any_more_deletes_nothing(store: Store, runs: Connection) -> None:
    # Parked, and replayed after its run was pruned: whether the run was undone is unknown.
    store.apply([update(20)])
    runs.execute("delete from clerk_sync.reconcile_runs where run_id = 7")
    assert store.apply([gone(30, 7)]) == ["stale"]
    assert store.apply([(Changes(delete(at=30)), Reconciled("a name of no run"))]) == ["stale"]
    assert tombstone(runs) == (None, None)
    assert value(runs, "select count(*) from clerk.users where deleted_at is null") == 1
