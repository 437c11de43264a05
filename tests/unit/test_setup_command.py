"""`clerk-supabase setup`: its checks and its output. The tests of stored secrets are in tests/deployed."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from clerk_supabase.model.found_kinds import SYNCED_TYPES
from clerk_supabase_cli.operate.setup.manual_steps import at_clerk
from clerk_supabase_cli.operate.setup.setup_checks import Check, Instance, checks, config_toml
from clerk_supabase_cli.operate.setup.stack_secrets import SECRETS
from clerk_supabase_cli.standin.frontend_api import FrontendApi, Mood
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.parked import Command
from tests.kit.tokens import KEY, OTHER_KEY

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def publishable_key(host: str = "sunny-cat-1.clerk.accounts.dev") -> str:
    return f"pk_test_{base64.b64encode(f'{host}$'.encode()).decode()}"


@pytest.fixture
def api() -> Iterator[FrontendApi]:
    with FrontendApi(KEY) as api:
        yield api


@pytest.fixture
def command(api: FrontendApi) -> Command:
    return Command({"CLERK_PUBLISHABLE_KEY": publishable_key()})


def looked(api: FrontendApi, token: str = "", host: str = "sunny-cat-1.clerk.accounts.dev") -> dict[str, Check]:
    return {check.name: check for check in checks([Instance(host, api.issuer)], token)}


def test_a_good_instance_passes_every_check(api: FrontendApi) -> None:
    token = Mint(KEY, api.issuer).session("user_ada")
    assert {name: check.status for name, check in looked(api, token).items()} == {
        "keys": "ok",
        "discovery": "ok",
        "domain": "ok",
        "role": "ok",
    }


def test_the_step_of_the_endpoint_names_every_family_of_events_that_is_synced() -> None:
    said = " ".join(at_clerk())
    assert [name for name in SYNCED_TYPES if name.partition(".")[0] not in said] == []


def test_a_token_without_the_role_says_where_to_switch_it_on(api: FrontendApi) -> None:
    check = looked(api, Mint(KEY, api.issuer).session("user_ada", role=None))["role"]
    assert check.status == "failed"
    assert "dashboard.clerk.com/setup/supabase" in check.words


def test_a_token_signed_by_somebody_else_is_refused(api: FrontendApi) -> None:
    check = looked(api, Mint(OTHER_KEY, api.issuer).session("user_ada"))["role"]
    assert check.status == "failed"


@pytest.mark.parametrize("mood", ["failing", "garbage", "no keys"])
def test_keys_that_cannot_be_read_fail_the_check_of_the_keys_and_no_other(api: FrontendApi, mood: Mood) -> None:
    api.mood = mood
    found = looked(api)
    assert (found["keys"].status, found["discovery"].status) == ("failed", "ok")


def test_an_instance_that_does_not_answer_fails_and_does_not_hang() -> None:
    found = {check.name: check.status for check in checks([Instance("clerk.example.test", "http://127.0.0.1:1")])}
    assert found == {"keys": "failed", "discovery": "failed", "domain": "ok", "role": "skipped"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("sunny-cat-1.clerk.accounts.dev", "ok"),
        ("clerk.example.com", "ok"),
        ("clerk.app.example.co.uk", "ok"),
        ("clerk.com", "failed"),
        ("auth.example.com", "failed"),
        ("a.b.clerk.accounts.dev", "failed"),
    ],
)
def test_a_host_the_supabase_cli_refuses_is_found_before_it_does(api: FrontendApi, host: str, status: str) -> None:
    assert looked(api, host=host)["domain"].status == status


def test_the_lines_for_supabase_name_the_domain() -> None:
    lines = config_toml(Instance("clerk.example.com", "https://clerk.example.com")).splitlines()
    assert lines == ["[auth.third_party.clerk]", "enabled = true", 'domain = "clerk.example.com"']


def test_the_command_prints_steps_and_ends_with_0(api: FrontendApi, command: Command) -> None:
    printed = command.run("setup", "--frontend-api-url", api.issuer).stdout
    for said in ("[auth.third_party.clerk]", "sunny-cat-1.clerk.accounts.dev", "Third Party Auth", "skipped role"):
        assert said in printed


def test_the_command_ends_with_1_when_a_check_fails(command: Command) -> None:
    found = command.json("setup", "--frontend-api-url", "http://127.0.0.1:1", status=1)
    assert [check["name"] for check in found["checks"] if check["status"] == "failed"] == ["keys", "discovery"]


def test_a_secret_key_in_place_of_the_publishable_one_is_named_and_not_repeated(command: Command) -> None:
    failed = command.run("setup", "--publishable-key", "sk_live_notasecret", status=2)
    assert "secret key" in failed.output
    assert "notasecret" not in failed.output


def test_a_token_is_read_from_standard_input(api: FrontendApi, command: Command) -> None:
    token = Mint(KEY, api.issuer).session("user_ada")
    printed = command.run("setup", "--frontend-api-url", api.issuer, "--token", "-", answer=f"Bearer {token}\n").stdout
    assert "ok      role" in printed


# Values of secrets, before anything is stored


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("webhook", "whsec_bad", "CLERK_WEBHOOK_SIGNING_SECRET is too short for a signing secret"),
        ("webhook", f"{SECRET} whsec_bad", "too short for a signing secret (number 2 of 2)"),
        ("webhook", "sk_live_abc", "is an API key of Clerk's"),
        ("clerk", "sk_live_é", "CLERK_SECRET_KEY is not sk_live_ or sk_test_ with letters"),
        ("clerk", "sk_live_abc def", "CLERK_SECRET_KEY is not sk_live_ or sk_test_ with letters"),
        ("clerk", "pk_live_abc", "is Clerk's publishable key"),
    ],
)
def test_a_value_that_is_no_secret_of_clerks_is_rejected_in_a_line(name: str, value: str, said: str) -> None:
    [problem] = [kept.problem_with(value) for kept in SECRETS if kept.name == name]
    assert said in problem
    assert "\n" not in problem
    assert value not in problem


DATABASE = {kept.name: kept for kept in SECRETS}["database"]


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("clerk_sync_worker", ""),
        ("clerk_sync_worker.abcdefghijklmnopqrst", ""),
        ("postgres", "it logs in as the owner of the database, not as clerk_sync_worker"),
        ("postgres.abcdefghijklmnopqrst", "it logs in as the owner of the database, not as clerk_sync_worker"),
        ("clerk_sync_session", "it logs in as another role, not as clerk_sync_worker"),
        ("hunter2", "it logs in as another role, not as clerk_sync_worker"),
    ],
)
def test_a_string_of_another_role_than_the_workers_is_taken_with_a_warning(user: str, said: str) -> None:
    url = f"postgresql://{user}:password@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
    assert DATABASE.problem_with(url) == ""
    assert said in DATABASE.warning_about(url)
    assert bool(said) == bool(DATABASE.warning_about(url))
    assert "hunter2" not in DATABASE.warning_about(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://x@y", "in SYNC_DATABASE_URL cannot be used: it names no database"),
        ("postgresql://clerk_sync_worker@h/postgres", "SYNC_DATABASE_URL names no password"),
        ("postgresql://clerk_sync_worker:[YOUR-PASSWORD]@h/postgres", "in SYNC_DATABASE_URL cannot be used"),
        ("postgresql://clerk_sync_worker:hunter2@h/postgres?pgbouncer=true", "no parameter pgbouncer: remove it"),
    ],
)
def test_a_string_that_no_function_could_use_is_refused(url: str, said: str) -> None:
    assert said in DATABASE.problem_with(url)
    assert "hunter2" not in DATABASE.problem_with(url)
