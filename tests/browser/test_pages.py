"""A foreign page in a real browser: the page reads nothing of the local stack, and changes nothing."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase_cli.local.stack import APP_ORIGIN, LocalStack
from clerk_supabase_cli.standin.samples import new_user_id
from tests.browser.conftest import Browse, PageServer
from tests.deployed.test_session import sign_up

ATTACK = Path(__file__).with_name("attack.html").read_text(encoding="utf-8")
SIGN_IN = Path(__file__).with_name("sign_in.html").read_text(encoding="utf-8")


def attack(browse: Browse, page_host: str, targets: Sequence[str]) -> list[str]:
    """The outcome of each attempt of a page of this host."""
    page = ATTACK.replace("TARGETS", json.dumps(targets))
    with PageServer(page) as server:
        seen = browse(f"http://{page_host}:{server.port}/", {"evil.test": "127.0.0.1"})
    lines = html.unescape(re.findall(r'<pre id="read">(.*?)</pre>', seen, re.DOTALL)[0]).splitlines()
    assert lines[-1] == "all: tried", seen
    return lines[:-1]


def everything(stack: LocalStack) -> list[Any]:
    """All state that a page could change."""
    aws = stack.ministack.client
    return [
        sorted(each["ARN"] for each in aws("secretsmanager").list_secrets()["SecretList"]),
        sorted(aws("sqs").list_queues()["QueueUrls"]),
        sorted(each["Name"] for each in aws("s3").list_buckets()["Buckets"]),
        sorted(each["FunctionName"] for each in aws("lambda").list_functions()["Functions"]),
        dict(stack.clerk.world.users),
    ]


@pytest.mark.parametrize("page_host", ["evil.test", "127.0.0.1", "localhost"])
def test_a_page_reads_and_changes_nothing(stack: LocalStack, browse: Browse, page_host: str) -> None:
    before = everything(stack)
    targets = [stack.ministack.endpoint + path for path in ("/", "/_ministack/reset", "/_ministack/sqs/messages")]

    if page_host == "evil.test":
        # The API for the pages of the app answers every page of this machine, whatever its port.
        targets.append(f"{stack.frontend.issuer}/v1/client/sign_ups")
    said = attack(browse, page_host, [*targets, f"{stack.clerk.url}/users"])

    assert not [line for line in said if "READ" in line]
    assert everything(stack) == before


def test_the_same_page_reads_the_answers_of_a_server_that_allows_it(browse: Browse) -> None:
    """Else the page above would prove nothing."""
    lets_everybody = {
        "access-control-allow-origin": "*",
        "access-control-allow-headers": "*,authorization",
        "access-control-allow-methods": "*",
    }
    with PageServer("of the stack", lets_everybody) as gullible:
        said = attack(browse, "evil.test", [f"http://127.0.0.1:{gullible.port}/"])
    ways = {line.partition(" http")[0] for line in said if "READ 200 of the stack" in line}
    posts = {"POST text cors", "POST form cors", "POST forged"}
    assert ways == {"GET cors", "PUT", "DELETE", "PATCH", "XMLHttpRequest", *posts}
    methods = {request.partition(" ")[0] for request in gullible.requests}
    assert methods == {"GET", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"}


@pytest.mark.parametrize("path", ["/", "/_ministack/sqs/messages", "/_ministack/health", "/?Action=ListQueues"])
def test_a_page_whose_name_was_bound_to_this_machine_reads_nothing(
    stack: LocalStack, browse: Browse, path: str
) -> None:
    """To the browser, the stack is then a part of the page: the page may read every answer of the stack."""
    before = everything(stack)
    for port in (stack.ministack.port, stack.clerk.port):
        seen = browse(f"http://evil.test:{port}{path}", {"evil.test": "127.0.0.1"})
        assert re.search(r"AccessDenied|not_for_browsers", seen), seen
        assert stack.name not in seen
    assert everything(stack) == before


def test_a_page_of_the_app_signs_in(stack: LocalStack, browse: Browse) -> None:
    user_id = new_user_id()
    sign_up(stack, user_id)
    page = SIGN_IN.replace("URL", stack.session_url).replace("TOKEN", stack.mint.session(user_id))
    host = APP_ORIGIN.removeprefix("http://")

    with PageServer(page) as server:
        seen = browse(APP_ORIGIN, {host: f"127.0.0.1:{server.port}"})
    assert re.search(rf'<pre id="read">200 .*"clerk_id": ?"{user_id}"', html.unescape(seen)), seen

    with PageServer(page) as server:
        seen = browse(f"http://evil.test:{server.port}/", {"evil.test": "127.0.0.1"})
    assert '<pre id="read">refused</pre>' in seen
