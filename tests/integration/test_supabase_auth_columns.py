"""`clerk-supabase adopt supabase-auth move`: columns with uuids of users, of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.parked import Command
from tests.kit.supabase_auth import ADA, BOB, EVE, app_of_three, link, protection

STEPS = ("adopt", "supabase-auth")


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    """Ada and Bob own a project each, and Bob is a member of Ada's; Eve never verified her address."""
    return app_of_three(database, admin)


@pytest.fixture
def linked(command: Command, store: Store) -> Command:
    """Clerk has imported Ada and Bob, the mirror knows both, and the pairs are written."""
    link(command, store)
    return command


def test_a_generated_column_is_computed_from_the_new_id_and_keeps_all_that_hangs_on_it(
    linked: Command, admin: Connection
) -> None:
    admin.execute(
        """
        alter table public.notes add column path varchar(80) collate "C" not null
        generated always as ('/' || author::text) stored check (path <> '/')
        """
    )
    admin.execute("alter table public.notes add twin text generated always as (upper(author::text)) stored")
    admin.execute("alter table public.notes add unique (path, id), add check (twin <> path)")
    admin.execute("create index notes_pairs on public.notes (twin, path)")
    admin.execute("create index notes_paths on public.notes (lower(path)) where path > '/'")
    admin.execute("comment on column public.notes.path is 'of the author''s files'")
    admin.execute("create statistics public.notes_statistics on path, id from public.notes")
    admin.execute(
        """
        comment on index public.notes_pairs is 'of both';
        comment on constraint notes_path_id_key on public.notes is 'once';
        comment on index public.notes_path_id_key is 'behind the constraint';
        comment on constraint notes_path_check on public.notes is 'not empty';
        comment on statistics public.notes_statistics is 'together';
        alter table public.notes alter column path set statistics 7, alter column path set storage external,
        alter column path set (n_distinct = 9)
        """
    )
    admin.execute("grant select (path) on public.notes to anon with grant option")
    admin.execute("create view public.paths with (security_invoker = on) as select path from public.notes")
    admin.execute("grant select on public.paths to authenticated")
    admin.execute("create policy of_path on public.notes for delete to authenticated using (path = '/x')")
    admin.execute("insert into public.notes (author) values (%s)", [ADA])
    before = _of_column(admin), protection(admin)
    assert linked.json(*STEPS, "move", "notes", "--rehearse")["tables"][0]["outcome"] == "can be moved"
    linked.run(*STEPS, "move", "notes", "--write")
    assert (_of_column(admin), protection(admin)) == before
    assert rows(admin, "select path from public.paths") == [("/user_ada",)]


def _of_column(admin: Connection) -> list[tuple[Any, ...]]:
    return rows(
        admin,
        """
        select format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull, a.attacl::text,
            col_description(a.attrelid, a.attnum),
            array(select pg_get_indexdef(i.indexrelid) from pg_index as i where i.indrelid = a.attrelid order by 1),
            array(select k.conname || pg_get_constraintdef(k.oid) from pg_constraint as k
                where k.conrelid = a.attrelid and k.contype <> 'f' order by 1),
            array(select pg_get_statisticsobjdef(s.oid) from pg_statistic_ext as s where s.stxrelid = a.attrelid),
            array(select d.description from pg_description as d where d.description ~ '^(of both|once|behind|not|tog)'
                order by 1),
            a.attstattarget, a.attstorage, a.attoptions
        from pg_attribute as a where a.attrelid = 'public.notes'::regclass and a.attname = 'path'
        """,
    )


def test_a_column_that_cannot_be_moved_is_named_before_anything_is_done(linked: Command, admin: Connection) -> None:
    admin.execute(
        """
        create table public.a (u uuid references auth.users, g uuid generated always as (u) stored);
        create table public.b (u uuid, g uuid generated always as (u) stored references auth.users);
        create table public.c (u uuid references auth.users) partition by hash (u);
        create table public.d (u uuid references auth.users) partition by hash (left(u::text, 1));
        create table public.e (n integer, u uuid references auth.users) partition by list (n);
        create table public.part partition of public.e for values in (1) partition by list (u);
        create table public.f (
            n integer, u uuid references auth.users, g text generated always as ('/' || u::text) stored
        ) partition by list (n);
        """
    )
    expected = {
        "public.a": "public.a.g is a uuid that Postgres computes from a moved column: alter table ",
        "public.b": "Postgres computes public.b.g from other columns: drop this column, and",
        "public.c": "public.c.u is in the partition key of public.c, where Postgres changes no type: make a new table",
        "public.d": "public.d.u is in the partition key of public.d, where",
        "public.e": "public.e.u is in the partition key of public.part, where",
        "public.f": "public.f.g is computed from a moved column, and public.f has partitions or inherits: alter table",
    }
    before = protection(admin)
    for mode in ([], ["--write"]):
        found = linked.json(*STEPS, "move", *expected, *mode, status=1)["tables"]
        why = {each["tables"][0]: each["why"] for each in found}
        assert {table: reason.startswith(expected[table]) for table, reason in why.items()} == dict.fromkeys(
            expected, True
        )
    assert protection(admin) == before
    assert rows(admin, "select 1 from information_schema.columns where column_name like '%%_supabase'") == []


