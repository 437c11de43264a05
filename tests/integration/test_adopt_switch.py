"""`clerk-supabase adopt switch` and `adopt undo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt import feeds
from clerk_supabase_cli.adopt.mapping import read_mappings
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.install.migrations import differing_objects
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.doctoring import Doctor
from tests.kit.feeding import USERS, unfed, users_of_app
from tests.kit.histories import alone, upsert

MAPPING = """
[users]
table = "public.users"
key = "clerk_user_id"
update = ["email", "first_name"]
guard = true
"""


@pytest.fixture
def file(tmp_path: Path, admin: Connection, store: Store) -> Path:
    """A mapping, a table of the app with a row, and a mirror with three users."""
    admin.execute(USERS)
    admin.execute("insert into public.users (clerk_user_id, email) values ('user_1', 'old@example.test')")
    store.apply(alone(*(upsert(f"user_{number}") for number in (1, 2, 3))))
    (tmp_path / "adopt.toml").write_text(MAPPING)
    return tmp_path / "adopt.toml"


def adopt(database: Database, *arguments: object) -> Result:
    words = ["adopt", *map(str, arguments), "--database-url", database.url]
    return CliRunner().invoke(commands, words, catch_exceptions=False)


def answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_dry_run_counts_and_changes_nothing(file: Path, database: Database, admin: Connection) -> None:
    [planned] = answer(adopt(database, "switch", "--mapping", file, "--json"))["outlook"]
    assert (planned["objects"], planned["inserts"], planned["updates"], planned["deletes"]) == (3, 2, 1, 0)
    assert "nothing was changed" in adopt(database, "switch", "--mapping", file).output
    assert len(users_of_app(admin)) == 1
    assert value(admin, "select count(*) from clerk_sync.feeds") == 0


def test_a_switch_fills_the_table_and_an_undo_leaves_the_rows(
    file: Path, database: Database, admin: Connection, store: Store, root: Path
) -> None:
    for written in (3, 0):
        [filled] = answer(adopt(database, "switch", "--mapping", file, "--write", "--json"))["filled"]
        assert (filled["compared"], filled["written"], filled["unfed"]) == (3, written, 0)
    store.apply(alone(upsert("user_4")))
    assert len(users_of_app(admin)) == 4
    # Feeds are the app's configuration, no damage.
    assert differing_objects(admin, root) == []
    assert value(admin, "select fault from clerk_sync.faults_of_feeds()") is None

    assert answer(adopt(database, "undo", "--json"))["changed"] is False
    for changed in (True, False):
        assert answer(adopt(database, "undo", "--write", "--json"))["changed"] is changed
    store.apply(alone(upsert("user_5")))
    assert len(users_of_app(admin)) == 4


def test_a_killed_back_fill_goes_on(
    file: Path, database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_PAGE", 1)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    [mapping] = read_mappings(file)
    with database.connect() as connection:
        number = feeds.switch(connection, database.url, mapping, print)
        with pytest.raises(Killed):
            feeds.fill(connection, number, die)
        assert rows(admin, "select filled_after, is_filled from clerk_sync.feeds") == [("user_1", False)]
        assert value(admin, "select fault from clerk_sync.faults_of_feeds()") == "the back-fill has not ended"
        filled = feeds.fill(connection, number, lambda *_: None)
    assert (filled.compared, filled.written) == (2, 2)
    assert len(users_of_app(admin)) == 3


def test_a_back_fill_locks_objects_no_longer_than_a_second_or_two_at_once(
    file: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first page takes longer than a page should, however fast the machine is.
    monkeypatch.setattr(feeds, "_FIRST_PAGE", 2)
    monkeypatch.setattr(feeds, "_PAGE_SECONDS", 0.0)
    pages: list[int] = []
    [mapping] = read_mappings(file)
    with database.connect() as connection:
        number = feeds.switch(connection, database.url, mapping, print)
        feeds.fill(connection, number, lambda done, _: pages.append(done))
    assert pages == [2, 3, 3]


def test_a_table_that_was_moved_is_followed_at_its_new_place_and_by_one_guard(
    file: Path, database: Database, admin: Connection, doctor: Doctor
) -> None:
    adopt(database, "switch", "--mapping", file, "--write")
    admin.execute("create schema app; alter table public.users set schema app", prepare=False)
    assert "the table is missing: name its successor in adopt.toml" in doctor.verdict("feeds")[1]
    file.write_text(MAPPING.replace("public.users", "app.users"))
    adopt(database, "switch", "--mapping", file, "--write")
    assert doctor.verdict("feeds")[0] == "ok"
    guards = "select count(*) from pg_trigger where tgrelid = 'app.users'::regclass and not tgisinternal"
    assert value(admin, guards) == 1
    # Another table of the name, without a guard.
    admin.execute("alter table app.users rename to people; create table app.users (like app.people)", prepare=False)
    assert "a trigger is missing or disabled: zz_clerk_guard" in doctor.verdict("feeds")[1]


def test_a_feed_that_the_mapping_no_longer_names_is_told_and_ended_alone(
    file: Path, database: Database, admin: Connection
) -> None:
    adopt(database, "switch", "--mapping", file, "--write")
    admin.execute("create table public.people (like public.users including all)")
    file.write_text(MAPPING.replace("public.users", "public.people"))
    said = adopt(database, "switch", "--mapping", file, "--write").stdout
    command = "clerk-supabase adopt undo --table 'public.users' --write"
    assert command in said
    assert answer(adopt(database, "undo", "--table", "public.users", "--write", "--json"))["changed"]
    assert rows(admin, "select target from clerk_sync.feeds") == [("public.people",)]


def test_the_dry_run_names_the_rights_that_the_switch_takes(file: Path, database: Database, admin: Connection) -> None:
    # As Supabase's default privileges do.
    admin.execute("grant all on public.users to anon, authenticated; grant trigger on public.users to public")
    assert (
        "revoke trigger on public.users from anon, authenticated, public;"
        in adopt(database, "switch", "--mapping", file).stdout
    )
    assert value(admin, "select has_table_privilege('anon', 'public.users', 'trigger')")


def test_a_row_that_cannot_be_written_is_shown_and_tried_again(
    file: Path, database: Database, admin: Connection
) -> None:
    admin.execute("insert into public.users (email) values ('2@example.test')")
    said = adopt(database, "switch", "--mapping", file, "--write").output
    assert "1 unfed" in said
    # The object is named, too: nobody has to ask the database which row it is.
    assert "  public.users: users_email_key\n    user_2\n" in said
    assert adopt(database, "switch", "--retry").output.endswith(
        "0 written, 1 left\n" + said.partition("1 unfed\n")[2].rpartition("correct")[0]
    )
    assert [reason for _, _, reason in unfed(admin)] == ["users_email_key"]
    explained = CliRunner().invoke(commands, ["explain", "user_2", "--database-url", database.url]).output
    assert "unfed                public.users: users_email_key" in explained
    status = CliRunner().invoke(commands, ["status", "--database-url", database.url])
    assert status.exit_code == 1
    assert "1 row of public.users is not written since" in " ".join(status.output.split())
    admin.execute("delete from public.users where clerk_user_id is null")
    assert "1 written, 0 left" in adopt(database, "switch", "--retry").output
    assert unfed(admin) == []


def test_a_mapping_that_cannot_be_used_changes_nothing(file: Path, database: Database, admin: Connection) -> None:
    file.write_text(MAPPING.replace('"first_name"]', '"nothing"]'))
    with pytest.raises(feeds.NotSwitched, match=r"\[users\] public.users has no column nothing"):
        adopt(database, "switch", "--mapping", file, "--write")
    assert value(admin, "select count(*) from clerk_sync.feeds") == 0


def test_doctor_names_a_disabled_trigger_an_altered_table_and_unfed_rows(
    file: Path, database: Database, admin: Connection, doctor: Doctor
) -> None:
    assert doctor.verdict("feeds")[0] == "ok"
    adopt(database, "switch", "--mapping", file, "--write")
    assert "these tables follow the mirror: public.users" in doctor.verdict("feeds")[1]
    [name] = [each for (each,) in rows(admin, "select tgname from pg_trigger where tgname ~ 'feed_[0-9]+_update'")]
    for damage, fault in (
        (f"alter table clerk.users disable trigger {name}", f"a trigger is missing or disabled: {name}"),
        (f"alter table clerk.users enable trigger {name}", None),
        ("alter table public.users alter column email type varchar(90)", "a function is not as the mapping makes it"),
        ("alter table public.users drop column email", "public.users has no column email"),
    ):
        admin.execute(damage.encode())
        verdict, words = doctor.verdict("feeds")
        assert verdict == ("ok" if fault is None else "fail")
        assert (fault or "") in words
    admin.execute("select clerk_sync.note_unfed(feed_id, '{user_1}', '55P03', 'planted') from clerk_sync.feeds")
    assert "1 row of public.users is not written" in doctor.verdict("feeds")[1]
