"""The stand-in's Frontend API, as the scripts of Clerk ask it from an app's page."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from clerk_supabase_cli.standin.frontend.pages import PageAnswer, PageRequest, Pages
from clerk_supabase_cli.standin.frontend.people import People
from clerk_supabase_cli.standin.frontend.visits import CODE
from clerk_supabase_cli.standin.instance.instance import Instance
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey

APP = "http://localhost:3000"
KEY = SigningKey.generate(bits=1024)
PASSWORD = "a-made-up-passphrase"


@dataclass
class Tab:
    """A tab of a browser with the app."""

    pages: Pages
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **form: str) -> PageAnswer:
        headers = [("Host", "localhost:4568"), ("Origin", APP), ("Sec-Fetch-Site", "same-site")]
        headers += [("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))]
        answer = self.pages.answer(PageRequest(method, path, headers, urlencode(form).encode()))
        for name, value in answer.headers:
            if name == "set-cookie":
                key, _, content = value.partition(";")[0].partition("=")
                self.cookies[key] = content
        return answer

    def post(self, path: str, **form: str) -> Any:
        return json.loads(self.ask("POST", path, **form).body)

    def sign_up(self, address: str = "ada@example.test") -> Any:
        names = {"first_name": "Ada", "last_name": "Lovelace"}
        begun = self.post("/v1/client/sign_ups", email_address=address, password=PASSWORD, **names)
        way = f"/v1/client/sign_ups/{begun['response']['id']}"
        self.post(f"{way}/prepare_verification", strategy="email_code")
        return self.post(f"{way}/attempt_verification", strategy="email_code", code=CODE)

    def client(self) -> Any:
        return json.loads(self.ask("GET", "/v1/client").body)["response"]

    def claims(self) -> Any:
        token = self.client()["sessions"][0]["last_active_token"]["jwt"]
        return jwt.decode(token, options={"verify_signature": False})


@pytest.fixture
def tab() -> Tab:
    return Tab(Pages(People(Instance()), Mint(KEY), "pk_live_Y2xlcmsubG9jYWwudGVzdCQ"))


def test_a_person_signs_up_and_later_in_with_the_password_only(tab: Tab) -> None:
    assert tab.client() is None
    user_id = tab.sign_up()["response"]["created_user_id"]
    assert (tab.claims()["sub"], tab.claims()["azp"]) == (user_id, APP)
    tab.ask("POST", "/v1/client/sessions?_method=DELETE")
    assert tab.client()["sessions"] == []
    assert tab.cookies["__client_uat"] == "0"
    wrong = tab.ask("POST", "/v1/client/sign_ins", identifier="ada@example.test", password="wrong")
    assert (wrong.status, json.loads(wrong.body)["errors"][0]["code"]) == (422, "form_password_incorrect")
    tab.post("/v1/client/sign_ins", identifier="ada@example.test", password=PASSWORD)
    assert tab.claims()["sub"] == user_id


def test_no_address_signs_up_twice(tab: Tab) -> None:
    tab.sign_up()
    again = tab.ask("POST", "/v1/client/sign_ups", email_address="ADA@example.test")
    assert (again.status, json.loads(again.body)["errors"][0]["code"]) == (422, "form_identifier_exists")


def test_a_short_password_is_rejected(tab: Tab) -> None:
    short = tab.ask("POST", "/v1/client/sign_ups", email_address="ada@example.test", password="7 chars")
    assert (short.status, json.loads(short.body)["errors"][0]["code"]) == (422, "form_password_length_too_short")


def test_a_ticket_signs_in_once(tab: Tab) -> None:
    user_id = tab.pages.people.instance.create_user(email_address="grace@example.test")["id"]
    ticket = tab.pages.people.new_ticket(user_id)
    assert tab.post("/v1/client/sign_ins", strategy="ticket", ticket=ticket)["response"]["status"] == "complete"
    assert tab.ask("POST", "/v1/client/sign_ins", strategy="ticket", ticket=ticket).status == 422


def test_only_a_member_makes_an_organization_active(tab: Tab) -> None:
    session = tab.sign_up()["client"]["sessions"][0]["id"]
    own = tab.post("/v1/organizations", name="Own Labs")["response"]["id"]
    other = tab.pages.people.instance.create_organization("Other Labs")["id"]
    touch = f"/v1/client/sessions/{session}/touch"
    assert tab.ask("POST", touch, active_organization_id=other).status == 404
    assert "o" not in tab.claims()
    tab.post(touch, active_organization_id=own)
    assert (tab.claims()["o"]["id"], tab.claims()["o"]["rol"]) == (own, "admin")


def test_the_sessions_of_a_banned_user_end(tab: Tab) -> None:
    done = tab.sign_up()
    session = done["client"]["sessions"][0]["id"]
    tab.pages.people.instance.ban_user(done["response"]["created_user_id"])
    assert tab.ask("POST", f"/v1/client/sessions/{session}/tokens").status == 404
    assert tab.client()["sessions"] == []
    assert tab.ask("POST", "/v1/client/sign_ins", identifier="ada@example.test").status == 403


def test_a_server_of_the_app_gets_a_new_session_token_by_a_redirect(tab: Tab) -> None:
    tab.sign_up()
    answer = tab.ask("GET", f"/v1/client/handshake?redirect_url={APP}/todos")
    assert (answer.status, dict(answer.headers)["location"]) == (307, f"{APP}/todos")
    cookies = jwt.decode(tab.cookies["__clerk_handshake"], options={"verify_signature": False})["handshake"]
    assert any(each.startswith("__session=ey") for each in cookies)


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.test/",
        "http://[",
        f"{APP}/%0d%0aSet-Cookie:%20__session=theirs",
        f"{APP}/%c4%80",
        "",
        "//localhost",
    ],
)
def test_a_redirect_leads_to_this_machine_only_and_carries_no_header_of_a_foreign_page(tab: Tab, address: str) -> None:
    assert tab.ask("GET", f"/v1/client/handshake?redirect_url={address}").status == 422


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:4568", "origin": "https://evil.test"},
        {"host": "localhost:4568", "origin": "null"},
        {"host": "localhost:4568", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"host": "evil.test:4568"},
    ],
)
def test_a_foreign_page_gets_no_answer(tab: Tab, headers: dict[str, str]) -> None:
    tab.sign_up()
    sent = [*headers.items(), ("cookie", f"__client={tab.cookies['__client']}")]
    answer = tab.pages.answer(PageRequest("GET", "/v1/client", sent))
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name, _ in answer.headers)


def test_garbage_is_rejected_and_breaks_nothing(tab: Tab) -> None:
    session = tab.sign_up()["client"]["sessions"][0]["id"]
    chance = random.Random(7)
    paths = ["sign_ins", "sign_ups", "sign_ins/x/attempt_first_factor", "sign_ups/%00/attempt_verification"]
    for path in (*paths, f"sessions/{session}/touch", "sessions/../touch", "?_method=\x00"):
        body = chance.randbytes(50)
        headers = [
            ("host", "localhost:4568"),
            ("cookie", f"{chance.randbytes(9)!r}; __client={tab.cookies['__client']}"),
        ]
        for content in (body, b"identifier=&code=%ff", b"active_organization_id=org_x&name=%00"):
            answer = tab.pages.answer(PageRequest("POST", f"/v1/client/{path}", headers, content))
            assert answer.status in {200, 401, 404, 422}
    assert tab.client()["sessions"][0]["id"] == session
