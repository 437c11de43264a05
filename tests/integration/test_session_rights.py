"""The session function's role can apply changes and act as a user of the API, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from tests.integration.test_worker_rights import TABLES
from tests.kit.databases import Connection, Database, rows, value


@pytest.fixture
def session(shared_database: Database) -> Iterator[Connection]:
    with psycopg.connect(shared_database.session_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def superuser(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


@pytest.mark.parametrize("table", TABLES, ids=".".join)
def test_the_session_role_by_itself_can_do_nothing_with_a_table(session: Connection, table: tuple[str, str]) -> None:
    statements: list[LiteralString] = ["select 1 from {}", "insert into {} default values", "delete from {}"]
    for statement in statements:
        with pytest.raises(InsufficientPrivilege), session.transaction():
            session.execute(sql.SQL(statement).format(sql.Identifier(*table)))


def test_the_session_role_can_apply_record_left_out_fields_and_call_no_other_function_of_the_schema(
    superuser: Connection,
) -> None:
    query: LiteralString = """
        select p.oid::regprocedure::text from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'clerk_sync' and has_function_privilege('clerk_sync_session', p.oid, 'execute')
    """
    assert sorted(rows(superuser, query)) == [
        ("clerk_sync.apply(jsonb)",),
        ("clerk_sync.for_major(anyelement,integer)",),
        ("clerk_sync.mirror_schema()",),
        ("clerk_sync.record_dropped(jsonb)",),
        ("clerk_sync.version()",),
    ]


def test_the_session_role_can_become_a_user_of_the_api_and_nobody_else(
    session: Connection, superuser: Connection
) -> None:
    with session.transaction():
        session.execute("set local role authenticated")
        assert value(session, "select current_user::text") == "authenticated"
    for role in ("anon", "service_role", "postgres", "clerk_sync_worker"):
        with pytest.raises(InsufficientPrivilege):
            session.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    memberships: LiteralString = """
        select roleid::regrole::text from pg_auth_members where member = 'clerk_sync_session'::regrole
    """
    assert rows(superuser, memberships) == [("authenticated",)]


def test_the_session_role_cannot_grant_its_rights_to_others(session: Connection) -> None:
    with pytest.raises(InsufficientPrivilege):
        session.execute("grant authenticated to clerk_sync_worker")


def test_the_session_role_has_no_right_that_bypasses_row_level_security(superuser: Connection) -> None:
    query: LiteralString = """
        select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolinherit, rolcanlogin
        from pg_roles where rolname = 'clerk_sync_session'
    """
    assert rows(superuser, query) == [(False, False, False, False, False, False, True)]
