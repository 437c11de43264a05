"""`clerk-supabase doctor` on the roles of a database: how they log in, and which rights and settings they have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.kit.databases import SESSION, WORKER, Connection, Database, Databases, at_port
from tests.kit.doctoring import Doctor
from tests.kit.tls import Authority, TlsTerminator

# Roads into the database


def test_a_wrong_password_of_the_worker_fails_its_login(doctor: Doctor, database: Database) -> None:
    wrong = database.worker_url.replace(database.worker_password, "not-its-password")
    verdict, words = doctor.verdict("worker-login", SYNC_DATABASE_URL=wrong)
    assert verdict == "fail"
    assert "password authentication failed" in words
    assert "not-its-password" not in words


def test_a_function_that_the_worker_may_not_call_any_more_fails_login_and_rights(
    doctor: Doctor, admin: Connection
) -> None:
    admin.execute("revoke execute on function clerk_sync.apply(jsonb) from clerk_sync_worker")
    report = doctor.examine("worker-login", "worker-rights", "session-login")
    assert report.verdicts == {"worker-login": "fail", "worker-rights": "fail", "session-login": "ok"}
    assert "clerk_sync_worker may not call clerk_sync.apply" in report.words("worker-rights")


def test_a_certificate_that_the_ca_file_vouches_for_is_good(doctor: Doctor, database: Database, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with TlsTerminator(database.server.port, authority.server("127.0.0.1")) as server:
        url = at_port(database.worker_url, server.port).removesuffix("?sslmode=disable")
        trusted = doctor.examine("worker-login", arguments=("--ca-file", str(authority.file)), SYNC_DATABASE_URL=url)
        stranger = doctor.examine(
            "worker-login",
            arguments=("--ca-file", str(Authority(tmp_path, "Stranger").file)),
            SYNC_DATABASE_URL=url,
        )
    assert trusted.verdicts == {"worker-login": "ok"}
    assert "the certificate is good" in trusted.words("worker-login")
    assert stranger.verdicts == {"worker-login": "fail"}
    assert "not the authority of this database" in stranger.words("worker-login")


def test_a_certificate_for_another_host_fails_the_login(doctor: Doctor, database: Database, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with TlsTerminator(database.server.port, authority.server("127.0.0.2")) as server:
        url = at_port(database.worker_url, server.port).removesuffix("?sslmode=disable")
        report = doctor.examine("worker-login", arguments=("--ca-file", str(authority.file)), SYNC_DATABASE_URL=url)
    assert report.verdicts == {"worker-login": "fail"}
    assert "another host" in report.words("worker-login")


def test_a_database_that_takes_no_writes_fails(doctor: Doctor, admin: Connection, database: Database) -> None:
    statement = sql.SQL("alter database {} set default_transaction_read_only = on")
    admin.execute(statement.format(sql.Identifier(database.name)))
    report = doctor.examine("database", "worker-login")
    assert report.verdicts == {"database": "fail", "worker-login": "fail"}
    assert "read-only" in report.words("database")


def test_the_document_names_the_versions_of_postgres_that_the_tests_run_on(doctor: Doctor) -> None:
    assert "this project is tested on 16 and 18" in doctor.examine("database").words("database")


# Rights


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("grant select on clerk.users to clerk_sync_worker", "may use the table clerk.users"),
        ("grant update (email) on clerk.users to public", "may use the table clerk.users"),
        ("grant execute on function clerk_sync.undo_run(jsonb) to public", "may call clerk_sync.undo_run"),
        ("revoke usage on schema clerk_sync from clerk_sync_worker", "may not use the schema clerk_sync"),
    ],
)
def test_more_or_fewer_rights_than_the_migrations_grant_fail(
    doctor: Doctor, admin: Connection, statement: LiteralString, said: str
) -> None:
    admin.execute(statement)
    verdict, words = doctor.verdict("worker-rights")
    assert verdict == "fail"
    assert said in words


@dataclass(frozen=True)
class Fault:
    """A fault of a role, and the statement that repairs the role: all databases of the tests share the roles."""

    check: str
    statement: LiteralString
    cure: LiteralString
    said: str


ROLE_FAULTS = [
    Fault(
        "worker-rights",
        "grant service_role to {worker}",
        "revoke service_role from {worker}",
        "can become service_role",
    ),
    Fault("worker-rights", "alter role {worker} bypassrls", "alter role {worker} nobypassrls", "is bypassrls"),
    Fault("worker-rights", "alter role {worker} nologin", "alter role {worker} login", "may not log in"),
    Fault(
        "session-rights",
        "revoke authenticated from {session}",
        "grant authenticated to {session}",
        "cannot become authenticated",
    ),
]


@pytest.mark.parametrize("fault", ROLE_FAULTS, ids=lambda fault: fault.said)
def test_a_role_with_a_changed_attribute_or_membership_fails(doctor: Doctor, admin: Connection, fault: Fault) -> None:
    names = {"worker": sql.Identifier(WORKER), "session": sql.Identifier(SESSION)}
    admin.execute(sql.SQL(fault.statement).format(**names))
    try:
        verdict, words = doctor.verdict(fault.check)
    finally:
        admin.execute(sql.SQL(fault.cure).format(**names))
    assert verdict == "fail"
    assert fault.said in words


# Settings that a role can change by itself


@pytest.mark.parametrize("role", [WORKER, SESSION])
@pytest.mark.parametrize("of_database", [False, True], ids=["everywhere", "in this database"])
@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"])
def test_a_limit_that_a_role_lifted_for_itself_is_found_and_what_is_printed_restores_it(
    setting: str, of_database: bool, role: str, database: Database, doctor: Doctor
) -> None:
    assert doctor.verdict("role-settings")[0] == "ok"
    where = sql.SQL("in database {}").format(sql.Identifier(database.name)) if of_database else sql.SQL("")
    url = database.worker_url if role == WORKER else database.session_url
    with psycopg.connect(url, autocommit=True) as itself:
        names = (sql.Identifier(role), where, sql.Identifier(setting))
        itself.execute(sql.SQL("alter role {} {} set {} = 0").format(*names))
    try:
        verdict, words = doctor.verdict("role-settings")
        assert verdict == "warn"
        assert f"{role}: {setting} is 0" in words
    finally:
        with database.connect() as admin:
            for statement in re.findall(r"alter role [^;]*;", words):
                admin.execute(statement)
    assert doctor.verdict("role-settings")[0] == "ok"


@pytest.mark.parametrize("of_database", [False, True], ids=["everywhere", "in this database"])
@pytest.mark.parametrize(
    ("role", "setting"),
    [
        (WORKER, "default_transaction_read_only = on"),
        (SESSION, "role = authenticated"),
        (SESSION, "search_path = attackers"),
    ],
)
def test_any_other_setting_that_a_role_made_for_itself_is_found_and_what_is_printed_ends_it(
    role: str, setting: LiteralString, of_database: bool, database: Database, doctor: Doctor
) -> None:
    name = setting.partition(" ")[0]
    where = sql.SQL("in database {}").format(sql.Identifier(database.name)) if of_database else sql.SQL("")
    url = database.worker_url if role == WORKER else database.session_url
    with psycopg.connect(url, autocommit=True) as itself:
        itself.execute(sql.SQL("alter role {} {} set {}").format(sql.Identifier(role), where, sql.SQL(setting)))
    try:
        verdict, words = doctor.verdict("role-settings")
        assert verdict == "warn"
        assert f"{role}: {name} is set" in words
    finally:
        with database.connect() as admin:
            for statement in re.findall(r"alter role [^;]*;", words):
                admin.execute(statement)
    assert doctor.verdict("role-settings")[0] == "ok"


@pytest.mark.parametrize(
    ("role", "setting"),
    [
        (WORKER, "default_transaction_read_only = on"),
        (WORKER, "role = authenticated"),
        (WORKER, "statement_timeout = 1"),
        (SESSION, "role = anon"),
    ],
)
def test_a_login_that_the_roles_own_settings_prevent_names_the_statements_that_end_them(
    role: str, setting: LiteralString, database: Database, doctor: Doctor, admin: Connection
) -> None:
    check = "worker-login" if role == WORKER else "session-login"
    where = sql.SQL("in database {}").format(sql.Identifier(database.name))
    admin.execute("grant anon, authenticated to clerk_sync_worker; grant anon to clerk_sync_session")
    admin.execute(sql.SQL("alter role {} {} set {}").format(sql.Identifier(role), where, sql.SQL(setting)))
    try:
        verdict, words = doctor.verdict(check)
        assert verdict == "fail"
        assert "settings of the role may be the cause: alter role" in words
        for statement in re.findall(r"alter role [^;]*;", words):
            admin.execute(statement)
        assert doctor.verdict(check)[0] == "ok"
    finally:
        admin.execute(sql.SQL("alter role {} {} reset all").format(sql.Identifier(role), where))
        admin.execute("revoke anon, authenticated from clerk_sync_worker; revoke anon from clerk_sync_session")


def test_a_wrong_password_is_no_matter_of_settings(doctor: Doctor, database: Database, admin: Connection) -> None:
    wrong = database.worker_url.replace(database.worker_password, "not-its-password")
    where = sql.SQL("in database {}").format(sql.Identifier(database.name))
    admin.execute(sql.SQL("alter role clerk_sync_worker {} set search_path = attackers").format(where))
    try:
        assert "give the role that password again" in doctor.verdict("worker-login", SYNC_DATABASE_URL=wrong)[1]
    finally:
        admin.execute(sql.SQL("alter role clerk_sync_worker {} reset all").format(where))


@pytest.mark.parametrize("role", [WORKER, SESSION])
def test_a_role_can_change_its_own_password_so_it_is_changed_after_a_leak(
    role: str, database: Database, databases: Databases
) -> None:
    url = database.worker_url if role == WORKER else database.session_url
    try:
        with psycopg.connect(url, autocommit=True) as itself:
            itself.execute(sql.SQL("alter role {} password 'the thief knows'").format(sql.Identifier(role)))
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
    finally:
        with database.connect() as admin:
            admin.execute(
                sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(databases.worker_password)
                )
            )
    psycopg.connect(url).close()
