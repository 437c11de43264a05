"""Verdicts of the doctor on secrets, addresses, instances and answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from clerk_supabase.aws.queue import Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.clerk.pages import Instance
from clerk_supabase.ingest import Ingest
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.settings import IngestSettings, SyncSettings
from clerk_supabase_cli.doctor.address import Resolve, address, tls
from clerk_supabase_cli.doctor.canary import send
from clerk_supabase_cli.doctor.checks import flow
from clerk_supabase_cli.doctor.checks.clerk import compare_instances, supabase
from clerk_supabase_cli.doctor.patient import Functions, Named, NotLookedAt, Once, Patient
from clerk_supabase_cli.doctor.verdicts import Verdict, worst
from clerk_supabase_cli.operate.setup.secret_formats import webhook_secret_problem
from clerk_supabase_cli.standin.deliveries import generate_secret
from tests.kit.aws import Account

# Of the documentation of Svix.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WORKER = "clerk_sync_worker"
PROJECT = "abcdefghijklmnopqrst"
PRODUCTION = Instance("ins_2Production", "production")
DEVELOPMENT = Instance("ins_2Development", "development")

# Signing secrets


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        (SECRET, ""),
        (f"{SECRET} {SECRET}", ""),
        ("", "is empty"),
        (" \n", "is empty"),
        ("sk_live_abc", "is an API key"),
        ("pk_test_abc", "is an API key"),
        ("whsec_", "is not whsec_ and base64"),
        ("whsec_not base64", "is too short for a signing secret (number 1 of 2)"),
        ("bG9jYWw=", "is not whsec_ and base64"),
        (
            f"{SECRET} sk_live_abc",
            "is an API key of Clerk's, not the signing secret of a webhook endpoint (number 2",
        ),
        ('{"secret": "whsec_abc"}', "is not whsec_ and base64"),
    ],
)
def test_a_text_that_is_no_signing_secret_is_reported_and_not_repeated(secret: str, problem: str) -> None:
    said = webhook_secret_problem(secret)
    assert said.startswith(problem)
    assert bool(said) == bool(problem)
    assert all(part not in said for part in secret.split() if len(part) > 8)


# Addresses


def resolver(*families: int) -> Resolve:
    """DNS that knows every host by these addresses; without addresses, no host."""

    def resolve(host: str) -> set[int]:
        if not families:
            raise socket.gaierror
        return set(families)

    return resolve


@pytest.mark.parametrize(
    ("url", "families", "verdict", "said"),
    [
        (f"{WORKER}.{PROJECT}:p@aws-0-eu-central-1.pooler.supabase.com:6543", (), "ok", "transaction pooler"),
        (f"{WORKER}.{PROJECT}:p@aws-0-eu-central-1.pooler.supabase.com:5432", (), "warn", "session pooler"),
        (f"{WORKER}:p@aws-0-eu-central-1.pooler.supabase.com:6543", (), "fail", "names no project"),
        (f"{WORKER}:p@db.{PROJECT}.supabase.co:5432", (socket.AF_INET6,), "fail", "IPv6 address only"),
        (f"{WORKER}:p@db.{PROJECT}.supabase.co:5432", (socket.AF_INET, socket.AF_INET6), "warn", "direct connection"),
        (f"{WORKER}:p@db.{PROJECT}.supabase.co:6543", (socket.AF_INET,), "ok", "dedicated pooler"),
        (f"{WORKER}:p@db.{PROJECT}.supabase.co:5432", (), "fail", "has no address"),
        (f"postgres.{PROJECT}:p@aws-0-eu-central-1.pooler.supabase.com:6543", (), "fail", "not as clerk_sync_worker"),
        (f"{WORKER}:p@db.example.com:5432", (), "ok", "none of Supabase's"),
        (f"{WORKER}:p@127.0.0.1:5432", (), "skipped", "of this machine"),
    ],
)
def test_an_address_that_lambda_cannot_reach_is_found(
    url: str, families: tuple[int, ...], verdict: str, said: str
) -> None:
    findings = list(address(parse(f"postgresql://{url}/postgres", "here"), WORKER, resolver(*families)))
    assert worst(finding.verdict for finding in findings) == verdict
    assert said in " ".join(finding.words for finding in findings)


@pytest.mark.parametrize(
    ("host", "options", "ca_file", "verdict"),
    [
        ("db.example.com", "", "/ca.pem", "ok"),
        ("db.example.com", "?sslmode=verify-full&sslrootcert=/ca.pem", "", "ok"),
        ("db.example.com", "", "", "fail"),
        ("db.example.com", "?sslmode=require", "/ca.pem", "warn"),
        ("db.example.com", "?sslmode=prefer", "/ca.pem", "fail"),
        ("db.example.com", "?sslmode=disable", "", "fail"),
        ("127.0.0.1", "?sslmode=disable", "", "skipped"),
    ],
)
def test_a_connection_without_encryption_or_verification_is_found(
    host: str, options: str, ca_file: str, verdict: str
) -> None:
    [finding] = tls(parse(f"postgresql://{WORKER}:p@{host}/postgres{options}", "here"), ca_file)
    assert finding.verdict == verdict


# Instances


@pytest.mark.parametrize(
    ("of_key", "of_webhooks", "of_database", "stage", "verdict"),
    [
        (PRODUCTION, PRODUCTION.id, PRODUCTION.id, "prod", "ok"),
        (DEVELOPMENT, "", "", "dev", "ok"),
        (PRODUCTION, DEVELOPMENT.id, PRODUCTION.id, "prod", "fail"),
        (PRODUCTION, PRODUCTION.id, DEVELOPMENT.id, "prod", "fail"),
        (PRODUCTION, "", PRODUCTION.id, "prod", "warn"),
        (DEVELOPMENT, DEVELOPMENT.id, DEVELOPMENT.id, "prod", "warn"),
    ],
)
def test_keys_webhooks_and_database_of_different_instances_are_found(
    of_key: Instance, of_webhooks: str, of_database: str, stage: str, verdict: str
) -> None:
    findings = list(compare_instances(of_key, of_webhooks, of_database, stage))
    assert worst(finding.verdict for finding in findings) == verdict


# The API's answers


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("of_webhooks", "of_database", "end"),
    [
        ("", "", "(development)"),
        ("", "ins_1", "so is the database"),
        ("ins_1", "ins_1", "so are the stack and the database"),
    ],
)
def test_what_is_of_the_instance_of_the_secret_key_is_named_in_a_whole_sentence(
    of_webhooks: str, of_database: str, end: str
) -> None:
    [finding] = compare_instances(Instance("ins_1", "development"), of_webhooks, of_database, "dev")
    assert finding.words.endswith(end)


@pytest.mark.parametrize(
    ("secret_is_theirs", "instance_id", "status"),
    [(True, "ins_2Own", 202), (True, "ins_2Other", 403), (True, "", 202), (False, "ins_2Own", 401)],
)
def test_a_canary_is_answered_by_ingest_as_clerk_would_be(
    account: Account, secret_is_theirs: bool, instance_id: str, status: int
) -> None:
    secret = generate_secret()
    ingest = ingest_with(account, secret)

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            answer = ingest.answer({"headers": dict(self.headers), "body": body})
            self.send_response(answer.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    with serving(Api) as url:
        assert send(url, secret if secret_is_theirs else generate_secret(), instance_id).status == status
    assert len(account.received(account.sync_queue_url)) == (status == 202)


def ingest_with(account: Account, secret: str) -> Ingest:
    arn = account.put_secret("webhook", secret)
    sync, parked = account.sync_queue_url, account.parked_queue_url
    return Ingest(
        IngestSettings(arn, sync, parked, "ins_2Own", 1_000_000),
        Secret(account.secrets_manager, arn),
        sync_queue=Queue(account.sqs, sync),
        parked_queue=Queue(account.sqs, parked),
        clock_ms=lambda: 1_700_000_000_000,
    )


def test_a_url_without_an_answer_is_an_error() -> None:
    with pytest.raises(httpx.HTTPError):
        send("http://127.0.0.1:1/webhooks/clerk", generate_secret())


# Answers of PostgREST: https://docs.postgrest.org/en/stable/references/errors.html
@pytest.mark.parametrize(
    ("status", "body", "verdict", "said"),
    [
        (200, [], Verdict.OK, "takes the session token"),
        (401, {"code": "PGRST301", "message": "No suitable key or wrong key type"}, Verdict.FAIL, "401 PGRST301"),
        (403, {"code": "42501", "message": "permission denied"}, Verdict.FAIL, "may not read"),
        (404, {"code": "PGRST205", "message": "not in the schema cache"}, Verdict.FAIL, "does not serve"),
        (503, {"code": "PGRST000"}, Verdict.FAIL, "answered 503"),
        (502, "<html>", Verdict.FAIL, "answered 502"),
    ],
)
def test_the_answer_of_supabase_to_a_session_token_is_explained_in_words(
    status: int, body: object, verdict: Verdict, said: str
) -> None:
    asked: list[tuple[str, str | None, str | None]] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["apikey"], self.headers["authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    with serving(Api) as url:
        patient = Patient(Named(Path(), supabase_url=f"{url}/", supabase_key="sb_publishable", token="a.b.c"))
        [finding] = supabase(patient)
    assert asked == [("/rest/v1/users_public?select=clerk_id&limit=1", "sb_publishable", "Bearer a.b.c")]
    assert finding.verdict == verdict
    assert said in finding.words


def test_without_a_token_nobody_asks_supabase() -> None:
    with pytest.raises(NotLookedAt, match="session token"):
        list(supabase(Patient(Named(Path(), supabase_url="https://project.supabase.co", supabase_key="key"))))


# Overdue comparisons


def moments_ago(**ago: float) -> datetime:
    return datetime.now(UTC) - timedelta(**ago)


@pytest.mark.parametrize(
    ("state", "hours_ago", "verdict"),
    [("ENABLED", 48.0, "ok"), ("ENABLED", 50.0, "fail"), ("ENABLED", None, "fail"), ("DISABLED", 50.0, "ok")],
)
def test_a_comparison_that_is_overdue_by_its_own_schedule_fails(
    state: str, hours_ago: float | None, verdict: str
) -> None:
    limit = flow._limit({"FullReconcileState": state, "FullReconcileOverdueHours": "49"}, "Full", "Hours", 3600)
    ended = None if hours_ago is None else moments_ago(hours=hours_ago)
    findings = list(flow._of_mode("full", (7, "complete", None, ended, False, False, ended), limit))
    assert worst(finding.verdict for finding in findings) == verdict


@pytest.mark.parametrize(
    ("state", "since", "said"),
    [
        ("OK", moments_ago(days=9), ""),
        ("INSUFFICIENT_DATA", moments_ago(minutes=5), ""),
        ("INSUFFICIENT_DATA", moments_ago(hours=3), "CloudWatch has not been able to judge SyncBacklogAlarm"),
        ("ALARM", moments_ago(minutes=5), "SyncBacklogAlarm rings: Events have waited"),
    ],
)
def test_an_alarm_that_rings_or_was_never_judged_is_named(state: str, since: datetime, said: str) -> None:
    alarm = {"StateValue": state, "StateUpdatedTimestamp": since, "AlarmDescription": "Events have waited"}
    words = " ".join(finding.words for finding in flow._ringing({"SyncBacklogAlarm": alarm}))
    assert words.startswith(said)
    assert bool(words) == bool(said)


# The certificate authority


def test_the_ca_file_of_the_layer_is_looked_for_in_the_checkout(tmp_path: Path) -> None:
    patient = Patient(Named(tmp_path, stack_name="stack"))
    sync = SyncSettings("arn", "url", "/opt/ca/supabase.crt", keep_private_metadata=False)
    functions = Functions(IngestSettings("arn", "url", "url", "", 1), sync, None, None)
    patient.functions = Once("the settings", lambda: functions)

    with pytest.raises(NotLookedAt, match=r"layers/shared/ca/supabase\.crt"):
        patient.ca_file()
    file = tmp_path / "layers" / "shared" / "ca" / "supabase.crt"
    file.parent.mkdir(parents=True)
    file.touch()
    assert patient.ca_file() == str(file)


def test_a_failed_read_is_explained_once_and_then_only_referred_to() -> None:
    def read() -> str:
        raise ValueError("the reason")

    once = Once("the stack", read)
    with pytest.raises(ValueError, match="the reason"):
        once()
    with pytest.raises(NotLookedAt, match="as said above"):
        once()
