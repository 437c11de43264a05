"""`clerk-supabase doctor` on a database, without a stack: each check fails when its fault is present."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import pytest
from click.testing import CliRunner

from clerk_supabase.model.found_kinds import READ_KINDS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli import event_types
from clerk_supabase_cli.doctor.examination import examine
from clerk_supabase_cli.doctor.patient import Named, Patient
from clerk_supabase_cli.doctor.registry import CHECKS
from clerk_supabase_cli.doctor.verdicts import Check, Finding, Verdict, ok
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.setup.manual_steps import at_clerk
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.databases import Connection, Database
from tests.kit.doctoring import Doctor
from tests.kit.kinds import ALWAYS_SYNCED
from tests.kit.parked import Command, park
from tests.kit.tokens import KEY, OTHER_KEY

OF_THE_DATABASE = {
    *("database", "worker-login", "session-login", "worker-rights", "session-rights", "role-settings"),
    *("versions", "migrations", "objects", "row-level-security", "grants", "realtime", "parked", "feeds"),
    "other-instances",
}


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
    first, second, third, advice, _, count = result.stdout.splitlines()
    assert first.startswith("ok      database")
    assert second.startswith("fail    migrations")
    assert "0022_create_canary" in second
    assert "in the way of the migrations: 0022_create_canary: the function clerk_sync.record_canary(jsonb)" in third
    assert advice.strip().startswith("-> if this project made it: clerk-supabase migrate --repair --dry-run")
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

    checks = [Check("hangs", "", hangs, seconds=2), Check("next", "", lambda _: iter([ok("well")]))]
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
    assert "start the server, or correct the port" in report.words("database")
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
    assert "of a newer version than this command" in unknown


def test_migrations_that_another_tool_applied_pass(doctor: Doctor, admin: Connection) -> None:
    admin.execute("update clerk_sync.migrations set checksum = null")
    assert doctor.verdict("migrations")[0] == "ok"


def test_a_database_without_migrations_says_what_to_type(doctor: Doctor, new_database: str) -> None:
    report = doctor.examine("migrations", "row-level-security", "grants", "reconcile", DATABASE_URL=new_database)
    assert set(report.verdicts.values()) == {"fail"}
    for name in report.verdicts:
        assert "clerk-supabase migrate" in report.words(name)


# The flow of events


def test_types_that_never_arrived_are_listed(doctor: Doctor, admin: Connection) -> None:
    verdict, words = doctor.verdict("event-types")
    assert verdict == "warn"
    assert "Subscribe it to all of user, organization, organizationMembership" in words
    for name in ALWAYS_SYNCED[2:]:
        deliver(admin, name)
    verdict, words = doctor.verdict("event-types")
    assert verdict == "warn"
    assert f"2 of {len(ALWAYS_SYNCED)} types never arrived: user.created, user.updated" in words
    assert doctor.verdict("event-types", CLERK_API_URL="http://127.0.0.1:4567/v1")[0] == "ok"
    for name in ALWAYS_SYNCED[:2]:
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
    assert "subscriptions are compared with subscription items: a run reads the subscription of a payer if" in words
    assert "payment attempts are compared with billing statements: a full run compares the attempts of all" in words
    assert "sessions are not compared, as Clerk has no list of them: replay the messages" in words


def test_a_kind_that_clerk_does_not_list_is_named_with_what_repairs_it(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_types, "READ_KINDS", tuple(kind for kind in READ_KINDS if kind != "domain"))
    words = doctor.verdict("compared")[1]
    assert "domains are not compared, as Clerk has no list of them: replay the messages of the outage" in words
    assert "domains were" not in words
    assert "no list of domains; after lost events: replay the messages of the outage" in " ".join(at_clerk())
    assert "no list in Clerk" in Command({**doctor.environment}).run("status", status=None).stdout


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
        assert judged(Mint(OTHER_KEY, api.issuer).session("user_ada")) == "fail"
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
