"""The local stack answers programs that have its key, and the deployed API anybody: no web page and no other user."""

from __future__ import annotations

import hashlib
import http.client
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.credentials import Credentials

from clerk_supabase_cli.local.ministack import ACCOUNT, REGION
from clerk_supabase_cli.local.stack import APP_ORIGIN, LocalStack
from clerk_supabase_cli.standin.samples import new_user_id
from tests.deployed.test_session import sign_up
from tests.kit.wire import LIST_SECRETS, Answer, Headers, keys_of, presigned, send, send_bytes, signed

EVIL = "https://evil.test"
FUNCTIONS = ("Ingest", "Sync", "Retry", "Reconcile", "Session")


def aws(stack: LocalStack, *more: tuple[str, str], keys: Credentials | None = None, **options: object) -> Answer:
    """Asks for the list of secrets, signed with the stack's key or another one."""
    headers = [*signed(stack, keys or keys_of(stack)), *more]
    return send(stack.ministack.port, headers=headers, body=b"{}", **options)  # type: ignore[arg-type]  # passed on


def session(stack: LocalStack, *headers: tuple[str, str], method: str = "POST", **options: object) -> Answer:
    """Asks the deployed API, which answers anybody."""
    target = urlsplit(stack.session_url).path
    return send(stack.ministack.port, target, method=method, headers=headers, **options)  # type: ignore[arg-type]  # the same


def is_rejected(answer: Answer) -> bool:
    return answer.status == 403 and not answer.can_be_read_by_pages and b"Secret" not in answer.body


def secrets(stack: LocalStack) -> set[str]:
    found = stack.ministack.client("secretsmanager").list_secrets()["SecretList"]
    return {each["Name"] for each in found}


def test_a_program_with_the_key_reads_what_it_asks_for(stack: LocalStack) -> None:
    answer = aws(stack)
    assert answer.status == 200
    assert f"{stack.name}/webhook" in {each["Name"] for each in json.loads(answer.body)["SecretList"]}
    assert send(stack.ministack.port, presigned(stack, keys_of(stack), "Action=ListQueues"), method="GET").status == 200


# Hosts

