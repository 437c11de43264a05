"""`clerk-supabase setup --store-secrets` without a stack; tests/stacks has the tests with a stack."""

from __future__ import annotations

import pytest

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.operate.setup.stack_secrets import SECRETS
from tests.kit.parked import Command

VALUES = {
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_bm90IGEgc2VjcmV0LCBidXQgYXMgbG9uZyBhcyBvbmU=",
    "CLERK_SECRET_KEY": "sk_test_notasecret",
    "SYNC_DATABASE_URL": "postgresql://clerk_sync_worker:notasecret@db.example.test/postgres",
    "SESSION_DATABASE_URL": "postgresql://clerk_sync_session:notasecret@db.example.test/postgres",
}


@pytest.fixture
def command(stack: LocalStack) -> Command:
    unset: dict[str, str | None] = dict.fromkeys(VALUES)
    key = {"CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsubG9jYWwudGVzdCQ="}
    return Command({**stack.ministack.environment, **unset, **key})


def test_secrets_are_stored_once_and_changed_only_when_they_changed(stack: LocalStack, command: Command) -> None:
    arguments = ["setup", "--frontend-api-url", stack.frontend.issuer, "--store-secrets", "not-deployed-yet"]

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
    secrets_manager = stack.ministack.client("secretsmanager")
    assert secrets_manager.get_secret_value(SecretId="not-deployed-yet/clerk")["SecretString"] == "sk_live_another"


def test_no_value_of_a_secret_is_ever_printed(stack: LocalStack, command: Command) -> None:
    command.environment.update(VALUES)
    command.environment["CLERK_SECRET_KEY"] = "notasecret, and no key of Clerk"
    failed = command.run(
        "setup", "--frontend-api-url", stack.frontend.issuer, "--store-secrets", "not-printed", status=1
    )
    assert "is not sk_live_ or sk_test_" in failed.output
    assert "WebhookSecretArn=arn:aws:secretsmanager" in failed.output
    for value in VALUES.values():
        assert value not in failed.output
    assert "notasecret" not in failed.output
