"""Secrets: read seldom, never stale for long, and an old value is better than none."""

from __future__ import annotations

import socket
from contextlib import closing

import boto3
import pytest
from botocore.config import Config

from clerk_supabase.aws.secrets import RETRY_SECONDS, Secret
from clerk_supabase.errors import SecretUnavailable
from tests.kit.aws import Account
from tests.kit.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secret(account: Account, clock: Clock) -> Secret:
    return Secret(account.secrets_manager, account.put_secret("database", "first"), clock)


def test_a_secret_is_read_when_it_is_first_needed(account: Account, secret: Secret) -> None:
    assert account.secret_reads == []
    assert secret.value() == "first"
    assert len(account.secret_reads) == 1


def test_a_secret_is_kept_for_five_minutes(account: Account, secret: Secret, clock: Clock) -> None:
    secret.value()
    account.put_secret("database", "second")
    clock.now += 299
    assert secret.value() == "first"
    clock.now += 1
    assert secret.value() == "second"
    assert len(account.secret_reads) == 2


def test_a_value_that_failed_is_looked_up_again_at_once(account: Account, secret: Secret) -> None:
    secret.value()
    account.put_secret("database", "second")
    assert secret.changed()
    assert secret.value() == "second"


def test_a_value_that_failed_but_is_still_the_same_is_not_called_changed(secret: Secret) -> None:
    secret.value()
    assert not secret.changed()


def test_no_client_causes_more_than_one_look_up_a_minute(account: Account, secret: Secret, clock: Clock) -> None:
    secret.value()
    for _ in range(50):
        secret.changed()
    assert len(account.secret_reads) == 2
    clock.now += 59
    secret.changed()
    assert len(account.secret_reads) == 2
    clock.now += 1
    secret.changed()
    assert len(account.secret_reads) == 3


def test_an_old_value_survives_an_outage_of_secrets_manager(account: Account, secret: Secret, clock: Clock) -> None:
    secret.value()
    account.take_secret_away("database")
    clock.now += 300
    assert secret.value() == "first"
    assert not secret.changed()


def test_during_an_outage_secrets_manager_is_asked_at_most_once_a_minute(
    account: Account, secret: Secret, clock: Clock
) -> None:
    secret.value()
    account.take_secret_away("database")
    clock.now += 300
    for _ in range(50):
        secret.value()
    assert len(account.secret_reads) == 2


def test_a_secret_that_was_never_read_is_requested_at_most_once_a_minute_during_forged_requests(
    account: Account, secret: Secret
) -> None:
    # Anybody can make ingest look for its secret before it has one.
    account.take_secret_away("database")
    for _ in range(50):
        with pytest.raises(SecretUnavailable):
            secret.value()
    assert len(account.secret_reads) < 5


def test_the_new_value_is_found_after_the_outage(account: Account, secret: Secret, clock: Clock) -> None:
    secret.value()
    account.take_secret_away("database")
    clock.now += 300
    secret.value()
    account.bring_secret_back("database")
    account.put_secret("database", "second")
    clock.now += 60
    assert secret.value() == "second"


def test_a_secret_that_was_never_read_is_unavailable_when_secrets_manager_fails(
    account: Account, secret: Secret
) -> None:
    account.take_secret_away("database")
    with pytest.raises(SecretUnavailable, match="could not be read"):
        secret.value()


def test_a_secret_is_unavailable_when_secrets_manager_does_not_answer(clock: Clock) -> None:
    hasty = Config(connect_timeout=1, read_timeout=0.05, retries={"total_max_attempts": 1})
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        session = boto3.Session("test", "test", region_name="eu-central-1")
        client = session.client("secretsmanager", endpoint_url=address, config=hasty)
        secret = Secret(client, "arn", clock)
        secret.read_ahead()
        with pytest.raises(SecretUnavailable, match="could not be read"):
            secret.value()


def test_a_secret_that_does_not_exist_is_unavailable(account: Account, clock: Clock) -> None:
    with pytest.raises(SecretUnavailable, match="no-such-secret"):
        Secret(account.secrets_manager, "no-such-secret", clock).value()


def test_a_binary_secret_is_unavailable(account: Account, clock: Clock) -> None:
    name = f"binary-{account.number}"
    account.secrets_manager.create_secret(Name=name, SecretBinary=b"whsec_")
    with pytest.raises(SecretUnavailable):
        Secret(account.secrets_manager, name, clock).value()


def test_a_secret_that_the_stack_made_without_a_value_says_how_to_fill_it(account: Account, clock: Clock) -> None:
    name = f"empty-{account.number}"
    account.secrets_manager.create_secret(Name=name)
    secret = Secret(account.secrets_manager, name, clock)
    with pytest.raises(SecretUnavailable, match="is not filled yet: run clerk-supabase setup --store-secrets"):
        secret.value()
    account.secrets_manager.put_secret_value(SecretId=name, SecretString="filled")
    clock.now += RETRY_SECONDS
    assert secret.value() == "filled"


def test_a_secret_of_nothing_but_spaces_is_not_filled_either(account: Account, clock: Clock) -> None:
    with pytest.raises(SecretUnavailable, match="not filled yet"):
        Secret(account.secrets_manager, account.put_secret("blank", " "), clock).value()