GOOD_HOSTS = ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "127.0.0.1"]
FOREIGN_HOSTS = [
    "evil.test",
    "evil.test:{port}",
    "localhost.evil.test",
    "127.0.0.1.evil.test:{port}",
    "evil.test.localhost",
    "localhost.",
    "127.0.0.1.:{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.test",
    "127.0.0.1:{port}, evil.test",
    "127.0.0.1:{port}/evil.test",
    "127.0.0.1:80x",
    "127.0.0.1:",
    "[::1]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "0.0.0.0:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "lo\u212aalhost".encode().decode("latin-1"),
    "session.execute-api.localhost:{port}",
    "bucket.s3.localhost:{port}",
    "",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_the_stack_answers_by_the_names_of_this_machine(stack: LocalStack, host: str) -> None:
    hosts = [host.format(port=stack.ministack.port)]
    assert session(stack, hosts=hosts).body == b"unauthorized"


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_page_whose_name_resolves_to_this_machine_reaches_nothing(stack: LocalStack, host: str) -> None:
    hosts = [host.format(port=stack.ministack.port)]
    assert is_rejected(session(stack, hosts=hosts))
    assert is_rejected(aws(stack, hosts=hosts))


def test_a_request_without_a_host_or_with_two_is_rejected(stack: LocalStack) -> None:
    this = f"127.0.0.1:{stack.ministack.port}"
    assert is_rejected(session(stack, hosts=[], version="1.0"))
    for hosts in ([], ["evil.test", this], [this, "evil.test"], [this, this]):
        assert session(stack, hosts=hosts).status == 400


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1"])
def test_a_target_that_names_a_host_of_its_own_is_rejected(stack: LocalStack, host: str) -> None:
    path = urlsplit(stack.session_url).path
    for target in (f"http://{host}{path}", f"{host}:80", "*"):
        assert is_rejected(send(stack.ministack.port, target, method="OPTIONS"))


def test_a_folded_header_smuggles_no_other_host_in(stack: LocalStack) -> None:
    path = urlsplit(stack.session_url).path
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n evil.test\r\nContent-Length: 0\r\n\r\n"
    assert is_rejected(send_bytes(stack.ministack.port, head.encode()))


UPGRADES = {
    "websocket": ["Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"],
    "h2c": ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
}


@pytest.mark.parametrize("protocol", UPGRADES)
def test_no_connection_leaves_http_1_1(stack: LocalStack, protocol: str) -> None:
    head = f"GET {urlsplit(stack.session_url).path} HTTP/1.1", f"Host: 127.0.0.1:{stack.ministack.port}"
    data = "\r\n".join([*head, "Connection: Upgrade, HTTP2-Settings", *UPGRADES[protocol], "", ""])
    # To the deployed API, it is a GET like any other: only POST is there.
    assert send_bytes(stack.ministack.port, data.encode()).status == 403


def test_http_2_is_not_spoken(stack: LocalStack) -> None:
    assert send_bytes(stack.ministack.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status in (400, 403)


# Browsers


@pytest.mark.parametrize("origin", [EVIL, "null", APP_ORIGIN, "http://127.0.0.1:{port}", "", "chrome-extension://a"])
def test_no_page_reaches_the_aws_api_even_with_the_key(stack: LocalStack, origin: str) -> None:
    named = origin.format(port=stack.ministack.port)
    assert is_rejected(aws(stack, ("Origin", named)))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
@pytest.mark.parametrize("mode", ["no-cors", "navigate", "websocket"])
def test_no_request_of_a_browser_reaches_the_aws_api_even_without_an_origin(
    stack: LocalStack, site: str, mode: str
) -> None:
    assert is_rejected(aws(stack, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)))
    assert is_rejected(aws(stack, ("sec-fetch-dest", "image")))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"])
def test_a_request_of_a_page_without_a_preflight_changes_nothing(stack: LocalStack, kind: str) -> None:
    """An old browser names neither its origin nor the site of the request, and sends such a request at once."""
    before = secrets(stack)
    for body in (b"Action=CreateQueue&QueueName=of-a-page", b'{"Name": "of-a-page", "SecretString": "x"}'):
        for target in ("/", "/?Action=CreateQueue&QueueName=of-a-page", f"/{ACCOUNT}/queue"):
            assert is_rejected(send(stack.ministack.port, target, headers=[("Content-Type", kind)], body=body))
    for target in ("/", "/artifacts?list-type=2", "/?Action=ListQueues", f"/{ACCOUNT}/queue?Action=ReceiveMessage"):
        assert is_rejected(send(stack.ministack.port, target, method="GET"))
    assert secrets(stack) == before
    assert "of-a-page" not in str(stack.ministack.client("sqs").list_queues())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_a_preflight_of_a_foreign_page_is_rejected(stack: LocalStack, method: str) -> None:
    asks = [
        ("Origin", EVIL),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization,x-amz-target"),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    for target in ("/", "/artifacts/key", "/_ministack/reset", "/2015-03-31/functions"):
        assert is_rejected(send(stack.ministack.port, target, method="OPTIONS", headers=asks))


# Keys


def derived_by_the_emulator(stack: LocalStack, function: str) -> Credentials:
    """Credentials that MiniStack itself would give the function, made of names that everybody can guess."""
    answer = stack.ministack.client("lambda").get_function_configuration(
        FunctionName=stack.physical_id(f"{function}Function"), Qualifier="live"
    )
    digest = hashlib.sha256(f"{answer['FunctionArn']}:{answer['Role']}".encode()).hexdigest()
    secret, token = (hashlib.sha256(f"{what}:{digest}".encode()).hexdigest() for what in ("secret", "token"))
    return Credentials(f"ASIA{digest[:16].upper()}", secret, token)


@pytest.mark.parametrize("key", ["test", "local", ACCOUNT, "123456789012", "AKIAIOSFODNN7EXAMPLE", "TEST", "*", "%s"])
def test_a_key_that_others_know_is_rejected(stack: LocalStack, key: str) -> None:
    right = keys_of(stack)
    for secret in ("test", right.secret_key):
        assert is_rejected(aws(stack, keys=Credentials(key, secret)))
        target = presigned(stack, Credentials(key, secret), "Action=ListQueues")
        assert is_rejected(send(stack.ministack.port, target, method="GET"))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_credentials_of_a_function_cannot_be_computed(stack: LocalStack, function: str) -> None:
    assert is_rejected(aws(stack, keys=derived_by_the_emulator(stack, function)))


def test_a_signature_by_another_secret_is_rejected(stack: LocalStack) -> None:
    wrong = Credentials(keys_of(stack).access_key, "test")
    answer = aws(stack, keys=wrong)
    assert answer.status == 400
    assert b"InvalidSignatureException" in answer.body
    answer = send(stack.ministack.port, presigned(stack, wrong, "Action=ListQueues"), method="GET")
    assert answer.status == 403
    assert b"SignatureDoesNotMatch" in answer.body


def unsigned(stack: LocalStack) -> Iterator[tuple[str, Headers]]:
    right = keys_of(stack).access_key
    scope = f"20260101/{REGION}/secretsmanager/aws4_request"
    yield "no key", ()
    yield "the former algorithm", [("Authorization", "AWS test:c2lnbmF0dXJl")]
    yield "the former algorithm in the query", ()
    yield "a bearer", [("Authorization", f"Bearer {right}")]
    yield "basic", [("Authorization", "Basic dGVzdDp0ZXN0")]
    yield "another algorithm", [("Authorization", f"AWS4-ECDSA-P256-SHA256 Credential={right}/{scope}")]
    yield (
        "test before the right one",
        [
            ("Authorization", f"AWS4-HMAC-SHA256 Credential=test/{scope}, SignedHeaders=host, Signature=0"),
            ("Authorization", f"AWS4-HMAC-SHA256 Credential={right}/{scope}, SignedHeaders=host, Signature=0"),
        ],
    )
    yield (
        "test and then the right one",
        [
            ("Authorization", f"AWS4-HMAC-SHA256 Credential=test/{scope}, Credential={right}/{scope}, Signature=0"),
        ],
    )


def test_a_request_without_a_signature_is_rejected(stack: LocalStack) -> None:
    for how, headers in unsigned(stack):
        answer = send(stack.ministack.port, headers=[*LIST_SECRETS, *headers], body=b"{}")
        assert is_rejected(answer), how
    twice = f"/?X-Amz-Credential=test/a&X-Amz-Credential={keys_of(stack).access_key}/a&Action=ListQueues"
    for target in ("/?AWSAccessKeyId=test&Signature=a&Action=ListQueues", twice):
        assert is_rejected(send(stack.ministack.port, target, method="GET"))


def test_the_right_key_id_alone_reads_nothing(stack: LocalStack) -> None:
    scope = f"20260101/{REGION}/secretsmanager/aws4_request"
    unsigned = f"AWS4-HMAC-SHA256 Credential={keys_of(stack).access_key}/{scope}, SignedHeaders=host, Signature=0"
    answer = send(stack.ministack.port, headers=[*LIST_SECRETS, ("Authorization", unsigned)], body=b"{}")
    assert answer.status in (400, 403)
    assert b"SecretList" not in answer.body


# Answers of MiniStack without credentials

ADMINISTRATION = [
    ("POST", "/_ministack/reset"),
    ("POST", "/_ministack/reset?init=1"),
    ("POST", "/_ministack/config"),
    ("GET", "/_ministack/sqs/messages"),
    ("GET", "/_ministack/health"),
    ("GET", "/_ministack/ready"),
    ("GET", f"/_ministack/lambda-code/{ACCOUNT}/{REGION}/clerk-supabase-sync-dev-sync"),
    ("PUT", "/_ministack/cfn-response/token"),
    ("POST", "/_ministack/rds/iam-auth"),
    ("GET", "/_localstack/health"),
    ("POST", "/%5fministack/reset"),
    ("POST", "/_ministack%2freset"),
]


@pytest.mark.parametrize(("method", "target"), ADMINISTRATION)
def test_nobody_administers_the_emulator_not_even_with_the_key(stack: LocalStack, method: str, target: str) -> None:
    before = secrets(stack)
    assert is_rejected(send(stack.ministack.port, target, method=method))
    with_key = signed(stack, keys_of(stack), target=target)
    assert is_rejected(send(stack.ministack.port, target, method=method, headers=with_key, body=b"{}"))
    overridden = [("X-HTTP-Method-Override", method), ("X-Original-URL", target), ("X-Rewrite-URL", target)]
    assert session(stack, *overridden).body == b"unauthorized"
    assert secrets(stack) == before


@pytest.mark.parametrize(
    "target",
    [
        "/health",
        "/oauth2/token",
        "/v2/",
        "/iceberg/v1/config",
        "/logout",
        "/artifacts",
        "/_alb/a/",
        "/_aws/lambda-url/a/",
    ],
)
def test_no_other_address_of_the_emulator_answers(stack: LocalStack, target: str) -> None:
    for method in ("GET", "POST"):
        assert is_rejected(send(stack.ministack.port, target, method=method))


# The deployed API


def test_a_page_of_the_app_signs_in_although_it_is_of_another_origin(stack: LocalStack) -> None:
    user_id = new_user_id()
    sign_up(stack, user_id)
    page = [("Origin", APP_ORIGIN), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")]
    asks = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")]
    preflight = session(stack, *page, *asks, method="OPTIONS")
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, APP_ORIGIN)
    answer = session(stack, *page, ("Authorization", f"Bearer {stack.mint.session(user_id)}"))
    assert (answer.status, json.loads(answer.body)["clerk_id"]) == (200, user_id)
    assert answer.headers["access-control-allow-origin"] == APP_ORIGIN


def test_a_page_of_anybody_else_may_send_but_not_read(stack: LocalStack) -> None:
    page = [("Origin", EVIL), ("Sec-Fetch-Site", "cross-site")]
    asks = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")]
    for answer in (session(stack, *page, *asks, method="OPTIONS"), session(stack, *page)):
        assert answer.headers.get("access-control-allow-origin") not in (EVIL, "*", "null")


def test_a_webhook_needs_no_key_but_its_signature(stack: LocalStack) -> None:
    target = urlsplit(stack.webhook_url).path
    assert send(stack.ministack.port, target, body=b"{}").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/../../../_ministack/reset",
        "/%2e%2e/%2e%2e/%2e%2e/_ministack/reset",
        "/..%2f..%2f_ministack/reset",
        "//_ministack/reset",
        "/@connections/a",
        "/.well-known/jwks.json",
        "/session%00",
        "/session;a=b",
        "/session\\a",
    ],
)
def test_below_the_path_of_the_api_there_is_no_way_to_anything_else(stack: LocalStack, path: str) -> None:
    stage = urlsplit(stack.session_url).path.removesuffix("/session")
    before = secrets(stack)
    for method in ("GET", "POST"):
        assert is_rejected(send(stack.ministack.port, f"{stage}{path}", method=method))
    assert secrets(stack) == before


