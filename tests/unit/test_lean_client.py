"""Ingest's client for AWS: signed as boto3 signs, patient as boto3 is, and never without an answer or an error."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from clerk_supabase.aws import signed_http
from clerk_supabase.aws.addresses import Addresses
from clerk_supabase.aws.endpoints import SECRETS_MANAGER, SQS, Service, endpoint_of
from clerk_supabase.aws.failures import AwsFailed
from clerk_supabase.aws.lean_client import _TRANSIENT, LeanClient
from clerk_supabase.aws.queue import Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.errors import QueueUnavailable, SecretUnavailable
from clerk_supabase.model.envelope import Envelope
from tests.kit.tls import Authority

ENVELOPE = Envelope("msg_1", '{"type":"user.created","name":"Zoë"}'.encode(), 1_700_000_000_000)
TAKEN = (200, {"MessageId": "1", "MD5OfMessageBody": "0"})
REGION = {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "made/up+too==")
    monkeypatch.setattr("clerk_supabase.aws.lean_client._LONGEST_PAUSE_SECONDS", 0.0)
    # A loaded machine may be slow; what is tested is never how fast an answer comes.
    monkeypatch.setattr(signed_http, "LOOKUP_SECONDS", 60.0)
    monkeypatch.setattr(signed_http, "CONNECT_SECONDS", 60.0)
    monkeypatch.setattr(signed_http, "READ_SECONDS", 60.0)


class Aws:
    """A service that answers in turn as told; its last answer again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.connections = 0

    @contextmanager
    def listening(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        """The address of the service, during the block."""
        with ThreadingHTTPServer(("127.0.0.1", 0), self._handler()) as server:
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
            server.shutdown()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        aws = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                aws.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                aws.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, answer = aws.answers.pop(0) if len(aws.answers) > 1 else aws.answers[0]
                if status == 0:
                    # Ends the connection without an answer.
                    self.close_connection = True
                    return
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                # Announced nowhere, as a service does with a connection that was idle for long.
                self.close_connection = status == 200 and len(aws.requests) == 1 and len(aws.answers) > 1

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class calls it so
                """Says nothing."""

        return Handler


class SilentResolver:
    """A resolver that knows one address, and says so only while `answer` is set."""

    def __init__(self) -> None:
        self.answer = Event()
        self.lookups = 0

    def __call__(self, *_: object, **__: object) -> list[Any]:
        self.lookups += 1
        self.answer.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentResolver]:
    resolver = SilentResolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(signed_http, "LOOKUP_SECONDS", 0.3)
    yield resolver
    resolver.answer.set()


def client(url: str, service: Service = SQS, **environment: str) -> LeanClient:
    return LeanClient(service, {**REGION, "AWS_ENDPOINT_URL": url, **environment})


@pytest.mark.parametrize(
    "body", [b"{}", '{"name":"Zoë\\u0000"}'.encode(), b"\xff" * 1_000_000], ids=["small", "text", "large"]
)
@pytest.mark.parametrize("token", ["made/up+too==", ""])
def test_a_request_is_signed_as_boto3_signs_it(body: bytes, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    moment = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: moment.replace(tzinfo=None))
    headers = [("Content-Type", SQS.content_type), ("Content-Length", str(len(body))), ("X-Amzn-Trace-Id", "Root=1-2")]
    endpoint = endpoint_of(SQS, "eu-central-1", {})

    ours = signed_http.SignedHttp(SQS, endpoint, "eu-central-1", {}).sign(headers, body, moment)
    theirs = AWSRequest("POST", f"{endpoint.url}/", data=body, headers={"Host": endpoint.authority, **dict(headers)})
    botocore.auth.SigV4Auth(Credentials("AKIDEXAMPLE", "made-up", token or None), "sqs", "eu-central-1").add_auth(
        theirs
    )
    assert dict(ours.headers) == dict(theirs.headers)


