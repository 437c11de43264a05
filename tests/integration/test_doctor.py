"""`clerk-supabase doctor` on a database, without a stack: each check fails when its fault is present."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from clerk_supabase.model.kinds import SYNCED_TYPES
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.doctor.examination import examine
from clerk_supabase_cli.doctor.patient import Named, Patient
from clerk_supabase_cli.doctor.registry import CHECKS
from clerk_supabase_cli.doctor.verdicts import Check, Finding, Verdict, ok
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey
from tests.kit.databases import SESSION, WORKER, Connection, Database, Databases, at_port, rows
from tests.kit.doctoring import Doctor
from tests.kit.parked import park
from tests.kit.supabase import PROJECTS, Project, Supabase
from tests.kit.tls import Authority, TlsTerminator

KEY = SigningKey.generate()
OF_THE_DATABASE = {
    *("database", "worker-login", "session-login", "worker-rights", "session-rights", "role-settings"),
    *("migrations", "objects", "row-level-security", "grants", "parked"),
}


@pytest.fixture
def doctor(database: Database) -> Doctor:
    return Doctor(
        {
            "DATABASE_URL": database.url,
            "SYNC_DATABASE_URL": database.worker_url,
            "SESSION_DATABASE_URL": database.session_url,
        }
    )


def test_a_migrated_database_passes_and_checks_of_unnamed_parts_are_skipped(doctor: Doctor) -> None:
    report = doctor.examine()
    assert {name for name, verdict in report.verdicts.items() if verdict == "ok"} == OF_THE_DATABASE
    assert {name for name, verdict in report.verdicts.items() if verdict == "warn"} == {
        *("event-types", "reconcile", "compared"),
    }
    assert "fail" not in report.verdicts.values()
    assert "CLERK_SUPABASE_STACK" in report.words("queues")
    assert "--token" in report.words("supabase-auth")


def test_the_output_for_machines_keeps_its_shape(doctor: Doctor) -> None:
    report = doctor.examine("migrations", "queues")
    assert [sorted(check) for check in report.checks] == [["findings", "looks_at", "name", "seconds", "verdict"]] * 2
    assert [sorted(check["findings"][0]) for check in report.checks] == [["todo", "verdict", "words"]] * 2
    assert [check["verdict"] for check in report.checks] == ["ok", "skipped"]


def test_every_check_has_a_name_of_its_own_and_says_what_it_looks_at() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.looks_at for check in CHECKS)


def test_for_people_the_doctor_prints_a_line_for_each_check_with_advice_and_a_count(
    doctor: Doctor, admin: Connection
) -> None:
    admin.execute("delete from clerk_sync.migrations where name like '0022%'")
    arguments = ["doctor", "--check", "database", "--check", "migrations"]
    result = CliRunner().invoke(commands, arguments, env=doctor.environment)
    assert result.exit_code == 1
    first, second, advice, _, count = result.stdout.splitlines()
    assert first.startswith("ok      database")
    assert second.startswith("fail    migrations")
    assert "0022_create_canary" in second
    assert advice.strip() == "-> clerk-supabase migrate"
    assert count == "1 fail, 1 ok"


def test_without_a_stack_and_a_database_there_is_nothing_to_look_at() -> None:
    result = CliRunner().invoke(commands, ["doctor"], env={"DATABASE_URL": None, "CLERK_SUPABASE_STACK": None})
    assert result.exit_code == 2
    assert "CLERK_SUPABASE_STACK" in result.output


# One check never stops another


@pytest.fixture
def patient(root: Path) -> Patient:
    return Patient(Named(root))


def test_a_check_that_hangs_is_given_up_and_the_next_one_runs(patient: Patient) -> None:
    never = threading.Event()

    def hangs(_: Patient) -> Iterator[Finding]:
        yield ok("so far")
        never.wait()
        yield ok("never said")

    checks = [Check("hangs", "", hangs, seconds=0.1), Check("next", "", lambda _: iter([ok("well")]))]
    first, second = examine(patient, checks)
    never.set()
    assert [finding.verdict for finding in first.findings] == [Verdict.OK, Verdict.FAIL]
    assert "no answer within" in first.findings[1].words
    assert (first.verdict, second.verdict) == (Verdict.FAIL, Verdict.OK)


def test_a_check_that_breaks_fails_alone_and_repeats_nothing_it_met(patient: Patient) -> None:
    def breaks(_: Patient) -> Iterator[Finding]:
        yield ok("so far")
        raise ValueError("postgresql://ada:hunter2@db")

    checks = [Check("breaks", "", breaks), Check("next", "", lambda _: iter([ok("well")]))]
    first, second = examine(patient, checks)
    assert (first.verdict, second.verdict) == (Verdict.FAIL, Verdict.OK)
    assert "ValueError" in first.findings[-1].words
    assert "hunter2" not in repr(first)


def test_a_database_that_cannot_be_reached_fails_once_and_the_other_checks_run(doctor: Doctor) -> None:
    nowhere = f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/postgres"
    report = doctor.examine(DATABASE_URL=nowhere)
    assert [name for name, verdict in report.verdicts.items() if verdict == "fail"] == ["database"]
    assert "cannot be reached" in report.words("database")
    assert "Supabase's dashboard" in report.words("database")
    assert "as said above" in report.words("migrations")
    assert report.verdicts["worker-login"] == "ok"
    assert "hunter2" not in report.text


def test_a_text_that_is_no_connection_string_is_not_repeated(doctor: Doctor) -> None:
    report = doctor.examine(DATABASE_URL="hunter2 at home", SYNC_DATABASE_URL="hunter2=1")
    failed = {name for name, verdict in report.verdicts.items() if verdict == "fail"}
    assert failed == {"database", "worker-address", "database-tls", "worker-login"}
    assert "hunter2" not in report.text


Compared = Callable[[str, str], None]


@pytest.fixture
def compared(admin: Connection) -> Compared:
    """Inserts a comparison of a mode that ended in a state."""
    statement: LiteralString = """
        insert into clerk_sync.reconcile_runs (mode, is_dry_run, versions_only, state, reason, as_of, finished_at)
        values (%s, false, false, %s, 'for a reason', 1, now())
    """

    def enter(mode: str, state: str) -> None:
        admin.execute(statement, [mode, state])

    return enter


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
    assert "the tests of this bundle run on 16 and 18" in doctor.examine("database").words("database")


# Rights


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("grant select on public.users to clerk_sync_worker", "may use the table public.users"),
        ("grant update (email) on public.users to public", "may use the table public.users"),
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


# Migrations


def test_a_migration_that_is_missing_altered_or_unknown_is_named(doctor: Doctor, admin: Connection) -> None:
    admin.execute("delete from clerk_sync.migrations where name like '0021%'")
    admin.execute("update clerk_sync.migrations set checksum = 'another' where name like '0003%'")
    admin.execute("insert into clerk_sync.migrations (name) values ('9999_from_the_future')")
    verdict, words = doctor.verdict("migrations")
    assert verdict == "fail"
    missing, altered, unknown = words.splitlines()
    assert "not applied: 0021_create_session_role" in missing
    assert "changed after they were applied: 0003_create_audit_log" in altered
    assert "9999_from_the_future" in unknown


def test_migrations_that_another_tool_applied_pass(doctor: Doctor, admin: Connection) -> None:
    admin.execute("update clerk_sync.migrations set checksum = null")
    assert doctor.verdict("migrations")[0] == "ok"


def test_a_database_without_migrations_says_what_to_type(doctor: Doctor, new_database: str) -> None:
    report = doctor.examine("migrations", "row-level-security", "grants", "reconcile", DATABASE_URL=new_database)
    assert set(report.verdicts.values()) == {"fail"}
    for name in report.verdicts:
        assert "clerk-supabase migrate" in report.words(name)


# Policies


@pytest.mark.parametrize(
    ("fault", "verdict", "said"),
    [
        ("alter table public.users disable row level security", "fail", "off for public.users"),
        ("drop table public.organization_domains", "fail", "no table public.organization_domains"),
        ("alter table clerk_sync.entities disable row level security", "fail", "off for clerk_sync.entities"),
        ("drop policy users_read_own on public.users", "fail", "public.users lacks the policies users_read_own"),
        ("create policy mine on public.users for select using (true)", "warn", "allow more: mine"),
        ("grant usage on schema clerk_sync to authenticated", "fail", "authenticated may use the schema"),
        ("create table public.notes (id int primary key)", "warn", "off for public.notes"),
        (
            """create schema shown; create table shown.notes (id int primary key);
            grant usage on schema shown to anon; grant select on shown.notes to anon""",
            "warn",
            "off for shown.notes",
        ),
        (
            "create view public.people as select * from public.users; grant select on public.people to anon",
            "fail",
            "public.users: the view public.people shows its rows to anon, without its policies",
        ),
    ],
)
def test_a_gap_in_row_level_security_is_named(
    doctor: Doctor, admin: Connection, fault: LiteralString, verdict: str, said: str
) -> None:
    admin.execute(fault)
    found, words = doctor.verdict("row-level-security")
    assert (found, said in words) == (verdict, True), words


FAULTS_OF_A_SECURED_TABLE = [
    ("select", "ok", "on for all"),
    ("alter table {table} disable row level security", "fail", "its row-level security is off"),
    ("drop policy clerk_sync_delete on {table}", "fail", "it lacks the policies clerk_sync_delete"),
    ("alter policy clerk_sync_select on {table} using (id > 0)", "fail", "no longer asks who the caller is"),
    ("create policy mine on {table} for select using (id > 0)", "warn", "its policy mine allows more"),
    ("create view {schema}.v as select * from {table}; grant select on {schema}.v to anon", "fail", "shows its rows"),
    (
        "create materialized view {schema}.m as select * from {table}; grant select on {schema}.m to authenticated",
        "fail",
        "shows its rows to authenticated",
    ),
    ("create view {schema}.v as select * from {table}; revoke all on {schema}.v from anon", "ok", "on for all"),
    ("create rule r as on insert to {table} do also notify inserted", "fail", "the rule r on"),
    (
        "create table {schema}.child () inherits ({table}); alter table {schema}.child enable row level security",
        "fail",
        "child",
    ),
    ("grant truncate on {table} to anon", "fail", "anon has the right to truncate"),
    ("grant all on {table} to service_role", "warn", "service_role has the right to"),
    ("alter table {table} owner to service_role", "fail", "its owner service_role passes its policies"),
    (
        """create function {schema}.f() returns bigint language sql security definer as 'select count(*) from {table}';
        grant execute on function {schema}.f() to anon""",
        "warn",
        "f() mentions it, and anon",
    ),
    ("create publication mine for table {table}", "ok", "on for all"),
]


@pytest.mark.parametrize(("fault", "verdict", "said"), FAULTS_OF_A_SECURED_TABLE)
def test_a_table_that_was_secured_must_stay_so_whatever_its_schema(
    doctor: Doctor, admin: Connection, fault: LiteralString, verdict: str, said: str
) -> None:
    names = {"schema": sql.Identifier("Of the app"), "table": sql.Identifier("Of the app", "notes")}
    create: LiteralString = """
        create schema {schema};
        grant usage on schema {schema} to anon, authenticated;
        create table {table} (id int primary key);
        select clerk_sync.secure('"Of the app".notes', 'user');
    """
    admin.execute(sql.SQL(create).format(**names))
    admin.execute(sql.SQL(fault).format(**names))
    found, words = doctor.verdict("row-level-security")
    assert (found, said in words) == (verdict, True), words
    assert verdict == "ok" or '"Of the app".notes' in words


def test_a_cause_that_several_tables_share_is_named_once(doctor: Doctor, admin: Connection) -> None:
    admin.execute("""
        create table public.notes (id int primary key);
        create table public.lists (id int primary key);
        select clerk_sync.secure('public.notes', 'user'), clerk_sync.secure('public.lists', 'user');
        create view public.pairs as select n.id from public.notes as n cross join public.lists as l;
        grant select on public.pairs to anon;
    """)
    words = doctor.verdict("row-level-security")[1]
    assert words == (
        "public.lists, public.notes: the view public.pairs shows its rows to anon, without its policies"
        " -> alter view public.pairs set (security_invoker = on)"
    )


GUIDE: LiteralString = "revoke execute on all functions in schema public from public, anon, authenticated"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (GUIDE, "anon may not execute public.requesting_claims(), public.requesting_user_id(), "),
        (GUIDE, "authenticated may not execute public.requesting_claims(), public.requesting_user_id(), "),
        ("revoke select on clerk_sync.caller from authenticated", "select (clerk_id) of clerk_sync.caller"),
        (
            "revoke select (role) on clerk_sync.memberships_of_caller from authenticated",
            "authenticated may not select (clerk_org_id, role, permissions) of clerk_sync.memberships_of_caller",
        ),
        (
            "revoke execute on function clerk_sync.requesting_user_id(jsonb) from authenticated",
            "authenticated may not execute clerk_sync.requesting_user_id(jsonb)",
        ),
        ("revoke insert (clerk_id) on public.users from authenticated", "insert (clerk_id) of public.users"),
        ("revoke select on public.organizations from authenticated", "may not select public.organizations"),
        ("revoke delete on public.users from service_role", "service_role may not delete public.users"),
    ],
)
def test_a_right_that_policies_or_apps_need_is_missed_and_given_back_by_the_advice(
    doctor: Doctor, admin: Connection, fault: LiteralString, said: str
) -> None:
    admin.execute(fault)
    verdict, words = doctor.verdict("grants")
    assert (verdict, said in words) == ("fail", True), words
    for advice in re.findall(r"in SQL, as the owner: (.*;)", words):
        admin.execute(advice)
    assert doctor.verdict("grants")[0] == "ok"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_on_a_project_of_supabases_only_rights_that_were_revoked_afterwards_are_missed(
    project: Project, supabase: Supabase
) -> None:
    checks = ("database", "worker-rights", "session-rights", "migrations", "grants")
    report = Doctor({"DATABASE_URL": supabase.url(project)}).examine(*checks)
    bad = [name for name, verdict in report.verdicts.items() if verdict != "ok"]
    assert bad == (["grants"] if project.after_migrations else []), report.text


def test_a_function_of_the_apps_names_that_was_dropped_is_missed(doctor: Doctor, admin: Connection) -> None:
    admin.execute("drop function public.requesting_permissions()")
    verdict, words = doctor.verdict("grants")
    assert verdict == "fail"
    assert "there is no public.requesting_permissions()" in words


def test_the_checked_rights_are_all_rights_of_the_roles_of_the_api(doctor: Doctor, admin: Connection) -> None:
    [(granted,)] = rows(
        admin,
        """
        select count(*) from (
            select a.grantee, a.privilege_type, c.oid, 0 as place
            from pg_class as c cross join aclexplode(c.relacl) as a
            where c.relnamespace in ('public'::regnamespace, 'clerk_sync'::regnamespace)
            union all
            select distinct a.grantee, a.privilege_type, t.attrelid, 1
            from pg_attribute as t inner join pg_class as c on c.oid = t.attrelid cross join aclexplode(t.attacl) as a
            where c.relnamespace in ('public'::regnamespace, 'clerk_sync'::regnamespace)
            union all
            select a.grantee, a.privilege_type, p.oid, 2
            from pg_proc as p cross join aclexplode(p.proacl) as a
            where p.pronamespace in ('public'::regnamespace, 'clerk_sync'::regnamespace)
        ) as every where grantee in ('anon'::regrole, 'authenticated'::regrole, 'service_role'::regrole)
        """,
    )
    assert f"all {granted} rights" in doctor.verdict("grants")[1]


# The flow of events


def test_types_that_never_arrived_are_listed(doctor: Doctor, admin: Connection) -> None:
    verdict, words = doctor.verdict("event-types")
    assert verdict == "warn"
    assert "Subscribe it to all of user, organization, organizationMembership" in words
    for name in list(SYNCED_TYPES)[2:]:
        deliver(admin, name)
    verdict, words = doctor.verdict("event-types")
    assert verdict == "warn"
    assert "2 of 15 types never arrived: user.created, user.updated" in words
    for name in list(SYNCED_TYPES)[:2]:
        deliver(admin, name)
    assert doctor.verdict("event-types")[0] == "ok"


def deliver(admin: Connection, event_type: str) -> None:
    admin.execute(
        """
        insert into clerk_sync.deliveries (occurred_at, received_at, outcome, svix_id, event_type, entity_id)
        values (now(), now(), 'created', %(type)s, %(type)s, 'user_1')
        """,
        {"type": event_type},
    )


def test_a_parked_event_fails(doctor: Doctor, store: Store) -> None:
    park(store)
    verdict, words = doctor.verdict("parked")
    assert verdict == "fail"
    assert "1 event parked" in words


@pytest.mark.parametrize(
    ("run", "verdict", "said"),
    [
        (("full", "complete"), "ok", "is complete"),
        (("full", "stopped"), "fail", "was stopped by the brake: for a reason"),
        (("full", "failed"), "fail", "failed: for a reason"),
        (("full", "incomplete"), "warn", "did not finish"),
        (("quick", "failed"), "fail", "failed: for a reason"),
    ],
)
def test_the_doctor_says_how_the_last_comparisons_ended(
    doctor: Doctor, compared: Compared, run: tuple[str, str], verdict: str, said: str
) -> None:
    assert "never compared" in doctor.verdict("reconcile")[1]
    compared("full", "complete")
    compared("quick", "complete")
    assert doctor.verdict("reconcile")[0] == "ok"
    compared(*run)
    found, words = doctor.verdict("reconcile")
    assert (found, said in words) == (verdict, True), words


def test_silence_of_clerk_fails(doctor: Doctor, compared: Compared, admin: Connection) -> None:
    compared("full", "complete")
    compared("quick", "complete")
    admin.execute("update clerk_sync.reconcile_runs set is_silent = true where mode = 'quick'")
    verdict, words = doctor.verdict("reconcile")
    assert verdict == "fail"
    assert "Clerk has newer changes" in words


def test_an_object_deleted_only_here_fails_until_a_full_run_no_longer_finds_it(
    doctor: Doctor, compared: Compared, admin: Connection
) -> None:
    compared("full", "complete")
    compared("quick", "complete")
    admin.execute(
        """
        insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause)
        select r.run_id, 'user', 'user_1', 'deleted here', 'none', 'it was deleted here, and Clerk has it'
        from clerk_sync.reconcile_runs as r
        """
    )
    verdict, words = doctor.verdict("reconcile")
    assert verdict == "fail"
    assert "deleted here: 1" in words
    compared("full", "complete")
    assert doctor.verdict("reconcile")[0] == "ok"


def test_a_run_that_no_process_continues_is_a_warning(doctor: Doctor, compared: Compared, admin: Connection) -> None:
    compared("quick", "complete")
    compared("full", "running")
    assert "is running" in doctor.verdict("reconcile")[1]
    admin.execute("update clerk_sync.reconcile_runs set started_at = now() - interval '2 days' where mode = 'full'")
    verdict, words = doctor.verdict("reconcile")
    assert verdict == "warn"
    assert "did not finish" in words


@pytest.mark.parametrize(
    ("kind", "minutes", "verdict"),
    [
        ("membership", 239, "ok"),
        ("membership", 241, "warn"),
        ("domain", 10_000, "warn"),
        ("user", 241, "ok"),
        ("user", 3_000, "warn"),
    ],
)
def test_a_kind_whose_comparison_is_too_old_is_a_warning(
    doctor: Doctor, admin: Connection, kind: str, minutes: int, verdict: str
) -> None:
    assert "memberships were never compared as a whole" in doctor.verdict("compared")[1]
    admin.execute(
        """
        insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at)
        select
            k.kind, 253402300799999, 0,
            (extract(epoch from now()) * 1000)::bigint - case when k.kind = %s then %s else 1 end * 60000
        from clerk_sync.kinds as k where k.kind <> 'private_metadata'
        """,
        [kind, minutes],
    )
    found, words = doctor.verdict("compared")
    assert found == verdict
    assert (f"all {kind}s were last compared" in words) is (verdict == "warn")


def test_a_kind_that_is_switched_off_in_clerk_is_no_warning(doctor: Doctor, admin: Connection) -> None:
    admin.execute("""
        insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at, is_switched_off)
        select
            k.kind, 253402300799999, 0, case when k.kind <> 'domain' then extract(epoch from now()) * 1000 end,
            k.kind = 'domain'
        from clerk_sync.kinds as k where k.kind <> 'private_metadata'
    """)
    verdict, words = doctor.verdict("compared")
    assert verdict == "ok"
    assert "domains are switched off in Clerk" in words


# Tokens


def test_a_valid_token_passes_an_old_version_warns_and_a_missing_role_fails(doctor: Doctor) -> None:
    with FrontendApi(KEY) as api:
        named = ("--publishable-key", "pk_test_Y2xlcmsubG9jYWwudGVzdCQ=", "--frontend-api-url", api.issuer)

        def judged(token: str) -> str:
            return doctor.examine("token", arguments=(*named, "--token", token)).verdicts["token"]

        mint = Mint(KEY, api.issuer)
        assert judged(mint.session("user_ada")) == "ok"
        assert judged(mint.session("user_ada", version=1)) == "warn"
        assert judged(mint.session("user_ada", role=None)) == "fail"
        assert judged(Mint(SigningKey.generate(), api.issuer).session("user_ada")) == "fail"
        checks = ("clerk-keys", "clerk-discovery", "clerk-domain", "token")
        assert list(doctor.examine(*checks, arguments=named).verdicts.values()) == ["ok", "ok", "ok", "skipped"]
        api.mood = "failing"
        # The keys of an issuer are kept for a while, so that of another one is asked.
        other = (*named[:3], api.issuer.replace("127.0.0.1", "localhost"))
        report = doctor.examine(*checks, arguments=other)
    assert report.verdicts["clerk-keys"] == "fail"


def test_no_secret_is_printed_whatever_is_wrong(doctor: Doctor, database: Database) -> None:
    secrets = {
        "CLERK_WEBHOOK_SIGNING_SECRET": "sk_live_notasecret",
        "CLERK_SECRET_KEY": "sk_live_notasecret",
        "SYNC_DATABASE_URL": "postgresql://postgres:notasecret@127.0.0.1:1/postgres",
        "SESSION_DATABASE_URL": database.session_url.replace(database.worker_password, "notasecret"),
        "SUPABASE_ANON_KEY": "notasecret",
    }
    with FrontendApi(KEY) as nobody:
        # Answers 404 to every request here.
        arguments = ("--token", "notasecret", "--clerk-api-url", nobody.issuer, "--supabase-url", nobody.issuer)
        report = doctor.examine(arguments=arguments, **secrets)
    failed = {name for name, verdict in report.verdicts.items() if verdict == "fail"}
    assert {"webhook-secret", "instance", "supabase-auth", "worker-address", "worker-login", "session-login"} <= failed
    assert "notasecret" not in report.text
    assert json.loads(report.text)["verdict"] == "fail"


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
