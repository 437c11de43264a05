"""Environment variables as frozen settings. Secrets appear by ARN only: their values never enter the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(ValueError):
    """An environment variable is missing or malformed."""


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """What the ingest function needs."""

    webhook_secret_arn: str
    sync_queue_url: str
    parked_queue_url: str
    clerk_instance_id: str
    """`ins_...`; empty: events of any instance are accepted."""
    max_body_bytes: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> IngestSettings:
        """Raises SettingsError with the name of the variable that is wrong."""
        return cls(
            webhook_secret_arn=_required(environment, "WEBHOOK_SECRET_ARN"),
            sync_queue_url=_required(environment, "SYNC_QUEUE_URL"),
            parked_queue_url=_required(environment, "PARKED_QUEUE_URL"),
            clerk_instance_id=environment.get("CLERK_INSTANCE_ID", ""),
            max_body_bytes=_positive_integer(environment, "MAX_BODY_BYTES"),
        )


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What the sync function needs."""

    database_secret_arn: str
    parked_queue_url: str
    database_ca_file: str
    """Certificate authority that signs the database's certificate; empty: libpq's own default."""
    keep_private_metadata: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SyncSettings:
        """Raises SettingsError with the name of the variable that is wrong."""
        return cls(
            database_secret_arn=_required(environment, "DATABASE_SECRET_ARN"),
            parked_queue_url=_required(environment, "PARKED_QUEUE_URL"),
            database_ca_file=environment.get("DATABASE_CA_FILE", ""),
            keep_private_metadata=environment.get("KEEP_PRIVATE_METADATA", "false") == "true",
        )


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """What the retry function needs."""

    database_secret_arn: str
    sync_queue_url: str
    database_ca_file: str
    """As in SyncSettings."""
    keep_private_metadata: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RetrySettings:
        """Raises SettingsError with the name of the variable that is wrong."""
        return cls(
            database_secret_arn=_required(environment, "DATABASE_SECRET_ARN"),
            sync_queue_url=_required(environment, "SYNC_QUEUE_URL"),
            database_ca_file=environment.get("DATABASE_CA_FILE", ""),
            keep_private_metadata=environment.get("KEEP_PRIVATE_METADATA", "false") == "true",
        )


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"environment variable {name} is not set; template.yaml sets it for every function")
    return value


def _positive_integer(environment: Mapping[str, str], name: str) -> int:
    value = _required(environment, name)
    if not value.isdecimal() or int(value) == 0:
        raise SettingsError(f"environment variable {name} must be a whole number above 0, not {value!r}")
    return int(value)
