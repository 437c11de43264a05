"""`switch-instance`: from a development to a production instance with the rows of the app, and back by undo."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from clerk_supabase.parking import Parking
from clerk_supabase.postgres.store import Store
from clerk_supabase.sync import Sync
from clerk_supabase_cli.adopt.switching import steps
from clerk_supabase_cli.operate.monitor.database_state import read_wrong_instances
from tests.integration.test_instance import DEVELOPMENT, PRODUCTION, event, mirrored, users, wrong
from tests.kit.databases import Connection, Database, rows, tables, value
from tests.kit.feeding import switch as switch_feed
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command, park
from tests.kit.polling import eventually

APP = """
create table public.profiles (clerk_user_id text primary key, name text);
create table public.likes (profile text not null references public.profiles (clerk_user_id), what text);
create domain public.person as text check (value <> '');
create table public.notes (author public.person references clerk.users (clerk_id) on delete cascade, text text);
create table public.tasks (id bigint generated always as identity primary key, name text);
select clerk_sync.secure('public.tasks', 'user');
create function public.refuse() returns trigger language plpgsql as $$ begin raise 'never'; end $$;
create trigger never before update on public.notes for each row execute function public.refuse();
create trigger never before delete on clerk.users for each row execute function public.refuse();
"""
NAMES = [f"{number:02}" for number in range(1, 13)]


def verified(address: str | None, status: str = "verified") -> dict[str, Any]:
    if address is None:
        return {"email_addresses": [], "primary_email_address_id": None}
    return {
        "email_addresses": [{"id": "idn_1", "email_address": address, "verification": {"status": status}}],
        "primary_email_address_id": "idn_1",
    }


def old_user(name: str) -> Any:
    """Of the twelve, 09 has not verified the address, 10 and 11 share one, and 12 has none."""
    fields = {"09": verified("u09@a.test", "unverified"), "12": verified(None)}
    address = "u10@a.test" if name in {"10", "11"} else f"u{name}@a.test"
    return event(f"user_old{name}", DEVELOPMENT, **fields.get(name, verified(address)))


def new_user(name: str, **fields: Any) -> Any:
    return event(f"user_new{name}", PRODUCTION, **verified(f"U{name}@A.test".lower()) | fields)


@pytest.fixture
def sync(store: Store) -> Sync:
    return Sync(store, Parking(store))


@pytest.fixture
def command(database: Database) -> Command:
    return Command({"DATABASE_URL": database.url})


@pytest.fixture
def app(admin: Connection, sync: Sync) -> None:
    """Twelve users of the development instance, with rows in four tables of the app."""
    admin.execute(APP)
    assert sync.process([old_user(name) for name in NAMES]) == []
    for name in NAMES:
        for statement in (
            "insert into public.profiles values (%(id)s, %(id)s)",
            "insert into public.likes values (%(id)s, 'x')",
            "insert into public.notes values (%(id)s, 'x'), (%(id)s, 'y')",
            "insert into public.tasks (name, user_id) values ('x', %(id)s)",
        ):
            admin.execute(statement, {"id": f"user_old{name}"})


COLUMNS = ("--column", "public.profiles.clerk_user_id", "--without-comparison")


def of_app(admin: Connection) -> dict[str, Any]:
    return {
        "profiles": rows(admin, "select * from public.profiles order by name"),
        "likes": rows(admin, "select * from public.likes order by profile"),
        "notes": rows(admin, "select * from public.notes order by author, text"),
        "tasks": rows(admin, "select * from public.tasks order by id"),
        "keys": rows(
            admin,
            "select conname, pg_get_constraintdef(oid), convalidated from pg_constraint "
            "where connamespace = 'public'::regnamespace order by conname",
        ),
        "triggers": rows(
            admin,
            "select tgname, tgrelid::regclass::text, tgenabled from pg_trigger where not tgisinternal order by 2, 1",
        ),
    }


def owners(admin: Connection, table: str) -> list[str]:
    column = {"profiles": "clerk_user_id", "likes": "profile", "notes": "author", "tasks": "user_id"}[table]
    found = admin.execute(f"select distinct {column} from public.{table} order by 1")  # noqa: S608 - names of the test
    return [owner for (owner,) in found]


NEW = [f"user_new{name}" for name in NAMES[:8]]
KEPT = [f"user_old{name}" for name in NAMES[8:]]


@pytest.mark.usefixtures("app")
def test_twelve_users_go_to_production_with_their_rows_and_back_by_undo(
    command: Command, admin: Connection, sync: Sync
) -> None:
    mirror, before = tables(admin), of_app(admin)
    looked = command.json("switch-instance", "--to", PRODUCTION)
    assert looked["state"]["mirrored"] == {"user": 12}
    assert {each["column"]: each["rows"] for each in looked["found"]} == {
        "public.notes.author": 24,
        "public.tasks.user_id": 12,
    }
    assert (tables(admin), of_app(admin), mirrored(admin)) == (mirror, before, DEVELOPMENT)

    command.run("switch-instance", "--to", PRODUCTION, "--write")
    assert (mirrored(admin), users(admin)) == (PRODUCTION, [])
    # Both instances send at the same time; 08 is known by its external_id, and an impostor has not verified 07.
    both = [old_user("01"), *(new_user(name) for name in NAMES[:7])]
    both += [new_user("08", **verified("other@a.test"), external_id="user_old08")]
    both += [event("user_impostor", PRODUCTION, **verified("u07@a.test", "unverified"))]
    both += [new_user("09"), new_user("10"), new_user("12", **verified("u12@a.test"))]
    assert sync.process(both) == []
    assert "user_old01" not in users(admin)
    assert wrong(admin) == {DEVELOPMENT: 1}

    dry = command.json("switch-instance", *COLUMNS)["report"]
    assert of_app(admin)["profiles"] == before["profiles"]
    command.run("switch-instance", "--to", PRODUCTION, *COLUMNS, "--write")
    assert of_app(admin)["profiles"] == before["profiles"]
    # The app has made a row for the new user already.
    admin.execute("insert into public.profiles values ('user_new07', 'early')")
    admin.execute(
        "insert into clerk_sync.instance_switches (to_instance, began_by, moved_at, ended_at, outcome) "
        "values ('ins_earlier', 'an operator', '2020-01-01+00', '2020-01-02+00', 'confirmed')"
    )
    command.run("switch-instance", *COLUMNS, "--write")
    assert value(admin, "select moved_at = '2020-01-01+00' from clerk_sync.instance_switches where outcome is not null")
    assert owners(admin, "profiles") == [*NEW, "user_old07", *KEPT]
    for table in ("likes", "notes", "tasks"):
        assert owners(admin, table) == [*NEW, *KEPT]
    again = command.json("switch-instance", *COLUMNS, "--write")["report"]
    assert dry["users"] == again["users"]
    assert {each["old_id"]: each["reason"] for each in again["left"]} == {
        "user_old07": "another row has the new id, or the table stayed as it was",
        "user_old09": "the user had not verified the address in the old instance",
        "user_old10": "several rows or several users fit",
        "user_old11": "several rows or several users fit",
        "user_old12": "the user had no e-mail address",
    }
    assert again["not_valid"] == ["notes_author_fkey on public.notes"]

    command.run("switch-instance", "--undo", "--write")
    admin.execute("delete from public.profiles where name = 'early'")
    assert (tables(admin), of_app(admin), mirrored(admin)) == (mirror, before, DEVELOPMENT)
    assert sync.process([event("user_late", PRODUCTION), event("user_13", DEVELOPMENT)]) == []
    assert users(admin) == ["user_13", *(f"user_old{name}" for name in NAMES)]
    # Events of the mirrored instance that came during the move are no events of another instance.
    assert wrong(admin) == {DEVELOPMENT: 1, PRODUCTION: 1}
    assert [each.instance_id for each in read_wrong_instances(admin)] == [PRODUCTION]


@pytest.mark.usefixtures("app")
def test_a_move_that_is_cut_off_goes_on_and_is_confirmed(
    command: Command, admin: Connection, store: Store, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A table that follows the mirror, also its deletes, waits for the new ids.
    profiles = {"table": "public.profiles", "update": {"name": "mirror.email"}, "on_delete": "delete"}
    feed = switch_feed(admin, **profiles)
    # An object of the old instance will never be fed.
    admin.execute("select clerk_sync.note_unfed(%s, '{user_old01}', '55P03', 'planted')", [feed])
    command.run("switch-instance", "--to", PRODUCTION, "--write")
    sync.process([new_user(name) for name in NAMES[:8]])
    assert len(rows(admin, "select from clerk_sync.unfed_rows")) == 8
    admin.execute("""select clerk_sync.retry_unfed('{"limit": 100, "seconds": 9}')""")
    assert len(owners(admin, "profiles")) == 12
    with monkeypatch.context() as patched:
        patched.setattr(steps, "_FINISH", "select 1 / 0")
        command.run("switch-instance", "--without-comparison", "--write", status=1)
    assert owners(admin, "tasks") == [*NEW, *KEPT]
    command.run("switch-instance", "--confirm", "--write", status=1)
    pairs = [option for name in NAMES[8:] for option in ("--pair", f"user_old{name}=user_new{name}")]
    command.run("switch-instance", "--without-comparison", *pairs, "--write", status=1)
    sync.process([new_user(name) for name in NAMES[8:]])
    command.run("switch-instance", "--without-comparison", *pairs, "--write")
    assert owners(admin, "notes") == [f"user_new{name}" for name in NAMES]
    assert value(admin, "select convalidated from pg_constraint where conname = 'notes_author_fkey'")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        admin.execute("insert into public.notes values ('user_old01', 'z')")
    assert value(admin, "select name from public.profiles where clerk_user_id = 'user_new09'") == "u09@a.test"
    assert owners(admin, "profiles") == owners(admin, "notes")
    for instance in (DEVELOPMENT, PRODUCTION):
        park(store, f"msg_{instance}", {"instance_id": instance})
    command.run("switch-instance", "--confirm", "--write")
    not_discarded = "select svix_id from clerk_sync.parked_events where body is not null and discarded_at is null"
    assert rows(admin, not_discarded) == [(f"msg_{PRODUCTION}",)]
    left = "select (select count(*) from clerk_sync.archived_rows) + (select count(*) from clerk_sync.successors)"
    assert value(admin, left) == 0
    assert value(admin, "select count(*) from clerk_sync.audit_log where new_values::text like '%user_old%'") == 0
    command.run("switch-instance", "--undo", "--write", status=1)


def test_a_batch_that_comes_while_the_instance_changes_is_of_one_instance_or_the_other(
    database: Database, admin: Connection, sync: Sync
) -> None:
    sync.process([old_user("01")])
    with database.connect() as operator, operator.transaction():
        operator.execute("select clerk_sync.begin_switch(%s, 'test')", [PRODUCTION])
        batch = started(lambda: sync.process([old_user("02"), new_user("01")]))
        eventually(lambda: waiting(admin), lambda sessions: sessions == 1)
    batch.join()
    assert users(admin) == ["user_new01"]
    assert wrong(admin) == {DEVELOPMENT: 1}
