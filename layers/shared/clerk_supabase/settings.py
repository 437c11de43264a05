"""Environment variables as frozen settings. Secrets appear by ARN only: their values never enter the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

# Of a page or an app: scheme, host and port, spelled as browsers do. The schemes left out have no origin of their own.
ORIGIN: Final = re.compile(
    r"(?!(about|blob|data|file|filesystem|javascript|vbscript):)"
    r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
)

# The address of a Frontend API or of a proxy for one, as `iss` spells it: without a slash at its end.
ISSUER: Final = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


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
            keep_private_metadata=_flag(environment, "KEEP_PRIVATE_METADATA"),
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
            keep_private_metadata=_flag(environment, "KEEP_PRIVATE_METADATA"),
        )


PurgeBy = Literal["scrub", "delete"]


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is kept, in days."""

    hold_back_days: int = 30
    """A row that was deleted in Clerk is hidden for so long, and can be brought back. 0: it goes at once."""
    purge_by: PurgeBy = "scrub"
    """Then a user's row loses all personal data, or goes as a whole; other rows always go."""
    deliveries_days: int = 100
    """Longer than Svix can replay a message."""
    audit_days: int = 365
    runs_days: int = 90
    """Runs of reconcile and what they found."""


@dataclass(frozen=True, slots=True)
class ReconcileFunctionSettings:
    """What the reconcile function needs."""

    clerk_secret_key_arn: str
    clerk_api_url: str
    """Empty: Clerk's own."""
    rate_limit_share: float
    """How much of Clerk's rate limit may be used, above 0, at most 1."""
    database_secret_arn: str
    sync_queue_url: str
    database_ca_file: str
    """As in SyncSettings."""
    clerk_instance_id: str
    """The only instance whose key is taken; empty: that of the first run."""
    keep_private_metadata: bool
    brake_rows: int
    brake_percent: float
    """More deletes of a kind than `brake_rows`, and than so many percent of its rows, are not done."""
    silence_minutes: int
    delete_margin_seconds: float
    """Nothing younger is deleted, and Clerk has to say twice, so far apart, that an object is gone."""
    sweep_minutes: int
    """Quick runs compare every list within so many minutes, slice by slice."""
    keep: Keep

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ReconcileFunctionSettings:
        """Raises SettingsError with the name of the variable that is wrong."""
        return cls(
            clerk_secret_key_arn=_required(environment, "CLERK_SECRET_KEY_ARN"),
            clerk_api_url=environment.get("CLERK_API_URL", ""),
            rate_limit_share=_number(environment, "RATE_LIMIT_SHARE"),
            database_secret_arn=_required(environment, "DATABASE_SECRET_ARN"),
            sync_queue_url=_required(environment, "SYNC_QUEUE_URL"),
            database_ca_file=environment.get("DATABASE_CA_FILE", ""),
            clerk_instance_id=environment.get("CLERK_INSTANCE_ID", ""),
            keep_private_metadata=_flag(environment, "KEEP_PRIVATE_METADATA"),
            brake_rows=int(_number(environment, "BRAKE_ROWS")),
            brake_percent=_number(environment, "BRAKE_PERCENT"),
            silence_minutes=_positive_integer(environment, "SILENCE_MINUTES"),
            delete_margin_seconds=_number(environment, "DELETE_MARGIN_SECONDS"),
            sweep_minutes=_positive_integer(environment, "SWEEP_MINUTES"),
            keep=Keep(
                hold_back_days=int(_number(environment, "HOLD_BACK_DAYS")),
                purge_by="delete" if environment.get("PURGE_BY") == "delete" else "scrub",
                deliveries_days=_positive_integer(environment, "DELIVERIES_DAYS"),
                audit_days=_positive_integer(environment, "AUDIT_DAYS"),
            ),
        )


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the session function needs."""

    clerk_publishable_key: str
    clerk_frontend_api_urls: tuple[str, ...]
    """Issuers whose tokens are taken, each with keys of its own; none: the one that the publishable key names."""
    authorized_parties: tuple[str, ...]
    """Origins whose tokens are taken; none: those of any app of the instance."""
    accept_missing_party: bool
    allowed_origins: tuple[str, ...]
    """Origins whose pages may read the answer."""
    clerk_secret_key_arn: str
    clerk_api_url: str
    """Empty: Clerk's own."""
    session_database_secret_arn: str
    database_ca_file: str
    """As in SyncSettings."""
    keep_private_metadata: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SessionSettings:
        """Raises SettingsError with the name of the variable that is wrong."""
        return cls(
            clerk_publishable_key=_required(environment, "CLERK_PUBLISHABLE_KEY"),
            clerk_frontend_api_urls=issuers_in(environment.get("CLERK_FRONTEND_API_URL", ""), "CLERK_FRONTEND_API_URL"),
            authorized_parties=_origins(environment, "AUTHORIZED_PARTIES"),
            accept_missing_party=_flag(environment, "ACCEPT_MISSING_PARTY"),
            allowed_origins=_origins(environment, "ALLOWED_ORIGINS"),
            clerk_secret_key_arn=_required(environment, "CLERK_SECRET_KEY_ARN"),
            clerk_api_url=environment.get("CLERK_API_URL", ""),
            session_database_secret_arn=_required(environment, "SESSION_DATABASE_SECRET_ARN"),
            database_ca_file=environment.get("DATABASE_CA_FILE", ""),
            keep_private_metadata=_flag(environment, "KEEP_PRIVATE_METADATA"),
        )


def issuers_in(text: str, source: str) -> tuple[str, ...]:
    """Issuers that are separated by commas. *source*: what named them. Raises SettingsError."""
    issuers = _separated(text)
    for issuer in issuers:
        if not ISSUER.fullmatch(issuer):
            raise SettingsError(f"{source} must list issuers such as https://app.example.com/__clerk")
    return issuers


def _separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _origins(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    origins = _separated(environment.get(name, ""))
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise SettingsError(f"environment variable {name} must list origins such as https://app.example.com")
    return origins


def _flag(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "") == "true"


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


def _number(environment: Mapping[str, str], name: str) -> float:
    value = _required(environment, name)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise SettingsError(f"environment variable {name} must be a number, at least 0, not {value!r}")
    return number