def test_tables_that_a_view_compares_are_moved_together(linked: Command, admin: Connection) -> None:
    admin.execute(
        """
        create view public.writers with (security_invoker = on) as
        select n.id from public.notes as n inner join public.projects as p on p.owner_id = n.author
        """
    )
    done = linked.json(*STEPS, "move", "notes", "--write")["tables"]
    assert [each["outcome"] for each in done] == ["moved"]
    assert {"public.notes", "public.projects"} <= {*done[0]["tables"]}


def test_a_column_without_a_key_is_moved_when_it_is_named(linked: Command, admin: Connection) -> None:
    linked.run(*STEPS, "move", "--write", "--column", "public.audit.actor")
    assert value(admin, "select actor from public.audit") == "user_bob"
    assert "no table is left to move" in linked.run(*STEPS, "move", "--column", "public.audit.actor").stdout


def test_texts_with_uuids_of_users_are_found_and_moved_with_the_other_columns(
    linked: Command, admin: Connection
) -> None:
    admin.execute(
        """
        create table public.events (
            id bigint generated always as identity primary key, owner varchar(36) default (auth.uid())::text,
            entity text default 'none', note text
        );
        alter table public.events enable row level security;
        create policy own_events on public.events to authenticated using (owner = (auth.uid())::text and exists (
            select from public.projects as p where p.owner_id::text = owner
        ));
        grant select, insert on public.events to authenticated
        """
    )
    statement = "insert into public.events (owner, entity, note) values (%s, %s, %s)"
    other = "00000009-0000-4000-8000-00000000abcd"
    for owner, entity in ((ADA.upper(), BOB), (BOB, other), (EVE, "system"), (None, "user_ada")):
        admin.execute(statement, [owner, entity, "x" * 36])
    columns = ["public.events.owner", "public.events.entity"]
    found = {each["column"]: each for each in linked.json(*STEPS, "inspect")["columns"]}
    assert [(found[name]["sampled"], found[name]["matching"]) for name in columns] == [(3, 3), (2, 1)]
    left = linked.run(*STEPS, "move").stdout
    assert all(f"move it, too: --column {name}" in left for name in columns)
    assert "public.events.note" not in left
    move = (*STEPS, "move", "--column", columns[0], "--column", columns[1])
    assert "public.events.owner (1 row of 1 user)" in linked.run(*move, "--write", status=1).stdout
    linked.run(*move, "--write", "--without-owner", "empty")
    assert rows(admin, "select owner, entity, owner_supabase from public.events order by id") == [
        ("user_ada", "user_bob", ADA.upper()),
        ("user_bob", other, BOB),
        (None, "system", EVE),
        (None, "user_ada", None),
    ]
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        admin.execute("insert into public.events (note) values ('new')")
        assert rows(admin, "select owner, entity from public.events order by id") == [
            ("user_ada", "user_bob"),
            ("user_ada", "none"),
        ]
    assert linked.json(*move, "--write")["tables"] == []
    failed = linked.run(*STEPS, "move", "--column", "public.events.note", status=1)
    assert "public.events.note holds no uuid of a user" in str(failed.exception)


def test_a_column_of_any_name_is_moved_by_the_name_that_the_inspection_prints(
    linked: Command, admin: Connection
) -> None:
    admin.execute('create table public."Audit.Log" ("actor Id" uuid, "user" uuid)')
    admin.execute('insert into public."Audit.Log" values (%s, %s)', [ADA, BOB])
    named = [each["column"] for each in linked.json(*STEPS, "inspect")["columns"] if "Log" in each["column"]]
    assert named == ['public."Audit.Log"."actor Id"', 'public."Audit.Log"."user"']
    for column in named:
        linked.run(*STEPS, "move", "--write", "--column", column)
    assert rows(admin, 'select "actor Id", "user" from public."Audit.Log"') == [("user_ada", "user_bob")]
    # The old ids are no columns that are left to move.
    found_by = {each["column"]: each["found_by"] for each in linked.json(*STEPS, "inspect")["columns"]}
    assert [column for column, how in found_by.items() if how != "move"] == ["public.audit.actor"]
    linked.run(*STEPS, "move", "--write", "--column", "public.audit.actor", "--drop-old")
    again = linked.run(*STEPS, "move", "--write", "--column", "public.audit.actor", "--drop-old")
    assert "no table is left to move" in again.stdout
    assert "there is no column x.y.z" in str(linked.run(*STEPS, "move", "--column", "x.y.z", status=1).exception)
    assert "is no name of a table" in str(linked.run(*STEPS, "move", "a.b.c.d", status=1).exception)
