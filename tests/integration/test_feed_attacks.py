"""Feeds under attack: code of a caller never runs with the rights of the owner, and the mirror is no target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.integration.test_leaked_worker import element
from tests.kit.databases import Connection, Database, value
from tests.kit.feeding import USERS, mapping, switch, unfed

RETRY: LiteralString = """select clerk_sync.retry_unfed('{"limit": 100, "seconds": 5}')"""
SPY = """
    create function pg_temp.spy() returns trigger language plpgsql
    as $$ begin raise notice 'ran as %', current_user; return new; end $$
"""


@pytest.fixture(autouse=True)
def _app(admin: Connection) -> None:
    admin.execute(USERS)


@pytest.fixture
def session(database: Database) -> Iterator[Connection]:
    """A holder of the session's password."""
    with psycopg.connect(database.session_url, autocommit=True) as connection:
        yield connection


def test_a_trigger_planted_by_a_role_of_the_api_does_not_run_as_the_owner(
    session: Connection, admin: Connection
) -> None:
    # As Supabase's default privileges do.
    admin.execute("create table public.todos (owner uuid references public.users on delete cascade)")
    admin.execute("grant all on public.users, public.todos to anon, authenticated, service_role")
    switch(admin)
    assert not value(admin, "select has_table_privilege('authenticated', 'public.todos', 'trigger')")
    assert value(admin, "select has_table_privilege('authenticated', 'public.todos', 'insert')")
    ran: list[str] = []
    session.add_notice_handler(lambda notice: ran.append(notice.message_primary or ""))
    session.execute("set role authenticated")
    session.execute(SPY)
    plant = "create trigger spy before insert on public.users for each row execute function pg_temp.spy()"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(plant)
    # The right is given again, as by a later `grant all`.
    admin.execute("grant trigger on public.users to authenticated")
    assert "may create triggers" in value(admin, "select fault from clerk_sync.faults_of_feeds()")
    session.execute(plant)
    session.execute("reset role")
    session.execute("select clerk_sync.apply(%s::jsonb)", [json.dumps([element("user_1")])])
    assert ran == []
    assert unfed(admin) == [("user_1", "42501", "a trigger of a role of the API")]
    assert value(admin, "select count(*) from clerk.users") == 1


def test_a_trigger_that_waits_for_the_commit_does_not_run_as_the_owner(session: Connection, admin: Connection) -> None:
    admin.execute("create table public.todos (id int)")
    admin.execute("grant all on public.todos to authenticated")
    switch(admin)
    ran: list[str] = []
    session.add_notice_handler(lambda notice: ran.append(notice.message_primary or ""))
    session.execute("set role authenticated")
    session.execute(SPY)
    session.execute(
        "create constraint trigger spy after insert on public.todos deferrable initially deferred "
        "for each row execute function pg_temp.spy()"
    )
    with session.transaction():
        session.execute("insert into public.todos values (1)")
        session.execute("reset role")
        session.execute("select clerk_sync.apply(%s::jsonb)", [json.dumps([element("user_1")])])
        assert ran == []
    # Before Postgres 18 with the role at the commit, then with the role of the write.
    assert ran in (["ran as clerk_sync_session"], ["ran as authenticated"])
    # Meanwhile the feed waits.
    assert unfed(admin) == [("user_1", "42501", "a trigger of a role of the API")]
    admin.execute("drop trigger spy on public.todos")
    assert value(admin, RETRY)["written"] == 1


def test_no_name_of_a_constraint_calls_a_waiting_trigger_of_a_caller(admin: Connection) -> None:
    # The app's constraint and the caller's trigger have one name.
    admin.execute("alter table public.users add constraint late unique (first_name) deferrable initially deferred")
    admin.execute("create table public.todos (id int)")
    admin.execute(
        "create function public.spy() returns trigger language plpgsql "
        "as $$ begin raise notice 'ran'; return new; end $$"
    )
    admin.execute("alter function public.spy() owner to authenticated")
    admin.execute(
        "create constraint trigger late after insert on public.todos deferrable initially deferred "
        "for each row execute function public.spy()"
    )
    ran: list[str] = []
    admin.add_notice_handler(lambda notice: ran.append(notice.message_primary or ""))
    with admin.transaction():
        admin.execute("insert into public.todos values (1)")
        admin.execute("select clerk_sync.check_apps_keys_at_once('public, pg_temp')")
        assert ran == []
    assert ran == ["ran"]


def test_a_view_of_the_mirror_is_no_table_to_feed(admin: Connection) -> None:
    admin.execute("create view public.people as select clerk_id, email, first_name from clerk.users")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="mirror"):
        admin.execute(
            "select clerk_sync.prepare_feed(%s)",
            [Jsonb(mapping(table="public.people", key={"clerk_id": "mirror.clerk_id"}, on_delete="delete"))],
        )


def test_a_schema_in_which_everybody_creates_objects_is_named_with_a_remedy_that_works(admin: Connection) -> None:
    admin.execute("grant create on schema public to public")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="revoke create on schema public from public"):
        switch(admin)
    admin.execute("revoke create on schema public from public")
    switch(admin)
