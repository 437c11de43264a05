"""The app may make the tables its own: columns, triggers, foreign keys, views, indexes. Sync leaves them alone."""

from __future__ import annotations

from pathlib import Path
from typing import LiteralString

import pytest

from clerk_supabase.errors import ChangeRefused
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.operate.install.migrations import migrate
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.histories import alone, delete, upsert
from tests.kit.reconciling import rig_with, user
from tests.kit.webhooks import deleted


def test_a_column_of_the_apps_keeps_its_value(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert(version=1)))
    admin.execute("alter table clerk.users add column favourite text, add column since timestamptz default now()")
    admin.execute("update clerk.users set favourite = 'tea'")
    since = value(admin, "select since from clerk.users")

    assert store.apply(alone(upsert(version=2, first_name="New"))) == ["updated"]
    assert rows(admin, "select first_name, favourite, since from clerk.users") == [("New", "tea", since)]


def test_a_column_of_the_apps_gets_its_default_for_a_new_user(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk.users add column plan text not null default 'free'")
    store.apply(alone(upsert()))
    assert value(admin, "select plan from clerk.users") == "free"


def test_a_column_of_the_apps_named_like_a_field_of_clerks_is_not_written(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk.users add column last_sign_in_at bigint, add column private_metadata jsonb")
    store.apply(alone(upsert(last_sign_in_at=5, private_metadata={"note": "private"})))
    assert rows(admin, "select last_sign_in_at, private_metadata from clerk.users") == [(None, None)]


def test_a_computed_column_of_the_apps_follows(store: Store, admin: Connection) -> None:
    admin.execute(
        "alter table clerk.users add column full_name text generated always as (first_name || ' ' || last_name) stored"
    )
    store.apply(alone(upsert(first_name="Ada", last_name="Lovelace")))
    assert value(admin, "select full_name from clerk.users") == "Ada Lovelace"


def test_the_work_of_a_trigger_of_the_app_commits_with_the_user(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create table public.profiles (user_id text primary key references clerk.users (clerk_id) on delete cascade);
        create function public.make_profile() returns trigger language plpgsql as
        $$ begin insert into public.profiles values (new.clerk_id); return new; end $$;
        create trigger make_profile after insert on clerk.users for each row execute function public.make_profile();
        """
    )
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    store.apply(alone(upsert("user_1", version=2, first_name="New")))
    assert rows(admin, "select user_id from public.profiles order by 1") == [("user_1",), ("user_2",)]


def test_rows_of_the_app_that_point_to_a_user_survive_the_delete_in_clerk(store: Store, admin: Connection) -> None:
    admin.execute("create table public.tasks (owner text not null references clerk.users (clerk_id))")
    store.apply(alone(upsert()))
    admin.execute("insert into public.tasks values ('user_1')")
    assert store.apply(alone(delete(at=9))) == ["deleted"]
    assert value(admin, "select count(*) from public.tasks") == 1


def test_a_rule_of_the_app_that_a_user_breaks_concerns_only_that_user(store: Store, admin: Connection) -> None:
    admin.execute("create unique index one_name on clerk.users (username)")
    first, second, third = store.apply(
        alone(upsert("user_1", username="ada"), upsert("user_2", username="ada"), upsert("user_3"))
    )
    assert (first, third) == ("created", "created")
    assert isinstance(second, ChangeRefused)
    assert "one_name" in str(second)


def let_a_trigger_skip(admin: Connection, when: LiteralString) -> None:
    """Creates a trigger of the app that skips the row of a user whose id ends with 1, without an error."""
    admin.execute(
        "create function public.skip() returns trigger language plpgsql as "
        "$$ begin if new.clerk_id like '%1' then return null; end if; return new; end $$"
    )
    admin.execute(f"create trigger skip before {when} on clerk.users for each row execute function public.skip()")


KEPT = "a trigger of the app keeps the row"


@pytest.mark.parametrize("when", ["insert", "insert or update"])
def test_a_new_row_that_a_trigger_of_the_app_skips_is_named_and_the_others_written(
    when: LiteralString, store: Store, admin: Connection
) -> None:
    let_a_trigger_skip(admin, when)
    first, second = store.apply(alone(upsert("user_1"), upsert("user_2")))
    assert isinstance(first, ChangeRefused)
    assert KEPT in str(first)
    assert second == "created"
    assert rows(admin, "select clerk_id from clerk.users") == [("user_2",)]
    assert rows(admin, "select id from clerk_sync.entities") == [("user_2",)]


def test_a_ban_that_a_trigger_of_the_app_skips_is_named_and_the_others_applied(store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    let_a_trigger_skip(admin, "update")
    first, second = store.apply(
        alone(upsert("user_1", version=2, banned=True), upsert("user_2", version=2, banned=True))
    )
    assert isinstance(first, ChangeRefused)
    assert KEPT in str(first)
    assert second == "updated"
    assert rows(admin, "select clerk_id, banned from clerk.users order by 1") == [("user_1", False), ("user_2", True)]


def test_no_comparison_says_that_it_repaired_a_row_that_a_trigger_of_the_app_skips(database: Database) -> None:
    with rig_with(database, 3) as rig:
        let_a_trigger_skip(rig.admin, "insert or update")
        for _ in range(2):
            report = rig.run()
            counts = report.counts["user"]
            assert counts["refused"] == 1
            assert counts.get("repaired", 0) == counts["missing"] - 1
            assert "1 objects could not be compared or applied" in str(report.reason)
        assert rig.shown() == {user(0), user(2)}


def test_a_row_that_the_app_made_and_its_trigger_rewrites_is_no_row_that_a_trigger_skips(database: Database) -> None:
    with rig_with(database, 3) as rig:
        rig.admin.execute("insert into clerk.users (clerk_id, email) values (%s, 'old@example.test')", [user(1)])
        rig.admin.execute(
            "create function public.upper() returns trigger language plpgsql as "
            "$$ begin new.first_name := upper(coalesce(new.first_name, 'x')); return new; end $$"
        )
        rig.admin.execute(
            "create trigger upper before insert or update on clerk.users for each row execute function public.upper()"
        )
        report = rig.run()
        assert "refused" not in report.counts["user"]
        assert rig.shown() == {user(0), user(1), user(2)}
        assert value(rig.admin, "select count(*) from clerk.users where email = 'old@example.test'") == 0


def test_each_comparison_names_a_deleted_row_that_a_trigger_of_the_app_keeps_visible(database: Database) -> None:
    with rig_with(database, 3) as rig:
        rig.run()
        let_a_trigger_skip(rig.admin, "update")
        del rig.world.users[user(1)]
        rig.store.apply([deleted("user", user(1), at=10**9)])
        with acting_as(rig.admin, "authenticated", {"sub": user(1), "role": "authenticated"}):
            assert rows(rig.admin, "select from clerk.users_public") == []
        for _ in range(2):
            report = rig.run()
            assert "kept by triggers of the app: 1" in str(report.reason)
            assert rig.findings(report)[user(1)].outcome == "held up"


def test_an_index_of_the_apps_does_no_harm(store: Store, admin: Connection) -> None:
    admin.execute("create index on clerk.users using gin (public_metadata)")
    assert store.apply(alone(upsert(public_metadata={"plan": "pro"}))) == ["created"]


@pytest.mark.parametrize("owner", ["authenticated", "service_role"])
def test_the_app_may_let_its_own_policy_show_more(owner: str, store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    admin.execute("create policy everybody on clerk.users for select to authenticated using (true)")
    with admin.transaction():
        admin.execute("set local role authenticated")
        assert value(admin, "select count(*) from clerk.users") == 2


def test_the_migrations_change_nothing_when_they_are_run_again_after_the_app_grew(
    store: Store, admin: Connection, database: Database, root: Path
) -> None:
    admin.execute("alter table clerk.users add column favourite text")
    assert list(migrate(database.url, root)) == []
    assert store.apply(alone(upsert())) == ["created"]


def test_a_user_whom_the_app_inserted_has_nothing_verified(admin: Connection) -> None:
    admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
    assert rows(admin, "select email_verified, phone_verified from clerk.users") == [(False, False)]
