"""Feeds: tables of the app that follow the mirror, whoever writes the mirror."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from clerk_supabase.postgres.store import Store
from clerk_supabase.telemetry import forget, metrics
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.feeding import USERS, mapping, switch, unfed, users_of_app
from tests.kit.histories import alone, delete, upsert
from tests.kit.reconciling import rig_with


@pytest.fixture(autouse=True)
def _app(admin: Connection) -> None:
    admin.execute(USERS)


def test_a_batch_inserts_updates_and_leaves_columns_of_the_app(store: Store, admin: Connection) -> None:
    admin.execute("insert into public.users (clerk_user_id, role) values ('user_1', 'admin'), (null, 'guest')")
    switch(admin)
    assert store.apply(alone(upsert("user_1"), upsert("user_2", first_name="Bea"))) == ["created", "created"]
    assert users_of_app(admin) == [
        ("user_1", "1@example.test", "Ada"),
        ("user_2", "2@example.test", "Bea"),
        (None, None, None),
    ]
    assert rows(admin, "select role from public.users order by clerk_user_id") == [("admin",), ("member",), ("guest",)]
    store.apply(alone(upsert("user_1", version=2, first_name="Augusta")))
    assert value(admin, "select first_name from public.users where clerk_user_id = 'user_1'") == "Augusta"


@pytest.mark.parametrize("who", ["owner", "service_role", "first login"])
def test_every_writer_of_the_mirror_is_followed(who: str, store: Store, admin: Connection) -> None:
    switch(admin)
    if who == "first login":
        with acting_as(admin, "authenticated", {"sub": "user_1", "role": "authenticated"}):
            admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
        assert users_of_app(admin) == [("user_1", None, None)]
        return
    store.apply(alone(upsert("user_1")))
    with acting_as(admin, "service_role" if who == "service_role" else "postgres"):
        admin.execute("update clerk.users set first_name = 'By hand'")
    assert users_of_app(admin) == [("user_1", "1@example.test", "By hand")]


def test_an_equal_row_is_not_written_and_fires_no_trigger(store: Store, admin: Connection) -> None:
    admin.execute("create table public.fired (what text)")
    admin.execute(
        "create function public.note() returns trigger language plpgsql as $$ "
        "begin insert into fired values (tg_when || ' ' || tg_op); return new; end $$"
    )
    admin.execute(
        "create trigger note before insert or update on public.users for each row execute function public.note()"
    )
    admin.execute(
        "insert into public.users (clerk_user_id, email, first_name) values ('user_1', '1@example.test', 'Ada')"
    )
    admin.execute("delete from public.fired")
    switch(admin)
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    store.apply(alone(upsert("user_1", version=2, username="other")))
    # The trigger found the table `fired` by its bare name, as in a session of the app.
    assert rows(admin, "select what from public.fired") == [("BEFORE INSERT",)]
    assert unfed(admin) == []


@pytest.mark.parametrize(
    ("on_delete", "after_delete", "after_undo"),
    [
        ("keep", [("user_1", "1@example.test", "Ada")], [("user_1", "1@example.test", "Ada")]),
        ("delete", [], [("user_1", "1@example.test", "Ada")]),
        ({"clear": ["email", "first_name"]}, [("user_1", None, None)], [("user_1", "1@example.test", "Ada")]),
    ],
)
def test_a_deleted_object_and_its_return(
    on_delete: Any, after_delete: Any, after_undo: Any, store: Store, admin: Connection
) -> None:
    switch(admin, on_delete=on_delete)
    store.apply(alone(upsert("user_1")))
    store.apply(alone(delete("user_1", at=10)))
    assert users_of_app(admin) == after_delete
    admin.execute("update clerk.users set deleted_at = null")
    assert users_of_app(admin) == after_undo
    admin.execute("delete from clerk.users")
    assert users_of_app(admin) == after_delete
    assert unfed(admin) == []


def test_without_insert_only_rows_of_the_app_are_updated(store: Store, admin: Connection) -> None:
    admin.execute("insert into public.users (clerk_user_id) values ('user_1')")
    switch(admin, insert=False)
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    assert users_of_app(admin) == [("user_1", "1@example.test", "Ada")]


def test_memberships_find_the_uuids_of_their_parents(store: Store, admin: Connection) -> None:
    admin.execute(
        "create table public.organizations (id uuid primary key default gen_random_uuid(), clerk_org_id text unique)"
    )
    admin.execute(
        "create table public.members (user_id uuid references public.users, "
        "org_id uuid references public.organizations, role text not null, primary key (user_id, org_id))"
    )
    switch(admin, insert=False)
    switch(
        admin,
        kind="membership",
        table="public.members",
        key={
            "user_id": "(select u.id from users as u where u.clerk_user_id = mirror.clerk_user_id)",
            "org_id": "(select o.id from organizations as o where o.clerk_org_id = mirror.clerk_org_id)",
        },
        update={"role": "mirror.role"},
        on_delete="delete",
    )
    admin.execute("insert into public.organizations (clerk_org_id) values ('org_1')")
    admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
    admin.execute("insert into clerk.organizations (clerk_org_id) values ('org_1')")
    admin.execute(
        "insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role) "
        "values ('orgmem_1', 'org_1', 'user_1', 'org:admin')"
    )
    assert unfed(admin) == [("orgmem_1", "23502", "a column of the key is null: a row it needs is missing")]

    admin.execute("insert into public.users (clerk_user_id) values ('user_1')")
    assert value(admin, """select clerk_sync.retry_unfed('{"limit": 10, "seconds": 5}')""")["left"] == 0
    members: LiteralString = (
        "select clerk_user_id, clerk_org_id, m.role from public.members as m join public.users as u on u.id = user_id "
        "join public.organizations as o on o.id = org_id"
    )
    assert rows(admin, members) == [("user_1", "org_1", "org:admin")]
    admin.execute("update clerk.organization_memberships set deleted_at = now()")
    assert rows(admin, members) == []


def test_a_membership_that_the_mirror_lost_is_found_by_the_ids_of_its_parents_when_it_is_tried_again(
    admin: Connection,
) -> None:
    admin.execute(
        """
        create table public.members (user_id uuid references public.users, org text, primary key (user_id, org));
        create function public.stop() returns trigger language plpgsql as $$ begin raise 'not yet'; end $$;
        insert into public.users (clerk_user_id) values ('user_1')
        """
    )
    feed = switch(
        admin,
        kind="membership",
        table="public.members",
        key={
            "user_id": "(select u.id from users as u where u.clerk_user_id = MIRROR.clerk_user_id)",
            "org": "clerk_org_id",
        },
        update={},
        on_delete="delete",
    )
    admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
    admin.execute("insert into clerk.organizations (clerk_org_id) values ('org_1')")
    admin.execute(
        """
        insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role)
        values ('orgmem_1', 'org_1', 'user_1', 'org:member')
        """
    )
    assert value(admin, "select count(*) from public.members") == 1
    admin.execute("create trigger stop before delete on public.members for each row execute function public.stop()")
    admin.execute("delete from clerk.organization_memberships")
    assert rows(admin, "select object_id, key_of_gone from clerk_sync.unfed_rows") == [
        ("orgmem_1", {"clerk_user_id": "user_1", "clerk_org_id": "org_1"})
    ]
    retry: LiteralString = """select clerk_sync.retry_unfed('{"limit": 10, "seconds": 5}')"""
    assert value(admin, retry) | {"oldest_seconds": 0} == {"tried": 1, "written": 0, "left": 1, "oldest_seconds": 0}
    admin.execute("drop trigger stop on public.members")
    assert value(admin, retry)["written"] == 1
    assert (unfed(admin), value(admin, "select count(*) from public.members")) == ([], 0)
    # Without these ids nobody can say which row it was.
    admin.execute("select clerk_sync.note_unfed(%s, '{orgmem_2}', '55P03', 'planted')", [feed])
    assert value(admin, retry)["written"] == 0
    assert [(code, "delete or clear its row here" in reason) for _, code, reason in unfed(admin)] == [("02000", True)]


STRANGE: list[tuple[str, LiteralString, dict[str, Any]]] = [
    (
        "quoted names, enum, not null",
        """
        create type public."Role" as enum ('USER', 'ADMIN');
        create table public."User" (
            id text primary key default gen_random_uuid(), "clerkUserId" text unique, "firstName" varchar(40),
            "role" public."Role", "updatedAt" timestamptz(0) not null
        )
        """,
        {
            "table": 'public."User"',
            "key": {"clerkUserId": "mirror.clerk_id"},
            "update": {"firstName": "mirror.first_name", "role": "'USER'"},
            "on_insert": {"updatedAt": "now()"},
        },
    ),
    (
        "no unique key, generated column, json, a domain",
        """
        create domain public.short as varchar(20);
        create table public.people (
            clerk text, name public.short, meta json, upper_name text generated always as (upper(name)) stored,
            score numeric(5, 1)
        );
        create index on public.people (clerk)
        """,
        {
            "table": "public.people",
            "key": {"clerk": "mirror.clerk_id"},
            "update": {"name": "mirror.first_name", "meta": "mirror.public_metadata", "score": "1.26"},
        },
    ),
    (
        "partitioned",
        """
        create table public.people (clerk text, region text, name text, primary key (clerk, region))
        partition by list (region);
        create table public.people_eu partition of public.people default
        """,
        {
            "table": "public.people",
            "key": {"clerk": "mirror.clerk_id", "region": "'eu'"},
            "update": {"name": "mirror.first_name"},
        },
    ),
    (
        "a view with triggers",
        """
        create table public.real_people (clerk text primary key, name text);
        create view public.people as select clerk, name from public.real_people where clerk <> '';
        create function public.put() returns trigger language plpgsql as $$ begin
            if tg_op = 'DELETE' then delete from real_people where clerk = old.clerk; return old; end if;
            insert into real_people values (new.clerk, new.name) on conflict (clerk) do update set name = new.name;
            return new;
        end $$;
        create trigger put instead of insert or update or delete on public.people
        for each row execute function public.put()
        """,
        {"table": "public.people", "key": {"clerk": "mirror.clerk_id"}, "update": {"name": "mirror.first_name"}},
    ),
]


@pytest.mark.parametrize(("shape", "change"), [each[1:] for each in STRANGE], ids=[each[0] for each in STRANGE])
def test_strange_tables_are_followed(
    shape: LiteralString, change: dict[str, Any], store: Store, admin: Connection
) -> None:
    admin.execute(shape)
    feed = switch(admin, on_delete="delete", **change)
    name = next(name for name in ("firstName", "name") if name in change["update"])
    names: Any = f'select "{name}"::text from {change["table"]}'  # noqa: S608 - names of this test
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    store.apply(alone(upsert("user_1", version=2, first_name="Augusta"), upsert("user_2", version=2)))
    assert unfed(admin) == []
    assert sorted(rows(admin, names)) == [("Ada",), ("Augusta",)]
    # Equal to the mirror: a comparison has nothing to write.
    page = value(admin, "select clerk_sync.fill_feed(%s)", Jsonb({"feed": feed, "limit": 10}))
    assert (page["compared"], page["to update"], page["written"]) == (2, 0, 0)
    store.apply(alone(delete("user_1", at=10)))
    assert rows(admin, names) == [("Ada",)]


def test_no_row_is_inserted_twice_when_a_trigger_of_the_app_inserts_it_first(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create table public.people (clerk text, name text);
        insert into public.people values ('user_1', 'Old');
        create function public.add_friend() returns trigger language plpgsql as $$
        begin insert into people values ('user_2', 'Ada'); return null; end $$;
        create trigger add_friend after update on public.people for each row execute function public.add_friend()
        """
    )
    store.apply(alone(upsert("user_1"), upsert("user_2")))
    feed = switch(admin, table="public.people", key={"clerk": "mirror.clerk_id"}, update={"name": "mirror.first_name"})
    value(admin, "select clerk_sync.fill_feed(%s)", Jsonb({"feed": feed, "limit": 10}))
    assert unfed(admin) == []
    assert rows(admin, "select clerk, name from public.people order by clerk") == [("user_1", "Ada"), ("user_2", "Ada")]


