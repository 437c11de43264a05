"""`clerk-supabase setup`: what it looks at, what it prints, and what it does with secrets."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from clerk_supabase_cli.frontend_api import FrontendApi
from clerk_supabase_cli.setup_checks import Check, Instance, checks, config_toml
from clerk_supabase_cli.setup_command import SECRETS
from clerk_supabase_cli.token_mint import Mint, SigningKey
from tests.aws import Account
from tests.integration.parked import Command

KEY = SigningKey.generate()
VALUES = {
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_bm90IGEgc2VjcmV0",
    "CLERK_SECRET_KEY": "sk_test_notasecret",
    "SYNC_DATABASE_URL": "postgresql://clerk_sync_worker:notasecret@db.example.test/postgres",
    "SESSION_DATABASE_URL": "postgresql://clerk_sync_session:notasecret@db.example.test/postgres",
}


def publishable_key(host: str = "sunny-cat-1.clerk.accounts.dev") -> str:
    return f"pk_test_{base64.b64encode(f'{host}$'.encode()).decode()}"


@pytest.fixture
def api() -> Iterator[FrontendApi]:
    with FrontendApi(KEY) as api:
        yield api


@pytest.fixture
def command(api: FrontendApi) -> Command:
    unset: dict[str, str | None] = dict.fromkeys(VALUES)
    return Command({**unset, "CLERK_PUBLISHABLE_KEY": publishable_key()})


def looked(api: FrontendApi, token: str = "", host: str = "sunny-cat-1.clerk.accounts.dev") -> dict[str, Check]:
    return {check.name: check for check in checks(Instance(host, api.issuer), token)}


def test_a_good_instance_passes_every_check(api: FrontendApi) -> None:
    token = Mint(KEY, api.issuer).session("user_ada")
    assert {name: check.status for name, check in looked(api, token).items()} == {
        "keys": "ok",
        "discovery": "ok",
        "domain": "ok",
        "role": "ok",
    }


def test_a_token_without_the_role_says_where_to_switch_it_on(api: FrontendApi) -> None:
    check = looked(api, Mint(KEY, api.issuer).session("user_ada", role=None))["role"]
    assert check.status == "failed"
    assert "dashboard.clerk.com/setup/supabase" in check.words


def test_a_token_of_somebody_else_is_not_believed(api: FrontendApi) -> None:
    check = looked(api, Mint(SigningKey.generate(), api.issuer).session("user_ada"))["role"]
    assert check.status == "failed"


@pytest.mark.parametrize("mood", ["failing", "garbage", "no keys"])
def test_keys_that_cannot_be_read_fail_the_check_of_the_keys_and_no_other(api: FrontendApi, mood: str) -> None:
    api.mood = mood  # type: ignore[assignment]
    found = looked(api)
    assert (found["keys"].status, found["discovery"].status) == ("failed", "ok")


def test_an_instance_that_does_not_answer_fails_and_does_not_hang() -> None:
    found = {check.name: check.status for check in checks(Instance("clerk.example.test", "http://127.0.0.1:1"))}
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


def test_secrets_are_stored_once_and_changed_only_when_they_changed(
    api: FrontendApi, command: Command, account: Account
) -> None:
    arguments = ["setup", "--frontend-api-url", api.issuer, "--store-secrets", f"stack-{account.number}"]

    def statuses() -> list[str]:
        return [each["status"] for each in command.json(*arguments)["secrets"]]

    assert statuses() == ["missing"] * len(SECRETS)
    command.environment.update(VALUES)
    assert statuses() == ["created"] * len(SECRETS)
    assert statuses() == ["unchanged"] * len(SECRETS)
    command.environment["CLERK_SECRET_KEY"] = "sk_live_another"
    assert statuses() == ["unchanged", "updated", "unchanged", "unchanged"]
    # Without a value, what is there stays.
    command.environment.update(dict.fromkeys(VALUES))
    assert statuses() == ["unchanged"] * len(SECRETS)
    kept = account.secrets_manager.get_secret_value(SecretId=f"stack-{account.number}/clerk")["SecretString"]
    assert kept == "sk_live_another"


def test_no_value_of_a_secret_is_ever_printed(api: FrontendApi, command: Command, account: Account) -> None:
    command.environment.update(VALUES)
    command.environment["CLERK_SECRET_KEY"] = "notasecret, and no key of Clerk"
    arguments = ["setup", "--frontend-api-url", api.issuer, "--store-secrets", f"other-{account.number}"]
    failed = command.run(*arguments, status=1)
    assert "does not begin with sk_live_" in failed.output
    assert "WebhookSecretArn=arn:aws:secretsmanager" in failed.output
    for value in VALUES.values():
        assert value not in failed.output
    assert "notasecret" not in failed.output
