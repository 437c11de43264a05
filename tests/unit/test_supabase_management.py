"""Supabase's Management API: what `setup` changes, what it leaves alone, and what each bad answer makes it say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from clerk_supabase_cli.operate.setup.management_api import ManagementApi
from clerk_supabase_cli.operate.setup.management_http import ManagementHttp, SupabaseFailed, TokenNotTaken
from clerk_supabase_cli.operate.setup.supabase_project import NoProject, project_ref
from clerk_supabase_cli.operate.setup.supabase_settings import expose, register
from tests.kit.supabase_management import JWT_SECRET, REF, RIGHTS, TOKEN, Answer, SupabaseManagement

ISSUER = "https://clerk.example.com"
OTHER = "https://sunny-cat-1.clerk.accounts.dev"
Asked = Callable[..., ManagementApi]
POOLED = f"postgresql://postgres.{REF}:pw@aws-0-eu-central-1.pooler.supabase.com:5432/postgres"


@pytest.fixture
def supabase() -> Iterator[SupabaseManagement]:
    with SupabaseManagement() as supabase:
        yield supabase


@pytest.fixture
def asked(supabase: SupabaseManagement) -> Iterator[Asked]:
    """Makes clients with the clock of the stand-in, for which a pause takes no time."""
    with ExitStack() as undo:

        def make(patience: float = 150.0, token: str = TOKEN) -> ManagementApi:
            http = ManagementHttp(
                token, REF, supabase.url, patience=patience, clock=supabase.clock, sleep=supabase.clock.pass_by
            )
            undo.callback(http.close)
            return ManagementApi(http)

        yield make


def test_the_issuer_and_the_schema_are_added_behind_those_of_others_and_read_back(
    supabase: SupabaseManagement, asked: Asked
) -> None:
    supabase.db_schema, supabase.lag = " api,public , graphql_public,", 2
    supabase.add(OTHER)
    api = asked()
    provider, schemas = register(api, [ISSUER]), expose(api, "people")
    assert [provider.status, schemas.status] == ["set", "set"]
    assert f"also takes the tokens of {OTHER}, which stay" in provider.words
    assert supabase.issuers == [OTHER, ISSUER]
    assert supabase.changes == [
        ("POST", {"oidc_issuer_url": ISSUER}),
        ("PATCH", {"db_schema": "api,public,graphql_public,people"}),
    ]
    assert [register(api, [ISSUER]).status, expose(api, "people").status] == ["unchanged", "unchanged"]
    assert len(supabase.changes) == 2


def test_a_change_that_is_not_read_back_has_failed(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.lag = 1000
    api, began = asked(), supabase.clock.now
    with pytest.raises(SupabaseFailed, match=f"does not list {ISSUER}, which was added"):
        register(api, [ISSUER])
    with pytest.raises(SupabaseFailed, match="does not list clerk, which was added"):
        expose(api, "clerk")
    assert supabase.clock.now - began < 2 * 20


@pytest.mark.parametrize(
    ("issuer", "jwks_url"),
    [(ISSUER, None), (f"{ISSUER}/", None), (None, f"{ISSUER}/.well-known/jwks.json")],
)
def test_an_issuer_that_is_registered_is_not_registered_again(
    supabase: SupabaseManagement, asked: Asked, issuer: str | None, jwks_url: str | None
) -> None:
    supabase.add(issuer, jwks_url)
    supabase.add(issuer, jwks_url)
    found = register(asked(), [ISSUER])
    assert (found.status, supabase.changes) == ("unchanged", [])
    assert "registered twice" in found.words


@pytest.mark.parametrize(
    "answer",
    [
        Answer(502),
        Answer(502, is_carried_out=True),
        Answer(201, is_carried_out=True),
        # Another `setup` was faster.
        Answer(409, b'{"message":"there already"}', is_carried_out=True),
    ],
)
def test_an_answer_that_gets_lost_makes_no_second_provider(
    supabase: SupabaseManagement, asked: Asked, answer: Answer
) -> None:
    supabase.instead.extend([Answer(200, b"[]"), answer])
    assert register(asked(), [ISSUER]).status == "set"
    assert supabase.issuers == [ISSUER]


def test_a_change_without_a_body_in_its_answer_is_read_back(supabase: SupabaseManagement, asked: Asked) -> None:
    api = asked()
    supabase.instead.extend([Answer(200, b'{"db_schema":"public"}'), Answer(204, is_carried_out=True)])
    assert expose(api, "clerk").status == "set"


def test_keys_that_supabase_has_not_read_are_said(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.add(ISSUER)["resolved_at"] = None
    assert "has not read all keys yet" in register(asked(), [ISSUER]).words


def test_a_data_api_that_is_off_stays_off(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.db_schema = ""
    setting = expose(asked(), "clerk")
    assert (setting.status, supabase.changes) == ("skipped", [])
    assert "switch it on" in setting.words


def test_the_machinery_among_the_exposed_schemas_is_told(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.db_schema = "public,clerk_sync"
    assert "take clerk_sync out" in expose(asked(), "clerk").words


def test_the_rate_limit_is_waited_for_and_a_longer_wait_than_the_patience_is_said(
    supabase: SupabaseManagement, asked: Asked
) -> None:
    supabase.limit = 3
    api = asked()
    began = supabase.clock.now
    for _ in range(4):
        api.schemas()
    assert supabase.clock.now == began + 60
    supabase.limit = 0
    with pytest.raises(SupabaseFailed, match=r"no more requests for 60 s \(429\): run this again then"):
        asked(patience=20).schemas()


BAD_ANSWERS = [
    (Answer(401, b'{"message":"Unauthorized"}'), "mistyped, expired or deleted: make another at https://supabase"),
    (Answer(403, b'{"message":"no"}'), "make a token with data_api_config_read for this project"),
    (Answer(403, b'{"missing_permissions":["a_b","c_d"]}'), "make a token with a_b and c_d for"),
    (
        Answer(403, b'{"missing_permissions":["\\u001b[31m", 7, null]}'),
        "make a token with data_api_config_read for",
    ),
    (Answer(403, b'{"missing_permissions":7}'), "make a token with data_api_config_read for"),
    (Answer(404, b"not found"), f"finds no project {REF} for the token"),
    (Answer(400, b'{"message":"db_schema is odd"}'), "answered 400: db_schema is odd"),
    (Answer(400, f'{{"message":"Bearer {TOKEN}"}}'.encode()), "answered 400"),
    (Answer(400, b'{"message":["odd"]}'), "answered 400"),
    (Answer(302, headers={"location": "http://127.0.0.1:1/"}), "answered 302"),
    (Answer(200, b"<html>welcome</html>"), "no description of the Data API"),
    (Answer(200, b"[" * 100_000), "no description of the Data API"),
    (Answer(200, b"\xff\xfe"), "no description of the Data API"),
    (Answer(200, b"[]"), "no description of the Data API"),
    (Answer(200, b'{"db_schema":7}'), "no description of the Data API"),
]


def test_a_bad_answer_is_one_line_that_says_what_to_do(supabase: SupabaseManagement, asked: Asked) -> None:
    api = asked()
    for answer, said in BAD_ANSWERS:
        supabase.instead.append(answer)
        with pytest.raises(SupabaseFailed) as caught:
            api.schemas()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert TOKEN not in str(caught.value)


def test_a_list_of_something_else_is_no_list_of_providers(supabase: SupabaseManagement, asked: Asked) -> None:
    api = asked()
    for body in (b'{"a":1}', b"[7]", b'[{"oidc_issuer_url":7}]', b'[{"jwks_url":["a"]}]'):
        supabase.instead.append(Answer(200, body))
        with pytest.raises(SupabaseFailed, match="run this again later"):
            api.providers()


def test_a_server_that_fails_is_asked_again_and_then_given_up(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.instead.extend([Answer(500), Answer(503)])
    assert asked().schemas() == ["public", "graphql_public"]
    supabase.instead.extend([Answer(200, b"x" * (2 << 20)), Answer(500), Answer(500, b"<html>")])
    with pytest.raises(SupabaseFailed, match=r"does not answer \(status 500\): see status.supabase.com"):
        asked().schemas()


@pytest.mark.parametrize(("status", "said"), [("INACTIVE", "is paused: restore it"), ("RESTORING", "is RESTORING")])
def test_a_project_that_is_paused_is_told(supabase: SupabaseManagement, asked: Asked, status: str, said: str) -> None:
    supabase.status = status
    with pytest.raises(SupabaseFailed, match=said):
        asked().providers()


def test_an_api_that_cannot_be_reached_is_told_without_the_token() -> None:
    with (
        closing(ManagementHttp(TOKEN, REF, "http://127.0.0.1:1", patience=150, sleep=lambda _: None)) as http,
        pytest.raises(SupabaseFailed, match=r"does not answer \(ConnectError\)") as caught,
    ):
        ManagementApi(http).schemas()
    assert TOKEN not in repr([caught.value, caught.value.__cause__, caught.value.__context__, http, vars(http)])


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks9://127.0.0.1:1"), ("NO_PROXY", "[::1"), ("SSL_CERT_FILE", "/no/such/file")],
)
def test_a_proxy_or_certificates_that_cannot_be_used_are_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SupabaseFailed, match=f"correct or unset .*{variable}"):
        ManagementHttp(TOKEN, REF, patience=1)


def test_a_redirect_to_no_address_is_a_failure(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.instead.extend([Answer(302, headers={"location": "javascript:x"})] * 3)
    with pytest.raises(SupabaseFailed, match="does not answer"):
        asked().schemas()


@pytest.mark.parametrize("token", ["", "eyJhbGciOi.x.y", "sb_secret_0123456789abcdef", f"{TOKEN}\nx", "sbp_é" * 9])
def test_another_secret_than_an_access_token_is_sent_nowhere(
    supabase: SupabaseManagement, asked: Asked, token: str
) -> None:
    with pytest.raises(TokenNotTaken) as caught:
        asked(token=token).schemas()
    assert not token or token not in str(caught.value)
    assert supabase.requests == []


def test_the_token_goes_nowhere_without_tls() -> None:
    with pytest.raises(SupabaseFailed, match="https only"):
        ManagementHttp(TOKEN, REF, "http://api.supabase.com", patience=1)


def test_the_secret_that_comes_with_the_settings_is_not_kept(supabase: SupabaseManagement, asked: Asked) -> None:
    api = asked()
    assert JWT_SECRET not in repr([api.schemas(), api.providers(), expose(api, "clerk"), vars(api.http)])


def test_a_token_with_one_permission_lacks_the_other(supabase: SupabaseManagement, asked: Asked) -> None:
    supabase.rights = RIGHTS - {"auth_config_write"}
    api = asked()
    with pytest.raises(SupabaseFailed, match="make a token with auth_config_write"):
        register(api, [ISSUER])
    assert expose(api, "clerk").status == "set"


@pytest.mark.parametrize(
    ("url", "database"),
    [
        (f"https://{REF}.supabase.co", ""),
        (f"https://{REF}.supabase.co/rest/v1/", POOLED),
        ("https://api.example.com", POOLED),
        ("", f"postgresql://clerk_sync_worker.{REF}:pw@127.0.0.1:6543/postgres"),
        ("", f"postgresql://postgres:pw@db.{REF}.supabase.co:5432/postgres"),
        ("http://127.0.0.1:54321", POOLED),
    ],
)
def test_the_project_is_found_in_its_url_and_its_connection_strings(url: str, database: str) -> None:
    assert project_ref(url, database) == REF


@pytest.mark.parametrize(
    ("url", "database", "said"),
    [
        ("", "", "the project is not known"),
        ("https://[", "garbage", "the project is not known"),
        (f"https://{REF}.supabase.co.evil.test", "", "the project is not known"),
        ("", f"postgresql://postgres:pw@db.{REF}.supabase.co.evil.test/postgres", "the project is not known"),
        ("https://aaaaaaaaaabbbbbbbbbb.supabase.co", POOLED, "name the same project in both"),
    ],
)
def test_a_project_that_is_not_named_or_named_twice_is_not_guessed(url: str, database: str, said: str) -> None:
    with pytest.raises(NoProject, match=said):
        project_ref(url, database)
