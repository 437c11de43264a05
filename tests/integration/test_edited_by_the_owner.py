"""Changes of whole tables by the owner of an app: another key, a truncate, the restore of a week-old backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql
from psycopg.errors import RestrictViolation

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import Connection, Database, rows, tables, value
from tests.kit.histories import CREATED_AT
from tests.kit.purging import let_time_pass, purge
from tests.kit.reconciling import Rig, RigMaker
from tests.kit.webhooks import deleted, domain, invitation, membership, user

KEYS = {
    "users": "clerk_id",
    "organizations": "clerk_org_id",
    "organization_memberships": "clerk_membership_id",
    "organization_invitations": "clerk_invitation_id",
    "organization_domains": "clerk_domain_id",
}


def populate(world: World) -> None:
    organization = world.create_organization({"name": "Acme"})
    world.add_membership(organization["id"], f"user_{1:026}", role="org:member")


pytestmark = pytest.mark.mirror(120, populate)


@pytest.fixture
def rig(mirrored: RigMaker) -> Iterator[Rig]:
    with mirrored() as rig:
        yield rig


@contextmanager
def restored(admin: Connection, table: str) -> Iterator[None]:
    """Restores a table as it is now at the end of the block, like `pg_restore --data-only --disable-triggers`."""
    name = sql.Identifier(table)
    admin.execute(sql.SQL("create table public.backup as table clerk.{}").format(name))
    yield
    admin.execute("set session_replication_role = replica")
    admin.execute(sql.SQL("delete from clerk.{}").format(name))
    admin.execute(sql.SQL("insert into clerk.{} table public.backup").format(name))
    admin.execute("reset session_replication_role; drop table public.backup")


@pytest.mark.parametrize("table", KEYS)
def test_nobody_gives_an_object_another_id(store: Store, admin: Connection, table: str) -> None:
    store.apply([membership(at=1)])
    store.apply([invitation(at=1), domain(at=1)])
    if table in ("users", "organizations"):
        # Rows that point to it keep its key anyway.
        admin.execute(
            "truncate clerk.organization_memberships, clerk.organization_invitations, clerk.organization_domains"
        )
    another = sql.SQL("update clerk.{} set {} = 'another'").format(sql.Identifier(table), sql.Identifier(KEYS[table]))
    with admin.transaction(force_rollback=True):
        admin.execute("set local role service_role")
        with pytest.raises(RestrictViolation, match="names the object for good"):
            admin.execute(another)


@pytest.mark.parametrize("truncated", ["users", "organizations"])
def test_after_a_truncate_events_are_applied_and_a_comparison_restores_every_row(rig: Rig, truncated: str) -> None:
    org_id = next(iter(rig.world.organizations))
    rig.admin.execute(sql.SQL("truncate clerk.{} cascade").format(sql.Identifier(truncated)))
    now = rig.world.now - CREATED_AT
    new = [membership("orgmem_new", at=now, org_id=org_id, user_id=f"user_{2:026}"), domain(at=now, org_id=org_id)]
    assert rig.store.apply(new) == ["created", "created"]
    rig.admin.execute("delete from clerk.organization_memberships where clerk_membership_id = 'orgmem_new'")
    rig.admin.execute("delete from clerk_sync.entities where id = 'orgmem_new'")
    assert rig.run().state == "complete"
    assert rig.agrees()
    assert value(rig.admin, "select name from clerk.organizations") == "Acme"
    assert value(rig.admin, "select count(created_at) from clerk.users") == 120


def test_a_backup_of_last_week_is_brought_up_to_date_by_a_comparison(rig: Rig) -> None:
    gone, renamed = f"user_{5:026}", f"user_{6:026}"
    with restored(rig.admin, "users"):
        rig.world.remove_user(gone)
        rig.store.apply([deleted("user", gone, at=rig.world.now - CREATED_AT)])
        rig.world.update("user", renamed, {"last_name": "Newer"})
        new = rig.world.create_user({})["id"]
        assert rig.run().state == "complete"
        before = tables(rig.admin)
    assert {gone} <= rig.shown()
    assert new not in rig.shown()
    assert rig.run().state == "complete"
    after = tables(rig.admin)
    assert {name: after[name] for name in ("users", "users_public", "memberships")} == {
        name: before[name] for name in ("users", "users_public", "memberships")
    }


@pytest.mark.parametrize("how", ["scrub", "delete"])
@pytest.mark.parametrize("backup_is_of", ["before the delete", "during the hold-back"])
def test_purged_rows_that_a_backup_restores_are_purged_again(
    how: str, backup_is_of: str, database: Database, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, first_name="Ada")])
    if backup_is_of == "during the hold-back":
        store.apply([deleted("user", "user_1", at=2)])
    with restored(admin, "users"):
        store.apply([deleted("user", "user_1", at=2)])
        let_time_pass(admin)
        assert [kind for kind, *_ in purge(database, how)] == ["user"]
    assert rows(admin, "select first_name from clerk.users") == [("Ada",)]
    # A comparison hides what is visible.
    admin.execute("update clerk.users set deleted_at = now() where deleted_at is null")
    assert [kind for kind, *_ in purge(database, how)] == ["user"]
    assert rows(admin, "select first_name from clerk.users where first_name is not null") == []
    assert purge(database, how) == []