@pytest.mark.parametrize("service", [SQS, SECRETS_MANAGER], ids=lambda service: service.name)
def test_a_service_is_where_boto3_finds_it(service: Service) -> None:
    session = boto3.Session()
    for partition in ("aws", "aws-cn", "aws-us-gov"):
        for region in session.get_available_regions(service.name, partition):
            theirs = session.client(service.name, region_name=region).meta.endpoint_url  # type: ignore[call-overload]
            assert endpoint_of(service, region, {}).url == theirs
    assert (
        endpoint_of(service, "eu-central-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}).authority
        == "127.0.0.1:4566"
    )
    literal = endpoint_of(service, "eu-central-1", {service.variable: "http://[::1]:81"})
    assert (literal.host, literal.authority) == ("::1", "[::1]:81")


def test_messages_go_over_one_connection_with_the_header_of_lambdas_tracing() -> None:
    aws = Aws(TAKEN)
    with aws.listening() as url:
        queue = Queue(client(url, _X_AMZN_TRACE_ID="Root=1-2;Lineage=3"), f"{url}/1/sync")
        for _ in range(3):
            queue.send(ENVELOPE, is_json=True)
    headers, body = aws.requests[-1]
    sent = json.loads(body)
    assert (aws.connections, len(aws.requests)) == (1, 3)
    assert (headers["x-amz-target"], headers["x-amzn-trace-id"]) == ("AmazonSQS.SendMessage", "Root=1-2;Lineage=3")
    assert (sent["QueueUrl"], sent["MessageBody"].encode(), sent["DelaySeconds"]) == (f"{url}/1/sync", ENVELOPE.body, 0)
    assert sent["MessageAttributes"]["svix_id"] == {"DataType": "String", "StringValue": "msg_1"}


def test_a_connection_that_the_service_has_closed_meanwhile_costs_no_attempt() -> None:
    aws = Aws(TAKEN, (503, b""), TAKEN)
    with aws.listening() as url:
        queue = Queue(client(url), url)
        queue.send(ENVELOPE)
        # The second request finds a closed connection, then an unavailable service, then is taken.
        queue.send(ENVELOPE)
    assert len(aws.requests) == 3


def test_the_errors_of_aws_that_may_pass_are_those_of_boto3() -> None:
    throttled = vars(ThrottledRetryableChecker)["_THROTTLED_ERROR_CODES"]
    transient = vars(TransientRetryableChecker)["_TRANSIENT_ERROR_CODES"]
    assert {*throttled, *transient} == _TRANSIENT


@pytest.mark.parametrize(
    "answers",
    [
        [(500, b"<html>"), TAKEN],
        [(429, {}), TAKEN],
        [(400, {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slower"}), TAKEN],
        [(0, b""), TAKEN],
    ],
    ids=["unavailable", "too many", "throttled", "no answer"],
)
def test_a_failure_that_may_pass_is_tried_once_more(answers: Sequence[Any]) -> None:
    aws = Aws(*answers)
    with aws.listening() as url:
        Queue(client(url), url).send(ENVELOPE)
    assert len(aws.requests) == 2


@pytest.mark.parametrize(
    ("answer", "requests", "words"),
    [
        ((400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "gone"}), 1, "(QueueDoesNotExist)"),
        ((403, {"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "no"}), 1, "operation: no"),
        ((500, b"\xff"), 2, "(500)"),
        ((404, b"[]"), 1, "(404)"),
        ((0, b""), 2, "could not be reached"),
        ((200, b"<html>"), 1, "no JSON"),
    ],
    ids=["no queue", "no right", "unavailable", "odd", "no answer", "a proxy"],
)
def test_a_failure_is_an_error_with_its_reason(answer: Any, requests: int, words: str) -> None:
    aws = Aws(answer)
    with aws.listening() as url, pytest.raises(QueueUnavailable) as raised:
        Queue(client(url), url).send(ENVELOPE)
    assert words in str(raised.value)
    assert len(aws.requests) == requests


def test_a_service_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_http, "READ_SECONDS", 0.05)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, pytest.raises(QueueUnavailable, match="in time"):
        Queue(client(f"http://127.0.0.1:{silent.getsockname()[1]}"), "queue").send(ENVELOPE)


def test_of_the_addresses_of_a_host_the_first_that_accepts_a_connection_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A zone of a VPC endpoint that is out of order, and `localhost` of a container that means the machine around it.
    addresses = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1")
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    aws = Aws(TAKEN)
    with aws.listening() as url:
        Queue(client(url.replace("127.0.0.1", "sqs.example")), url).send(ENVELOPE)
    [(headers, _)] = aws.requests
    assert headers["host"].startswith("sqs.example:")


def test_after_an_address_that_never_answers_the_next_attempt_goes_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_http, "READ_SECONDS", 0.3)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    aws = Aws(TAKEN)
    with aws.listening() as url:
        port = int(url.rpartition(":")[2])
        with closing(socket.create_server(("127.0.0.2", port))):
            Queue(client(f"http://sqs.example:{port}"), url).send(ENVELOPE)
    assert len(aws.requests) == 1


def test_a_name_that_nobody_knows_is_a_failure_with_its_reason() -> None:
    with pytest.raises(QueueUnavailable, match=r"http://sqs.invalid could not be reached"):
        Queue(client("http://sqs.invalid"), "queue").send(ENVELOPE)


def test_a_resolver_that_never_answers_is_given_up_and_asked_once(silent_resolver: SilentResolver) -> None:
    queue = Queue(client("http://sqs.example"), "queue")
    for _ in range(2):
        with pytest.raises(QueueUnavailable, match="the resolver did not answer in time"):
            queue.send(ENVELOPE)
    # Four attempts: the lookups that hang are one.
    assert silent_resolver.lookups == 1
    silent_resolver.answer.set()


def test_once_the_addresses_are_known_no_request_needs_the_resolver(silent_resolver: SilentResolver) -> None:
    aws = Aws(TAKEN, (0, b""), TAKEN)
    with aws.listening() as url:
        queue = Queue(client(url.replace("127.0.0.1", "sqs.example")), url)
        silent_resolver.answer.set()
        # The service ends the connection after the first request, and once more without an answer.
        queue.send(ENVELOPE)
        silent_resolver.answer.clear()
        queue.send(ENVELOPE)
    assert (len(aws.requests), silent_resolver.lookups) == (3, 2)


def test_a_lookup_that_was_given_up_still_finds_the_addresses(silent_resolver: SilentResolver) -> None:
    addresses = Addresses("sqs.example", 443)
    with pytest.raises(socket.gaierror):
        addresses.found_within(0.01)
    silent_resolver.answer.set()
    assert addresses.found_within(60) == ["127.0.0.1"]
    assert silent_resolver.lookups == 1


def test_only_a_server_with_a_known_certificate_is_sent_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    known, unknown = Aws(TAKEN), Aws(TAKEN)
    with monkeypatch.context() as patch, known.listening(authority.server("127.0.0.1")) as url:
        patch.setattr(signed_http, "_trusted", lambda: authority.file)
        signed_http._tls.cache_clear()
        Queue(client(url), url).send(ENVELOPE)
    signed_http._tls.cache_clear()
    # After a bad certificate, AWS's TLS library is silent for up to 30 s, so that the time tells an attacker nothing.
    monkeypatch.setattr(signed_http, "CONNECT_SECONDS", 0.3)
    with unknown.listening(authority.server("127.0.0.1")) as url, pytest.raises(QueueUnavailable):
        Queue(client(url), url).send(ENVELOPE)
    assert (len(known.requests), unknown.requests) == (1, [])


def test_a_secret_is_read_and_an_empty_one_is_named() -> None:
    aws = Aws((200, {"SecretString": "whsec_x"}), (400, {"__type": "ResourceNotFoundException", "Message": "none"}))
    with aws.listening() as url:
        secrets = client(url, SECRETS_MANAGER)
        assert Secret(secrets, "arn").value() == "whsec_x"
        with pytest.raises(SecretUnavailable, match="not filled yet"):
            Secret(secrets, "arn").value()
    assert json.loads(aws.requests[0][1]) == {"SecretId": "arn"}


def told(key: str, expires_in: timedelta) -> tuple[int, dict[str, str]]:
    """The answer of the address at which Lambda keeps the credentials of a restored environment."""
    expiration = (datetime.now(UTC) + expires_in).strftime("%Y-%m-%dT%H:%M:%SZ")
    return 200, {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": expiration}


def test_after_a_snapshot_the_credentials_come_from_an_address_and_are_renewed_before_they_expire() -> None:
    keys = Aws(told("OLD", timedelta(minutes=4)), told("NEW", timedelta(hours=6)))
    aws = Aws(TAKEN)
    with keys.listening() as address, aws.listening() as url:
        where = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{address}/credentials?of=function",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-lambda",
        }
        queue = Queue(client(url, SQS, **where), url)
        for _ in range(3):
            queue.send(ENVELOPE)
    signed = [headers["authorization"].partition("Credential=")[2].partition("/")[0] for headers, _ in aws.requests]
    assert signed == ["OLD", "NEW", "NEW"]
    assert [headers["authorization"] for headers, _ in keys.requests] == ["of-lambda", "of-lambda"]


@pytest.mark.parametrize("answer", [(403, {}), (200, b"<html>"), (0, b"")], ids=["refused", "odd", "no answer"])
def test_without_credentials_after_a_snapshot_the_service_is_unavailable(answer: Any) -> None:
    keys = Aws(answer)
    with keys.listening() as address, pytest.raises(QueueUnavailable):
        Queue(client("http://127.0.0.1:1", AWS_CONTAINER_CREDENTIALS_FULL_URI=address), "queue").send(ENVELOPE)


def test_without_boto3_an_error_is_still_an_error_of_the_client() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(AwsFailed):
        client(url).send_message(QueueUrl=url, MessageBody="{}")