def test_a_type_that_postgres_would_compare_as_a_number_is_compared_as_a_text(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create type public.tag;
        create function public.tag_in(cstring) returns public.tag language internal immutable strict as 'textin';
        create function public.tag_out(public.tag) returns cstring language internal immutable strict as 'textout';
        create type public.tag (input = public.tag_in, output = public.tag_out, like = text);
        create function public.length_of(public.tag) returns integer language sql as 'select length($1::text)';
        create cast (public.tag as integer) with function public.length_of(public.tag) as implicit;
        create table public.tagged (clerk text primary key, name public.tag)
        """
    )
    name = "mirror.first_name::public.tag"
    switch(admin, table="public.tagged", key={"clerk": "mirror.clerk_id"}, update={"name": name})
    store.apply(alone(upsert("user_1", first_name="Ada")))
    store.apply(alone(upsert("user_1", version=2, first_name="Eve")))
    assert unfed(admin) == []
    assert rows(admin, "select name::text from public.tagged") == [("Eve",)]


REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"table": "public.nothing"}, "there is no table public.nothing"),
    ({"kind": "nothing"}, "kind is none of"),
    ({"table": "clerk.users", "key": {"clerk_id": "mirror.clerk_id"}}, "is a table of the mirror itself"),
    ({"update": {"e_mail": "mirror.email"}}, "public.users has no column e_mail"),
    ({"update": {"email": "mirror.e_mail"}}, "an expression cannot be used: column mirror.e_mail does not exist"),
    ({"update": {"email": "mirror.email +"}}, "an expression cannot be used: syntax error"),
    ({"update": {"clerk_user_id": "mirror.email"}}, "the column clerk_user_id is mapped twice"),
    ({"on_delete": {"clear": ["role"]}}, "the column role takes no null"),
    ({"key": {}}, "no key is mapped"),
    ({"guard": True, "key": {"clerk_user_id": "(select mirror.clerk_id)"}}, "a guard needs a key"),
]


@pytest.mark.parametrize(("different", "sentence"), REJECTED)
def test_a_mapping_that_cannot_be_used_is_rejected_with_a_sentence(
    different: dict[str, Any], sentence: str, admin: Connection
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=sentence.replace("(", r"\(").replace("+", r"\+")):
        admin.execute("select clerk_sync.prepare_feed(%s)", [Jsonb(mapping(**different))])
    assert value(admin, "select count(*) from clerk_sync.feeds") == 0


def test_a_foreign_key_may_change_a_column_that_a_guarded_feed_only_fills_at_first(
    store: Store, admin: Connection
) -> None:
    admin.execute("create table public.teams (id integer primary key); insert into public.teams values (7)")
    admin.execute("alter table public.users add column team integer references public.teams on delete set null")
    switch(admin, guard=True, on_insert={"team": "7"})
    store.apply(alone(upsert("user_1")))
    assert value(admin, "select team from public.users") == 7
    admin.execute("delete from public.teams")
    assert value(admin, "select team from public.users") is None


def test_a_view_is_rejected_with_the_statement_that_it_does_not_take(admin: Connection) -> None:
    admin.execute(
        """
        create view public.shown as select distinct u.* from public.users as u;
        create function public.write_it() returns trigger language plpgsql as $$ begin return new; end $$
        """
    )
    wanted = [Jsonb(mapping(table="public.shown", on_delete="delete"))]
    for statement in ("update", "insert", "delete"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"public.shown takes no {statement}s"):
            admin.execute("select clerk_sync.prepare_feed(%s)", wanted)
        trigger = f"instead of {statement} on public.shown for each row execute function public.write_it()"
        admin.execute(f"create trigger takes_{statement} {trigger}")


def test_no_feed_is_made_while_a_role_of_the_api_may_create_objects_that_the_feed_would_call(admin: Connection) -> None:
    switch(admin)
    admin.execute("grant create on schema public to authenticated")
    words = "authenticated may create objects in the schema public"
    assert words in value(admin, "select fault from clerk_sync.faults_of_feeds()")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=words):
        switch(admin)


def test_two_feeds_of_a_kind_and_a_trigger_that_writes_the_mirror_again(store: Store, admin: Connection) -> None:
    admin.execute("create table public.names (clerk_id text primary key, name text)")
    admin.execute("alter table clerk.users add column app_id uuid")
    admin.execute(
        "create function public.link() returns trigger language plpgsql as $$ "
        "begin update clerk.users set app_id = new.id where clerk_id = new.clerk_user_id; return null; end $$"
    )
    admin.execute("create trigger link after insert on public.users for each row execute function public.link()")
    switch(admin)
    switch(admin, table="public.names", key={"clerk_id": "mirror.clerk_id"}, update={"name": "mirror.first_name"})
    assert store.apply(alone(upsert("user_1"))) == ["created"]
    assert rows(admin, "select clerk_id, name from public.names") == [("user_1", "Ada")]
    assert value(admin, "select u.app_id = a.id from clerk.users as u cross join public.users as a")
    assert unfed(admin) == []


def test_triggers_that_write_each_other_without_end_only_leave_the_row_unfed(store: Store, admin: Connection) -> None:
    admin.execute(
        "create function public.again() returns trigger language plpgsql as $$ begin "
        "update clerk.users set first_name = first_name || '!' where clerk_id = new.clerk_user_id; return null; end $$"
    )
    admin.execute(
        "create trigger again after insert or update on public.users for each row execute function public.again()"
    )
    switch(admin)
    assert store.apply(alone(upsert("user_1"))) == ["altered"]
    assert [(code, reason) for _, code, reason in unfed(admin)] == [
        ("57014", "not tried: triggers write to the mirror again and again")
    ]


def test_a_dropped_feed_leaves_the_rows_and_nothing_else(store: Store, admin: Connection) -> None:
    feed = switch(admin, guard=True)
    store.apply(alone(upsert("user_1")))
    for _ in range(2):
        admin.execute("select clerk_sync.drop_feed(%s)", [feed])
    store.apply(alone(upsert("user_2")))
    assert users_of_app(admin) == [("user_1", "1@example.test", "Ada")]
    left = "select count(*) from pg_proc where pronamespace = 'clerk_sync'::regnamespace and proname ~ 'feed_[0-9]'"
    assert value(admin, left) == 0


def test_an_expression_that_fails_for_one_row_leaves_only_that_row_unfed(store: Store, admin: Connection) -> None:
    store.apply(alone(*(upsert(f"user_{n}", first_name="Bad" if n == 3 else "Ada") for n in range(1, 7))))
    feed = switch(admin, update={"first_name": "(select 1 / (length(mirror.first_name) - length('Bad')) || '')"})
    admin.execute("update clerk.users set first_name = 'Augusta' where clerk_id <> 'user_3'")
    admin.execute("delete from public.users where clerk_user_id = 'user_1'")
    admin.execute("select clerk_sync.note_unfed(%s, '{user_3,user_5}', '55P03', 'planted')", [feed])
    page = value(admin, "select clerk_sync.fill_feed(%s)", Jsonb({"feed": feed, "limit": 10}))
    assert (page["failing"], page["to insert"], page["written"], page["not written"]) == (1, 1, 1, 1)
    retried = value(admin, """select clerk_sync.retry_unfed('{"limit": 10, "seconds": 5}')""")
    assert (retried["written"], retried["left"]) == (1, 1)
    assert [(each, code) for each, code, _ in unfed(admin)] == [("user_3", "22012")]
    assert value(admin, "select count(*) from public.users where first_name = '0'") == 5


def test_a_run_compares_fewer_rows_at_once_where_the_time_of_a_statement_is_not_enough(database: Database) -> None:
    with rig_with(database, 12) as rig:
        rig.run()
        # Of a statement's time there is enough for three rows: no test waits for a clock.
        rig.admin.execute(
            "create function public.slow(name text) returns text language plpgsql as $$ declare "
            "n constant int := 1 + coalesce(nullif(current_setting('test.n', true), ''), '0')::int; begin "
            "if n > 3 then raise query_canceled; end if; perform set_config('test.n', n::text, true); return name; "
            "end $$"
        )
        switch(rig.admin, update={"first_name": "public.slow(mirror.first_name)"})
        assert rig.run(dry_run=True).state == "complete"
        assert rig.run(dry_run=True).counts["feed public.users"]["to insert"] == 12


def test_a_full_run_compares_the_fed_table_and_a_quick_run_tries_unfed_rows_again(database: Database) -> None:
    with rig_with(database, 30) as rig:
        rig.run()
        switch(rig.admin, on_delete="delete")
        assert rig.run().counts["feed public.users"]["to insert"] == 30
        assert value(rig.admin, "select count(*) from public.users") == 30
        rig.admin.execute(
            "delete from public.users where clerk_user_id = (select min(clerk_user_id) from public.users)"
        )
        rig.admin.execute("update public.users set first_name = 'Edited by hand'")

        dry = rig.run(dry_run=True).counts["feed public.users"]
        assert (dry["to insert"], dry["to update"], dry["written"], dry["not written"]) == (1, 29, 0, 0)
        full = rig.run()
        assert full.state == "complete"
        found = full.counts["feed public.users"]
        assert (found["compared"], found["to insert"], found["to update"], found["written"]) == (30, 1, 29, 30)
        assert rig.run().counts["feed public.users"]["written"] == 0

        rig.admin.execute("select clerk_sync.note_unfed(feed_id, '{gone}', '55P03', 'planted') from clerk_sync.feeds")
        forget()
        rig.run("quick")
        assert unfed(rig.admin) == []
        assert metrics.metric_set["UnfedRows"]["Value"] == [0]


def test_a_living_object_that_the_mirror_lost_is_listed_and_keeps_its_row(store: Store, admin: Connection) -> None:
    switch(admin, on_delete="delete")
    store.apply(alone(upsert("user_1")))
    admin.execute("truncate clerk.users cascade")
    admin.execute("delete from clerk_sync.unfed_rows")
    admin.execute("select clerk_sync.feed_again(f, '{user_1}', '5 seconds') from clerk_sync.feeds as f")
    assert [(object_id, code) for object_id, code, _ in unfed(admin)] == [("user_1", "02000")]
    assert len(users_of_app(admin)) == 1


def test_a_truncated_mirror_takes_no_row_of_the_app_with_it_and_deletes_meanwhile_are_followed(
    database: Database,
) -> None:
    with rig_with(database, 4) as rig:
        rig.run()
        switch(rig.admin, on_delete="delete")
        rig.run()
        rig.admin.execute("update public.users set role = 'admin'")
        gone, *living = sorted(rig.world.users)

        rig.admin.execute("truncate clerk.users cascade")
        assert [(object_id, code) for object_id, code, _ in unfed(rig.admin)] == [(i, "02000") for i in (gone, *living)]
        # Neither the truncate nor a retry before the comparison proves a delete.
        assert value(rig.admin, """select clerk_sync.retry_unfed('{"limit": 100, "seconds": 5}')""")["written"] == 0
        assert value(rig.admin, "select count(*) from public.users where role = 'admin'") == 4

        rig.world.remove_user(gone)
        rig.store.apply(alone(delete(gone, at=rig.world.now)))
        rig.run()
        assert rows(rig.admin, "select clerk_user_id from public.users where role = 'admin' order by 1") == [
            (i,) for i in living
        ]
        assert unfed(rig.admin) == []
