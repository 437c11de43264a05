"""`POST /session`: the row exists before the webhook, and only users who may enter get an answer with a row."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any, LiteralString

import pytest

from clerk_supabase.answer import Answer
from clerk_supabase.first_login import CLERK_SECONDS
from clerk_supabase.postgres.store import Store
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.databases import Connection, Database, acting_as, rows, tables, value
from tests.kit.histories import alone, upsert
from tests.kit.sessions import ORIGIN, App, app_of, counted
from tests.kit.tokens import KEY, OTHER_KEY
from tests.kit.webhooks import membership

UNREACHABLE = "postgresql://clerk_sync_session:x@127.0.0.1:1/postgres?sslmode=disable"
ROW = "select first_name, email from clerk.users where clerk_id = 'user_ada'"


# The row


def test_the_row_is_there_before_the_webhook(app: App, admin: Connection) -> None:
    app.signs_up()
    answer = app.post()
    assert answer.status == 200
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    row = json.loads(answer.message)
    assert (row["clerk_id"], row["first_name"], row["email"]) == ("user_ada", "Ada", "ada@example.test")
    with acting_as(admin, "authenticated", {"sub": "user_ada"}):
        assert row == value(admin, "select to_jsonb(u.*) from clerk.users as u")
    assert rows(admin, "select cause, svix_id from clerk_sync.audit_log") == [("session", "sess_ada")]


def test_the_answer_is_that_of_supabases_api_to_the_last_column_and_nothing_of_the_machinery(app: App) -> None:
    app.signs_up(private_metadata={"note": "secret"})
    assert "secret" not in app.post().message


def test_a_row_that_is_there_is_answered_without_asking_clerk(app: App, store: Store, admin: Connection) -> None:
    store.apply(alone(upsert("user_ada", first_name="Augusta")))
    before = tables(admin)
    for _ in range(3):
        answer = app.post()
        assert (answer.status, json.loads(answer.message)["first_name"]) == (200, "Augusta")
    assert app.calls == 0
    assert tables(admin) == before


def test_a_second_request_changes_nothing(app: App, admin: Connection) -> None:
    app.signs_up()
    first = app.post()
    before = tables(admin)
    assert app.post() == first
    assert app.calls == 1
    assert tables(admin) == before


def test_a_user_known_from_a_membership_alone_is_completed(app: App, store: Store) -> None:
    store.apply([membership(at=1, user_id="user_ada")])
    app.signs_up()
    answer = app.post()
    assert (answer.status, json.loads(answer.message)["email"]) == (200, "ada@example.test")


def test_the_webhook_that_comes_later_finds_nothing_to_do(app: App, store: Store, admin: Connection) -> None:
    app.signs_up()
    app.post()
    with app.clerk.writing() as world:
        sent = world.users["user_ada"]
    before = rows(admin, "select * from clerk.users")
    change = upsert("user_ada", version=(sent["updated_at"], sent["updated_at"] + 18), **sent)
    assert store.apply(alone(change)) in (["stale"], ["unchanged"])
    assert rows(admin, "select * from clerk.users") == before


def test_a_newer_webhook_wins_over_what_the_request_read(app: App, store: Store) -> None:
    app.signs_up()
    store.apply(alone(upsert("user_ada", version=time.time_ns() // 1_000_000 + 60_000, first_name="Augusta")))
    assert json.loads(app.post().message)["first_name"] == "Augusta"


@pytest.mark.parametrize("keep", [True, False])
def test_private_metadata_is_kept_only_where_it_is_wanted(
    keep: bool, frontend: FrontendApi, empty_api: ClerkApi, database: Database, admin: Connection
) -> None:
    for app in app_of(frontend, empty_api, database.session_url, keep_private_metadata=keep):
        app.signs_up(private_metadata={"note": "x"})
        app.post()
    assert len(rows(admin, "select * from clerk_sync.private_metadata")) == keep


# Clerk is unavailable


@pytest.mark.parametrize(
    "fault",
    [answering(500), answering(429, retry_after="10"), answering(404, code="route_not_found"), Fault(wire="reset")],
    ids=["500", "429", "not Clerk", "reset"],
)
def test_without_clerk_the_row_is_a_stub_and_the_answer_says_so(
    fault: Fault, app: App, admin: Connection, log: io.StringIO
) -> None:
    app.signs_up()
    app.clerk.faults.add(fault, times=99)
    answer = app.post()
    assert answer.status == 202
    row = json.loads(answer.message)
    assert (row["clerk_id"], row["created_at"], row["banned"]) == ("user_ada", None, False)
    assert counted("Stubs") == 1
    assert "ada@example.test" not in log.getvalue()
    assert rows(admin, "select (version).source_updated_at from clerk_sync.entities") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "revoke execute on all functions in schema clerk from public, anon, authenticated",
        "create function clerk.requesting_user_id(x int default 0) returns text language sql return 'user_eve'",
    ],
    ids=["revoked", "overloaded"],
)
def test_users_get_in_whatever_is_done_to_the_functions_of_the_schema_clerk(
    statement: LiteralString, app: App, admin: Connection
) -> None:
    admin.execute(statement)
    app.signs_up()
    app.clerk.faults.add(answering(500), times=99)
    assert app.post().status == 202
    app.clerk.faults.clear()
    assert app.post().status == 200


def test_nobody_waits_for_a_clerk_that_does_not_answer(
    frontend: FrontendApi, empty_api: ClerkApi, database: Database
) -> None:
    for app in app_of(frontend, empty_api, database.session_url, waits=True):
        app.clerk.faults.add(Fault(wire="hang"), times=99)
        began = time.monotonic()
        assert app.post().status == 202
        assert time.monotonic() - began < CLERK_SECONDS + 10


def test_a_stub_is_answered_again_and_completed_as_soon_as_clerk_is_available(app: App) -> None:
    app.signs_up()
    app.clerk.faults.add(answering(500), times=99)
    assert [app.post().status, app.post().status] == [202, 202]
    app.clerk.faults.clear()
    answer = app.post()
    assert (answer.status, json.loads(answer.message)["first_name"]) == (200, "Ada")


def test_every_event_overrides_a_stub(app: App, store: Store, admin: Connection) -> None:
    app.clerk.faults.add(answering(500), times=99)
    app.post()
    assert store.apply(alone(upsert("user_ada", version=1, first_name="Ada"))) == ["updated"]


def test_a_secret_key_that_is_rejected_is_an_operators_matter_and_not_the_users(
    frontend: FrontendApi, empty_api: ClerkApi, database: Database, log: io.StringIO
) -> None:
    for app in app_of(frontend, empty_api, database.session_url, key="sk_test_wrong"):
        app.signs_up()
        assert app.post().status == 202
    assert "secret key" in log.getvalue()
    assert "sk_test_wrong" not in log.getvalue()


def test_an_unusable_answer_of_clerk_makes_a_stub(app: App) -> None:
    app.signs_up(public_metadata="none")
    assert app.post().status == 202


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"iss": "https://clerk.other.test"}, "issuer"),
        ({"azp": "https://evil.example.test"}, "authorized_party"),
        ({"azp": None}, "authorized_party_missing"),
        ({"sts": "pending"}, "session_not_active"),
        ({"sid": None}, "claim_missing"),
    ],
)
def test_a_bad_token_is_answered_unauthorized_and_nothing_more(
    changes: dict[str, Any], reason: str, app: App, log: io.StringIO
) -> None:
    app.signs_up()
    token = Mint(KEY, app.frontend.issuer).session("user_ada", **({"azp": ORIGIN} | changes))
    answer = app.post(token=token)
    assert (answer.status, answer.message) == (401, "unauthorized")
    assert f'"reason":"{reason}"' in log.getvalue().replace(" ", "")
    assert app.calls == 0


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b.c", "Bearer \x00", "ey"])
def test_no_token_is_a_bad_token(authorization: str, app: App) -> None:
    assert app.ask("POST", {"Authorization": authorization}).status == 401
    assert app.session.answer({"httpMethod": "POST", "headers": None}).status == 401


def test_a_token_of_another_instance_is_rejected(app: App) -> None:
    token = Mint(OTHER_KEY, app.frontend.issuer).session("user_ada", azp=ORIGIN)
    assert app.post(token=token).status == 401


def test_headers_are_read_whatever_their_case(app: App, store: Store) -> None:
    store.apply(alone(upsert("user_ada")))
    token = Mint(KEY, app.frontend.issuer).session("user_ada", azp=ORIGIN)
    assert app.ask("POST", {"AUTHORIZATION": f"bearer {token}"}).status == 200


# A neighbour is unavailable


def test_while_the_keys_are_unavailable_the_answer_is_503(app: App) -> None:
    app.signs_up()
    app.frontend.mood = "failing"
    answer = app.post()
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")


def test_without_a_database_the_answer_is_try_again_and_clerk_is_not_asked(
    frontend: FrontendApi, empty_api: ClerkApi
) -> None:
    for app in app_of(frontend, empty_api, UNREACHABLE):
        app.signs_up()
        assert app.post().status == 503
        assert app.calls == 0


def test_with_a_broken_connection_string_the_answer_is_try_again_and_no_outage_is_counted(
    frontend: FrontendApi, empty_api: ClerkApi
) -> None:
    for app in app_of(frontend, empty_api, "postgresql://clerk_sync_session:S3cret%Pw@host/postgres"):
        app.signs_up()
        assert app.post().status == 503
    assert (counted("SetUpWrong"), counted("Unavailable")) == (1, 0)


def test_a_row_that_the_apps_own_trigger_rejects_is_our_fault_and_not_the_tokens(app: App, admin: Connection) -> None:
    admin.execute("alter table clerk.users add constraint users_ours check (first_name <> 'Ada')")
    app.signs_up()
    assert app.post().status == 500


# CORS


def test_a_page_of_the_app_may_read_the_answer_and_a_foreign_one_may_not(app: App, store: Store) -> None:
    store.apply(alone(upsert("user_ada")))
    assert app.post().headers["access-control-allow-origin"] == ORIGIN
    assert app.post(token="x").headers["access-control-allow-origin"] == ORIGIN
    for foreign in ("https://evil.example.test", "null", "", f"{ORIGIN}.evil.test", ORIGIN.upper()):
        assert not [name for name in app.post(origin=foreign).headers if name.startswith("access-control")]


def test_a_preflight_is_answered_without_a_token(app: App) -> None:
    answer = app.ask("OPTIONS", {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"})
    assert (answer.status, answer.message) == (204, "")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert app.ask("OPTIONS", {"Origin": "https://evil.example.test"}) == Answer(204, "")


def test_without_origins_the_report_does_not_mention_them(
    frontend: FrontendApi, empty_api: ClerkApi, database: Database
) -> None:
    for app in app_of(frontend, empty_api, database.session_url, allowed_origins=()):
        app.signs_up()
        assert not [name for name in app.post().headers if name.startswith("access-control")]
        assert app.ask("OPTIONS", {"Origin": ORIGIN}) == Answer(204, "")


# Logs


def test_nothing_personal_is_logged_whatever_happens(app: App, store: Store, log: io.StringIO) -> None:
    app.signs_up()
    token = Mint(KEY, app.frontend.issuer).session("user_ada", azp=ORIGIN)
    app.post(token=token)
    app.post("user_gone")
    app.clerk.faults.add(answering(500), times=99)
    app.post("user_away")
    written = log.getvalue()
    assert "user_ada" in written
    for secret in ("Ada", "ada@example.test", token, token.split(".")[1], "sk_test", "sess_"):
        assert secret not in written


CANARY = "canary-7f3a"
HOSTILE = [
    CANARY,
    f"\r\nset-cookie: {CANARY}",
    f"\x1b]0;{CANARY}\x07",
    f"%(name)s {{0}} ${{{CANARY}}}",
    f"\u202e{CANARY}",
]


def hostile_tokens(issuer: str) -> Iterator[str]:
    """Tokens with a canary in every place that their sender chooses, unsigned, forged and well signed."""
    mint = Mint(KEY, issuer)
    claims = {**mint.payload("user_ada", azp=ORIGIN), "o": {}, "act": {}, "fea": "", "pla": "", "aud": "", "note": ""}
    for text in HOSTILE:
        yield text
        yield f"{text}.{text}.{text}"
        for header in ("alg", "typ", "cat", "kid", "crit", "b64", text):
            yield KEY.sign(claims, **{header: text})
        for key in (KEY, OTHER_KEY):
            for claim in (*claims, text):
                for said in (text, [text], {text: text}, {"id": text, "rol": text, "per": text, "fpm": text}):
                    yield key.sign(claims | {"o": None, "act": None, claim: said})
        # Metadata of a user, which the app puts into the token: JSON that Postgres does not take.
        for odd in (f'"\\u0000{text}"', f'{{"{CANARY}": 1e400}}', f'"\\ud800{CANARY}"', "[" * 300 + "]" * 300):
            said = json.dumps(mint.payload("user_ada", azp=ORIGIN))
            yield KEY.sign(f'{said[:-1]}, "note": {odd}}}'.encode())


def test_nothing_of_a_hostile_request_is_answered_or_logged(
    app: App, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    app.signs_up()
    answers = [app.post(token=token) for token in hostile_tokens(app.frontend.issuer)]
    for text in HOSTILE:
        answers += [app.post(origin=text), app.ask("OPTIONS", {"origin": text}), app.ask(text, {text: text})]
        answers += [app.ask("POST", {"authorization": each}) for each in (text, f"Bearer {text}", f"{text} {text}")]
        event = {"httpMethod": "POST", "path": text, "body": text, "queryStringParameters": {text: text}, "headers": {}}
        answers.append(app.session.answer(event))
    assert {answer.status for answer in answers} <= {200, 204, 401, 403}
    said = "".join(f"{answer.message}{answer.headers}" for answer in answers)
    assert "unauthorized" in said
    written = log.getvalue() + capsys.readouterr().out + json.dumps(metrics.metric_set)
    assert '"token rejected"' in written
    for text in (said, written):
        assert CANARY not in text
        assert "\x1b" not in text
