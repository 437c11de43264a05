"""Settings: an error names the variable."""

from __future__ import annotations

import pytest

from clerk_supabase.reconcile.drift import Brake
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.settings import (
    IngestSettings,
    Keep,
    ReconcileFunctionSettings,
    RetrySettings,
    SettingsError,
    SyncSettings,
)
from tests.kit.environments import environment_of

INGEST = environment_of(
    "ingest",
    WEBHOOK_SECRET_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook",
    SYNC_QUEUE_URL="https://sqs.example.test/sync",
    PARKED_QUEUE_URL="https://sqs.example.test/parked",
    CLERK_INSTANCE_ID="ins_1",
)
SYNC = environment_of(
    "sync",
    DATABASE_SECRET_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:database",
    PARKED_QUEUE_URL="https://sqs.example.test/parked",
    DATABASE_CA_FILE="/opt/ca/supabase.pem",
)
RETRY = environment_of(
    "retry",
    DATABASE_SECRET_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:database",
    SYNC_QUEUE_URL="https://sqs.example.test/sync",
    DATABASE_CA_FILE="/opt/ca/supabase.pem",
    KEEP_PRIVATE_METADATA="true",
)
RECONCILE = environment_of(
    "reconcile",
    CLERK_SECRET_KEY_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:clerk",
    DATABASE_SECRET_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:database",
    SYNC_QUEUE_URL="https://sqs.example.test/sync",
    CLERK_INSTANCE_ID="ins_1",
    RATE_LIMIT_SHARE="0.25",
    BRAKE_ROWS="0",
    BRAKE_PERCENT="2.5",
    SILENCE_MINUTES="45",
    DELETE_MARGIN_SECONDS="120",
    SWEEP_MINUTES="90",
    HOLD_BACK_DAYS="0",
    KEEP_PRIVATE_METADATA="true",
)
MAY_BE_MISSING = {"CLERK_API_URL", "CLERK_INSTANCE_ID", "DATABASE_CA_FILE", "KEEP_PRIVATE_METADATA", "PURGE_BY"}


def test_reconcile_reads_its_settings_from_the_environment() -> None:
    settings = ReconcileFunctionSettings.from_environment(RECONCILE)
    assert settings.clerk_secret_key_arn == RECONCILE["CLERK_SECRET_KEY_ARN"]
    assert settings.sync_queue_url == RECONCILE["SYNC_QUEUE_URL"]
    assert (settings.clerk_api_url, settings.database_ca_file, settings.rate_limit_share) == ("", "", 0.25)
    assert settings.keep == Keep(hold_back_days=0, purge_by="scrub", deliveries_days=100, audit_days=365)


def test_the_rules_of_a_run_are_read_from_the_same_environment() -> None:
    assert ReconcileSettings.from_environment(RECONCILE) == ReconcileSettings(
        brake=Brake(rows=0, percent=2.5),
        keep_private_metadata=True,
        instance_id="ins_1",
        silence_minutes=45,
        delete_margin_ms=120_000,
        sweep_minutes=90,
    )


def test_a_run_without_a_stack_has_the_rules_that_the_template_has_by_default() -> None:
    assert ReconcileSettings.from_environment(environment_of("reconcile")) == ReconcileSettings()


def test_data_is_kept_without_a_stack_for_as_long_as_the_template_says_by_default() -> None:
    assert Keep.from_environment(environment_of("reconcile")) == Keep()


@pytest.mark.parametrize("name", sorted(RECONCILE.keys() - MAY_BE_MISSING))
def test_reconcile_names_the_variable_that_is_missing(name: str) -> None:
    environment = {key: value for key, value in RECONCILE.items() if key != name}
    with pytest.raises(SettingsError, match=name):
        _ = (ReconcileFunctionSettings.from_environment(environment), ReconcileSettings.from_environment(environment))


@pytest.mark.parametrize("wrong", ["many", "-1", "nan", "inf"])
def test_reconcile_names_the_variable_that_is_no_number(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"BRAKE_PERCENT must be a number"):
        ReconcileSettings.from_environment(RECONCILE | {"BRAKE_PERCENT": wrong})


def test_retry_reads_its_settings_from_the_environment() -> None:
    settings = RetrySettings.from_environment(RETRY)
    assert settings.database_secret_arn == RETRY["DATABASE_SECRET_ARN"]
    assert settings.sync_queue_url == RETRY["SYNC_QUEUE_URL"]
    assert settings.database_ca_file == "/opt/ca/supabase.pem"
    assert settings.keep_private_metadata


@pytest.mark.parametrize("name", ["DATABASE_SECRET_ARN", "SYNC_QUEUE_URL"])
def test_retry_names_the_variable_that_is_missing(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        RetrySettings.from_environment({key: value for key, value in RETRY.items() if key != name})


def test_ingest_reads_its_settings_from_the_environment() -> None:
    settings = IngestSettings.from_environment(INGEST)
    assert settings.webhook_secret_arn == INGEST["WEBHOOK_SECRET_ARN"]
    assert settings.sync_queue_url == INGEST["SYNC_QUEUE_URL"]
    assert settings.parked_queue_url == INGEST["PARKED_QUEUE_URL"]
    assert settings.clerk_instance_id == "ins_1"
    assert settings.max_body_bytes == 1_040_000


def test_sync_reads_its_settings_from_the_environment() -> None:
    settings = SyncSettings.from_environment(SYNC)
    assert settings.database_secret_arn == SYNC["DATABASE_SECRET_ARN"]
    assert settings.parked_queue_url == SYNC["PARKED_QUEUE_URL"]
    assert settings.database_ca_file == "/opt/ca/supabase.pem"


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("name", ["WEBHOOK_SECRET_ARN", "SYNC_QUEUE_URL", "PARKED_QUEUE_URL", "MAX_BODY_BYTES"])
def test_ingest_names_the_variable_that_is_missing(name: str, value: str | None) -> None:
    environment = {key: each for key, each in INGEST.items() if key != name}
    if value is not None:
        environment[name] = value
    with pytest.raises(SettingsError, match=name):
        IngestSettings.from_environment(environment)


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("name", ["DATABASE_SECRET_ARN", "PARKED_QUEUE_URL"])
def test_sync_names_the_variable_that_is_missing(name: str, value: str | None) -> None:
    environment = {key: each for key, each in SYNC.items() if key != name}
    if value is not None:
        environment[name] = value
    with pytest.raises(SettingsError, match=name):
        SyncSettings.from_environment(environment)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "many", " ", "²"])
def test_a_limit_that_is_no_number_above_zero_is_named(value: str) -> None:
    with pytest.raises(SettingsError, match="MAX_BODY_BYTES"):
        IngestSettings.from_environment(INGEST | {"MAX_BODY_BYTES": value})


def test_optional_settings_may_be_missing() -> None:
    needed = {name: value for name, value in INGEST.items() if name != "CLERK_INSTANCE_ID"}
    assert IngestSettings.from_environment(needed).clerk_instance_id == ""
    needed = {name: value for name, value in SYNC.items() if name != "DATABASE_CA_FILE"}
    assert SyncSettings.from_environment(needed).database_ca_file == ""


@pytest.mark.parametrize(("value", "kept"), [("true", True), ("false", False), ("", False), ("yes", False)])
def test_private_metadata_is_kept_only_with_the_value_true(value: str, kept: bool) -> None:
    assert SyncSettings.from_environment(SYNC | {"KEEP_PRIVATE_METADATA": value}).keep_private_metadata is kept


def test_private_metadata_is_not_kept_by_default() -> None:
    assert not SyncSettings.from_environment(SYNC).keep_private_metadata
