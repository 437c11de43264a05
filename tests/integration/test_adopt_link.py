"""`adopt link`: a row of the app is linked to a user only with proof, and nobody takes over another person's row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.checking import check_mappings
from clerk_supabase_cli.adopt.links.planning import Links
from clerk_supabase_cli.adopt.links.proofs import Proofs
from clerk_supabase_cli.adopt.links.writing import Writer, write_links
from clerk_supabase_cli.adopt.mapping import parse_mappings
from clerk_supabase_cli.adopt.tables import reading
from clerk_supabase_cli.operate.database import DatabaseFailed, open_database
from tests.kit.app_shape import fingerprint, mirrored
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import alone, delete
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command
from tests.kit.polling import eventually

MAPPING = """
[users]
table = "public.users"
key = "clerk_user_id"
update = { email = "mirror.email" }
"""


@pytest.fixture
def command(database: Database, admin: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    admin.execute(
        "create table public.users (id integer primary key, clerk_user_id text unique, email text, "
        "confirmed_at timestamptz default now(), old_id text)"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adopt.toml").write_text(MAPPING)
    return Command({"DATABASE_URL": database.url})


def row(admin: Connection, number: int, email: str | None, **columns: str | None) -> None:
    admin.execute(
        "insert into public.users (id, email, clerk_user_id, old_id) values (%s, %s, %s, %s)",
        [number, email, columns.get("clerk_user_id"), columns.get("old_id")],
    )


def user(name: str, email: str, status: str = "verified", version: int = 1, **fields: Any) -> Any:
    address = {"id": "idn_1", "email_address": email, "verification": {"status": status}}
    return mirrored(f"user_{name}", version=version, email_addresses=[address], **fields)


def linked(admin: Connection) -> dict[int, str]:
    return dict(rows(admin, "select id, clerk_user_id from public.users where clerk_user_id is not null"))


def left(found: dict[str, Any]) -> dict[int, str]:
    return {each["row"]["id"]: each["reason"] for each in found["left"]}


def test_without_a_column_for_the_address_the_command_says_so_and_which_option_names_one(
    command: Command, admin: Connection, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "adopt.toml").write_text(MAPPING.replace('update = { email = "mirror.email" }', ""))
    row(admin, 1, "Ada@example.test")
    store.apply(alone(user("ada", "ada@example.test")))
    said = command.run("adopt", "link").stdout
    assert "no row was looked up by its address, because adopt.toml maps no column to mirror.email" in said
    assert "no e-mail address" not in said
    assert "1 by email" in command.run("adopt", "link", "--email-column", "email").stdout


def test_a_verified_address_of_one_user_and_one_row_links_after_a_dry_run_that_changes_nothing(
    command: Command, admin: Connection, store: Store
) -> None:
    row(admin, 1, "Ada@example.test")
    row(admin, 2, None)
    store.apply(alone(user("ada", "ada@example.test")))
    before = fingerprint(admin)
    looked = command.json("adopt", "link")
    assert fingerprint(admin) == before
    assert looked["links"] == [{"row": {"id": 1}, "found_by": "email", "clerk_id": "user_ada"}]
    assert left(looked) == {2: "no_address"}
    said = command.run("adopt", "link").stdout
    # A line for each pair, so that a long id is not broken.
    assert "  can be linked by email\n    1 user_ada\n  left to you: the row has no e-mail address\n    2\n" in said

    done = command.json("adopt", "link", "--write")
    assert done["links"] == looked["links"]
    assert linked(admin) == {1: "user_ada"}
    assert rows(admin, "select relation, key_column, row_key, clerk_id, found_by from clerk_sync.links") == [
        ("public.users", "clerk_user_id", {"id": 1}, "user_ada", "email")
    ]
    assert command.json("adopt", "link", "--write")["links"] == []


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        (("ada@example.test", "mallory@example.test"), "nobody"),
        # The Kelvin sign, whose small letter is k; the dotted I, whose small letter begins with i.
        (("kate@example.test", "\u212aate@example.test"), "nobody"),
        (("ida@example.test", "\u0130da@example.test"), "nobody"),
        # A Cyrillic a, a wide a, and a sign for Dr that become others under NFKC or by their looks.
        (("ada@example.test", "\u0430da@example.test"), "nobody"),
        (("ada@example.test", "\uff41da@example.test"), "nobody"),
        (("e\u0301va@example.test", "\u00e9va@example.test"), "nobody"),
        (("ada@example.test", "ada+mallory@example.test"), "nobody"),
        (("ada@example.test", "a.da@example.test"), "nobody"),
        (("ada@example.test", "ada@example.test."), "nobody"),
        ((" ada@example.test", "ada@example.test"), "no_address"),
    ],
)
def test_an_address_that_only_looks_alike_links_nothing(
    addresses: tuple[str, str], reason: str, command: Command, admin: Connection, store: Store
) -> None:
    theirs, mallorys = addresses
    row(admin, 1, theirs)
    store.apply(alone(user("mallory", mallorys)))
    found = command.json("adopt", "link", "--write")
    assert (found["links"], left(found), linked(admin)) == ([], {1: reason}, {})


def test_an_unverified_a_shared_and_a_taken_address_link_nothing(
    command: Command, admin: Connection, store: Store
) -> None:
    row(admin, 1, "unverified@example.test")
    row(admin, 2, "two-users@example.test")
    row(admin, 3, "two-rows@example.test")
    row(admin, 4, "TWO-ROWS@example.test")
    row(admin, 5, "taken@example.test")
    row(admin, 6, "other@example.test", clerk_user_id="user_taken")
    row(admin, 7, "gone@example.test")
    row(admin, 8, "not-here@example.test")
    row(admin, 9, "linked-row@example.test", clerk_user_id="user_of_somebody")
    row(admin, 10, "linked-row@example.test")
    admin.execute("update public.users set confirmed_at = null where id = 8")
    store.apply(
        alone(
            user("unverified", "unverified@example.test", "unverified"),
            user("first", "two-users@example.test"),
            user("second", "two-users@example.test"),
            user("rows", "two-rows@example.test"),
            user("taken", "taken@example.test"),
            user("gone", "gone@example.test"),
            user("not_here", "not-here@example.test"),
            user("new", "linked-row@example.test"),
        )
    )
    store.apply(alone(delete("user_gone", at=9)))
    before = linked(admin)
    found = command.json("adopt", "link", "--write", "--their-verified", "theirs.confirmed_at is not null")
    assert left(found) == {
        1: "unverified",
        **dict.fromkeys((2, 3, 4, 10), "ambiguous"),
        5: "taken",
        7: "nobody",
        8: "unverified_here",
    }
    assert (found["links"], linked(admin)) == ([], before)


def test_a_second_user_with_the_address_unverified_neither_links_nor_keeps_the_owner_away(
    command: Command, admin: Connection, store: Store
) -> None:
    row(admin, 1, "ada@example.test")
    store.apply(alone(user("mallory", "ada@example.test", "unverified"), user("ada", "ada@example.test")))
    command.run("adopt", "link", "--write")
    assert linked(admin) == {1: "user_ada"}


def test_an_address_that_changes_after_the_dry_run_links_nothing(
    command: Command, admin: Connection, store: Store, tmp_path: Path
) -> None:
    for number, name in enumerate(("ada", "eve", "bo")):
        row(admin, number, f"{name}@example.test")
        store.apply(alone(user(name, f"{name}@example.test")))
    seen = tmp_path / "seen.json"
    seen.write_text(json.dumps(command.json("adopt", "link")))
    # In Clerk, in the app, and onto the row of another person.
    store.apply(alone(user("ada", "ada@example.test", "unverified", version=2)))
    admin.execute("update public.users set email = 'eve-2@example.test' where id = 1")
    store.apply(alone(user("mallory", "bo@example.test"), user("bo", "bo-2@example.test", version=2)))
    assert command.json("adopt", "link", "--write", "--seen", str(seen))["links"] == []
    assert linked(admin) == {}


def test_an_address_that_changes_during_the_write_links_nothing(
    command: Command, admin: Connection, store: Store, database: Database
) -> None:
    row(admin, 1, "ada@example.test")
    store.apply(alone(user("ada", "ada@example.test")))
    with database.connect() as other, other.transaction():
        other.execute("update clerk.users set email_verified = false")
        writing = started(lambda: command.run("adopt", "link", "--write"))
        eventually(lambda: waiting(admin), lambda number: number == 1)
    writing.join()
    assert linked(admin) == {}


def test_an_id_in_another_column_counts_more_than_an_external_id_and_this_more_than_an_address(
    command: Command, admin: Connection, store: Store
) -> None:
    row(admin, 1, "ada@example.test", old_id="user_eve")
    row(admin, 2, "eve@example.test")
    row(admin, 3, "eve@example.test", old_id="user_nobody")
    row(admin, 4, "bo@example.test")
    store.apply(
        alone(
            user("ada", "ada@example.test", external_id="2"),
            user("eve", "eve@example.test"),
            user("bo", "bo@example.test", external_id="1"),
        )
    )
    found = command.json("adopt", "link", "--write", "--id-column", "old_id")
    assert linked(admin) == {1: "user_eve", 2: "user_ada", 4: "user_bo"}
    assert left(found) == {3: "unknown"}
    assert [each["found_by"] for each in found["links"]] == ["id", "external_id", "email"]


def test_an_external_id_that_is_the_number_of_something_else_takes_no_row_from_its_owner(
    command: Command, admin: Connection, store: Store
) -> None:
    for number, name in enumerate(("ada", "eve", "bo", "cyd"), 1):
        row(admin, number, f"{name}@example.test")
    admin.execute("update public.users set confirmed_at = null where id = 2")
    store.apply(
        alone(
            user("eve", "eve@example.test", external_id="1"),
            user("ada", "ada@example.test", external_id="2"),
            user("bo", "bo@example.test", external_id="3"),
            user("dan", "dan@example.test", external_id="4"),
        )
    )
    found = command.json("adopt", "link", "--write", "--their-verified", "theirs.confirmed_at is not null")
    # Nobody proved the address of row 2, and nobody in Clerk has the address of row 4.
    assert linked(admin) == {2: "user_ada", 3: "user_bo", 4: "user_dan"}
    assert left(found) == {1: "contradicted"}


def test_undo_takes_back_exactly_the_recorded_links(command: Command, admin: Connection, store: Store) -> None:
    assert "no id was written by adopt link\nthere is nothing" in command.run("adopt", "undo", "--links").stdout
    row(admin, 0, "x@example.test", clerk_user_id="user_x")
    for number, name in enumerate(("ada", "eve", "bo"), 1):
        row(admin, number, f"{name}@example.test")
        store.apply(alone(user(name, f"{name}@example.test")))
    command.run("adopt", "link", "--write")
    admin.execute("update public.users set clerk_user_id = 'user_other' where id = 2")
    before = linked(admin)
    why = "taken back; the other rows have another id since, or are gone\n"
    looked = command.run("adopt", "undo", "--links").stdout
    assert looked.endswith(f"public.users: 2 of 3 ids can be {why}nothing was changed; add --write to do it\n")
    assert linked(admin) == before
    assert f"public.users: 2 of 3 ids were {why}" in command.run("adopt", "undo", "--links", "--write").stdout
    assert linked(admin) == {0: "user_x", 2: "user_other"}
    assert rows(admin, "select count(*) from clerk_sync.links where undone_at is not null") == [(2,)]
    assert command.json("adopt", "undo", "--links", "--write")["changed"] is False


def test_a_row_that_the_app_rejects_is_listed_and_the_others_are_linked(
    command: Command, admin: Connection, store: Store
) -> None:
    for number, name in enumerate(("ada", "eve", "bo"), 1):
        row(admin, number, f"{name}@example.test")
        store.apply(alone(user(name, f"{name}@example.test")))
    admin.execute("alter table public.users add check (clerk_user_id <> 'user_eve')")
    found = command.json("adopt", "link", "--write")
    assert linked(admin) == {1: "user_ada", 3: "user_bo"}
    assert "violates check constraint" in left(found)[2]


def test_a_row_that_a_trigger_changes_is_listed_and_keeps_no_id_of_somebody_else(
    command: Command, admin: Connection, store: Store
) -> None:
    names = ("kept", "emptied", "stopped", "given", "later")
    for number, name in enumerate(names, 1):
        row(admin, number, f"{name}@example.test")
        store.apply(alone(user(name, f"{name}@example.test")))
    admin.execute(
        """
        create function public.meddle() returns trigger language plpgsql as $$ begin
            if new.id = 3 then return null; end if;
            new.clerk_user_id := case new.id when 2 then null when 4 then 'user_kept' else new.clerk_user_id end;
            return new;
        end $$;
        create function public.meddle_later() returns trigger language plpgsql as $$ begin
            update public.users set old_id = 'x', clerk_user_id = null where id = 5 and old_id is null;
            return null;
        end $$;
        create trigger meddle before update on public.users for each row execute function public.meddle();
        create trigger later after update on public.users for each row execute function public.meddle_later();
        alter table public.users drop constraint users_clerk_user_id_key;
        """
    )
    found = command.json("adopt", "link", "--write")
    assert linked(admin) == {1: "user_kept"}
    assert left(found) == dict.fromkeys((2, 3, 4, 5), "failed: a trigger of the app keeps another value")
    assert rows(admin, "select clerk_id from clerk_sync.links") == [("user_kept",)]


def test_a_reference_checked_at_the_end_of_the_transaction_holds_up_no_other_row(
    command: Command, admin: Connection, store: Store
) -> None:
    for number, name in enumerate(("ada", "eve", "bo"), 1):
        row(admin, number, f"{name}@example.test")
        store.apply(alone(user(name, f"{name}@example.test")))
    admin.execute(
        "create table public.known (id text primary key); insert into public.known values ('user_ada'), ('user_bo');"
        "alter table public.users add foreign key (clerk_user_id) references public.known deferrable initially deferred"
    )
    assert "violates foreign key" in left(command.json("adopt", "link", "--write"))[2]
    assert linked(admin) == {1: "user_ada", 3: "user_bo"}


def test_a_table_that_rejects_every_row_is_searched_without_a_plan_for_each_attempt(
    command: Command, admin: Connection, store: Store
) -> None:
    for number in range(64):
        row(admin, number, f"{number}@example.test")
    store.apply(alone(*(user(str(number), f"{number}@example.test") for number in range(64))))
    admin.execute(
        """
        alter table public.users add check (clerk_user_id is null);
        create sequence public.plans;
        create function public.counted() returns boolean language plpgsql as $$ begin
            if current_setting('transaction_read_only') = 'off' then perform nextval('public.plans'); end if;
            return true;
        end $$;
        """
    )
    counting = "case when theirs.id = 0 then public.counted() else true end"
    assert len(command.json("adopt", "link", "--write", "--their-verified", counting)["left"]) == 64
    # On a slow machine each batch finds one row.
    assert value(admin, "select last_value from public.plans") <= 64


def test_a_search_for_rejected_rows_goes_on_in_the_next_transaction_and_does_not_begin_again(
    command: Command, admin: Connection, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(16):
        row(admin, number, f"{number}@example.test")
    store.apply(alone(*(user(str(number), f"{number}@example.test") for number in range(16))))
    # A sequence counts attempts that are rolled back, too.
    admin.execute(
        """
        create sequence public.attempts;
        alter table public.users add check (clerk_user_id is null or nextval('public.attempts') < 0);
        """
    )
    monkeypatch.setattr("clerk_supabase_cli.adopt.parts._SECONDS", 0.0)
    assert len(command.json("adopt", "link", "--write")["left"]) == 16
    # All 16 rows, each half once, and each row alone.
    assert value(admin, "select last_value from public.attempts") == 31


def test_a_row_that_the_role_does_not_see_is_no_reason_to_link_another_with_its_address(
    command: Command, admin: Connection, database: Database, store: Store
) -> None:
    row(admin, 1, "ada@example.test")
    row(admin, 2, "ADA@example.test")
    store.apply(alone(user("ada", "ada@example.test")))
    admin.execute(
        """
        grant usage on schema clerk_sync to authenticated;
        grant select on clerk_sync.kinds, clerk.users to authenticated;
        alter table clerk_sync.kinds disable row level security;
        alter table clerk.users disable row level security;
        grant select, insert on public.users to authenticated;
        alter table public.users enable row level security;
        create policy second on public.users using (id = 2);
        """
    )

    def plan() -> None:
        with open_database(database.url) as connection:
            connection.execute("set role authenticated")
            with reading(connection, seconds=60):
                [checked] = check_mappings(connection, parse_mappings(MAPPING))
                Links(checked, Proofs(email_column="email")).plan(connection)

    with pytest.raises(DatabaseFailed, match="connect as a role that sees all rows"):
        plan()


def test_a_column_about_verification_that_is_no_yes_or_no_is_asked_about(
    command: Command, admin: Connection, store: Store
) -> None:
    admin.execute("alter table public.users add email_verified smallint not null default 0")
    row(admin, 1, "ada@example.test")
    store.apply(alone(user("ada", "ada@example.test")))
    failed = command.run("adopt", "link", "--write", status=1)
    assert "a column email_verified of the type smallint" in str(failed.exception)
    assert command.json("adopt", "link", "--write", "--their-verified", "theirs.email_verified = 1")["links"] == []
    assert linked(admin) == {}


def test_a_row_is_found_again_by_a_session_in_another_zone_of_time(
    command: Command, admin: Connection, database: Database, store: Store, tmp_path: Path
) -> None:
    admin.execute(
        "alter table public.users add at timestamptz default '2025-01-01Z', drop constraint users_pkey;"
        "alter table public.users add primary key (id, at)"
    )
    row(admin, 1, "ada@example.test")
    store.apply(alone(user("ada", "ada@example.test")))
    (tmp_path / "seen.json").write_text(command.run("adopt", "link", "--json").stdout)
    admin.execute(f"alter database {database.name} set timezone = 'Asia/Tokyo'".encode())
    assert len(command.json("adopt", "link", "--write", "--seen", "seen.json")["links"]) == 1
    admin.execute(f"alter database {database.name} reset timezone".encode())
    assert "1 of 1 ids were taken back" in command.run("adopt", "undo", "--links", "--write").stdout


@pytest.mark.parametrize(
    "expression",
    ["true); delete from public.users; --", "theirs.nothing", "theirs.email"],
)
def test_an_expression_that_is_none_links_nothing(expression: str, command: Command, admin: Connection) -> None:
    row(admin, 1, "ada@example.test")
    before = fingerprint(admin)
    command.run("adopt", "link", "--their-verified", expression, status=2 if ";" in expression else 1)
    assert fingerprint(admin) == before


def test_a_batch_judges_its_own_rows_alone_and_not_the_whole_table_again(
    command: Command, admin: Connection, store: Store, database: Database
) -> None:
    numbers = range(8)
    for number in numbers:
        row(admin, number, f"u{number}@example.test")
    store.apply(alone(*(user(f"{number}", f"u{number}@example.test") for number in numbers)))
    admin.execute("create sequence public.judged")
    with open_database(database.url) as connection:
        [checked] = check_mappings(connection, parse_mappings(MAPPING))
        links = Links(checked, Proofs(email_column="email", their_verified="nextval('public.judged') > 0"))
        planned = links.plan(connection).links
        written, left_over = write_links(links, Writer(connection, database.url, "me", print), planned, most=3)
    assert (len(written), left_over, len(linked(admin))) == (8, [], 8)
    # Once for the plan, and once in the batch.
    assert rows(admin, "select last_value from public.judged") == [(16,)]


def test_a_batch_sees_the_rows_and_users_outside_the_batch(
    command: Command, admin: Connection, store: Store, database: Database
) -> None:
    for number, name in enumerate(("ada", "eve", "bo", "id", "own", "sue", "kim")):
        row(admin, number, f"{name}@example.test", old_id={"id": "user_id"}.get(name))
        store.apply(alone(user(name, f"{name}@example.test", external_id={"own": "4"}.get(name))))
    row(admin, 7, "zed@example.test")
    store.apply(alone(user("seven", "seven@example.test", external_id="7")))
    with open_database(database.url) as connection:
        [checked] = check_mappings(connection, parse_mappings(MAPPING))
        links = Links(checked, Proofs(id_column="old_id", email_column="email", their_verified="true"))
        planned = links.plan(connection).links
        assert len(planned) == 8
        # Another row with Ada's address, another user with Eve's, another row of Bo, another row that names a user, and
        # another user with an external id, another row that Kim's external id proves, another user with the address of
        # a row that an external id proves: all after the plan, and none in a batch.
        row(admin, 10, "ADA@example.test")
        store.apply(alone(user("eve_2", "eve@example.test"), user("own_2", "own-2@example.test", external_id="4")))
        row(admin, 11, "bo-2@example.test", clerk_user_id="user_bo")
        row(admin, 12, "id-2@example.test", old_id="user_id")
        row(admin, 13, "kim-2@example.test")
        store.apply(alone(user("kim", "kim@example.test", version=2, external_id="13")))
        store.apply(alone(user("zed", "zed@example.test")))
        written, left_over = write_links(links, Writer(connection, database.url, "me", print), planned, most=1)
    assert [each.row for each in written] == [{"id": 5}]
    others = (0, 1, 2, 3, 4, 6, 7)
    assert {(each.row["id"], each.reason) for each in left_over} == {(number, "changed") for number in others}
    assert linked(admin) == {5: "user_sue", 11: "user_bo"}