@pytest.mark.parametrize("how", ["with its length", "in chunks"])
def test_a_body_beyond_the_limit_of_api_gateway_is_not_read(stack: LocalStack, how: str) -> None:
    size = 10 * 1024 * 1024 + 1
    body = b"a" * size if how == "with its length" else iter([b"a" * 65_536] * (size // 65_536 + 1))
    connection = http.client.HTTPConnection("127.0.0.1", stack.ministack.port, timeout=60)
    try:
        connection.request("POST", urlsplit(stack.webhook_url).path, body, encode_chunked=how == "in chunks")
        assert connection.getresponse().status == 413
    finally:
        connection.close()


# Other ways in


@pytest.mark.parametrize("key", ["sk_live_standin", "sk_test_standin", ""])
def test_the_stand_in_for_clerk_takes_no_key_that_others_know(stack: LocalStack, key: str) -> None:
    headers = [("Authorization", f"Bearer {key}")]
    assert send(stack.clerk.port, "/v1/users", method="GET", headers=headers).status == 401


def test_the_stand_in_for_clerks_keys_shows_pages_nothing_and_nobody_a_secret(stack: LocalStack) -> None:
    """The answers are public at Clerk, too: the public halves of the keys."""
    for target in ("/.well-known/jwks.json", "/.well-known/openid-configuration"):
        answer = send(stack.frontend.port, target, method="GET", headers=[("Origin", EVIL)])
        assert answer.status == 200
        assert not answer.can_be_read_by_pages
        for key in json.loads(answer.body).get("keys", []):
            assert key.keys() == {"use", "kty", "kid", "alg", "n", "e"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists sockets and children in /proc")
def test_the_emulator_and_its_functions_listen_on_one_port_of_loopback_alone(stack: LocalStack) -> None:
    session(stack)
    processes = _with_children(stack.ministack.process_id)
    assert len(processes) > 1, "no function runs"
    sockets = {target for process in processes for file in _descriptors(process) if (target := _target(file))}
    listening = {
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    }
    assert listening == {f"0100007F:{stack.ministack.port:04X}"}


def test_nobody_else_can_look_into_the_folders_of_the_stack(stack: LocalStack) -> None:
    for folder in (stack._folder, stack.logs, stack.ministack._folder):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def _target(link: Path) -> str:
    """The target of a link; empty for a descriptor that the process has closed meanwhile."""
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


def _descriptors(process: int) -> list[Path]:
    return list(Path(f"/proc/{process}/fd").iterdir())


def _with_children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [process, *(each for child in children for each in _with_children(child))]
