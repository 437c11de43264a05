"""Environment variables as frozen settings. Secrets appear by ARN only: their values never enter the environment.

The type of a field says how its variable is read. A field without such a type is not read from the environment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, get_type_hints

Environment = Mapping[str, str]

# The origin of a page or an app: scheme, host and port, spelled as browsers spell an origin. The excluded schemes have
# no origin of their own.
ORIGIN: Final = re.compile(
    r"(?!(about|blob|data|file|filesystem|javascript|vbscript):)"
    r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
)

# The address of a Frontend API or of a proxy for one, as `iss` spells it: without a slash at its end.
ISSUER: Final = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


class SettingsError(ValueError):
    """An environment variable is missing or malformed."""


class Settings:
    """A dataclass whose fields are read from the environment."""

    __slots__ = ()

    @classmethod
    def from_environment(cls, environment: Environment) -> Self:
        """Reads each field from the variable of its name. Raises SettingsError, which names the wrong variable."""
        values: dict[str, Any] = {}
        for field, hint in get_type_hints(cls, include_extras=True).items():
            if isinstance(hint, type) and issubclass(hint, Settings):
                values[field] = hint.from_environment(environment)
            for read in getattr(hint, "__metadata__", ()):
                values[field] = read(environment, field.upper())
        return cls(**values)


def variable(name: str, read: Callable[[Environment, str], object]) -> Callable[[Environment, str], object]:
    """Reads a field from a variable that does not have the name of the field."""
    return lambda environment, _: read(environment, name)


def issuers_in(text: str, source: str) -> tuple[str, ...]:
    """Issuers separated by commas. *source*: the name of the list, for the error. Raises SettingsError."""
    issuers = _separated(text)
    for issuer in issuers:
        if not ISSUER.fullmatch(issuer):
            raise SettingsError(f"{source} must list issuers such as https://app.example.com/__clerk")
    return issuers


def text(environment: Environment, name: str) -> str:
    """The value of a variable; empty for a missing variable."""
    return environment.get(name, "")


def number(environment: Environment, name: str) -> float:
    """A number of at least 0."""
    value = _required(environment, name)
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise SettingsError(f"environment variable {name} must be a number, at least 0, not {value!r}")
    return found


def whole(environment: Environment, name: str) -> int:
    """The whole part of a number of at least 0."""
    return int(number(environment, name))


def milliseconds(environment: Environment, name: str) -> int:
    """The milliseconds of a variable in seconds."""
    return int(number(environment, name) * 1000)


def _required(environment: Environment, name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"environment variable {name} is not set; template.yaml sets it for every function")
    return value


def _flag(environment: Environment, name: str) -> bool:
    return environment.get(name, "") == "true"


def _positive_integer(environment: Environment, name: str) -> int:
    value = _required(environment, name)
    if not value.isdecimal() or int(value) == 0:
        raise SettingsError(f"environment variable {name} must be a whole number above 0, not {value!r}")
    return int(value)


def _purge_by(environment: Environment, name: str) -> PurgeBy:
    return "delete" if environment.get(name) == "delete" else "scrub"


def _issuers(environment: Environment, name: str) -> tuple[str, ...]:
    return issuers_in(environment.get(name, ""), name)


def _origins(environment: Environment, name: str) -> tuple[str, ...]:
    origins = _separated(environment.get(name, ""))
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise SettingsError(f"environment variable {name} must list origins such as https://app.example.com")
    return origins


def _separated(listed: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in listed.split(",") if part.strip())


Text = Annotated[str, text]
Required = Annotated[str, _required]
Flag = Annotated[bool, _flag]
Number = Annotated[float, number]
Whole = Annotated[int, whole]
Positive = Annotated[int, _positive_integer]
Origins = Annotated[tuple[str, ...], _origins]
PurgeBy = Literal["scrub", "delete"]


@dataclass(frozen=True, slots=True)
class IngestSettings(Settings):
    """Settings of the ingest function."""

    webhook_secret_arn: Required
    sync_queue_url: Required
    parked_queue_url: Required
    clerk_instance_id: Text
    """`ins_...`; empty: events of any instance are accepted."""
    max_body_bytes: Positive
    sessions_days: Whole = 0
    """0: events of sessions are not synced."""


@dataclass(frozen=True, slots=True)
class SyncSettings(Settings):
    """Settings of the sync function."""

    database_secret_arn: Required
    parked_queue_url: Required
    database_ca_file: Text
    """Path of a PEM file: the authority that signs the database's certificate. Empty: libpq's own default."""
    keep_private_metadata: Flag


@dataclass(frozen=True, slots=True)
class RetrySettings(Settings):
    """Settings of the retry function."""

    database_secret_arn: Required
    sync_queue_url: Required
    database_ca_file: Text
    """As in SyncSettings."""
    keep_private_metadata: Flag


@dataclass(frozen=True, slots=True)
class Keep(Settings):
    """Days for which data is kept."""

    hold_back_days: Whole = 30
    """Days for which a row deleted in Clerk is hidden and can be restored, before its purge. 0: purge at once."""
    purge_by: Annotated[PurgeBy, _purge_by] = "scrub"
    """The purge of a user: `scrub` removes all personal data from the row, `delete` removes the row. A purge of any
    other object removes the row."""
    deliveries_days: Positive = 100
    """Longer than Svix can replay a message."""
    audit_days: Positive = 365
    runs_days: int = 90
    """For the runs of reconcile and their findings."""
    sessions_days: Whole = 0
    """For sessions, from their end."""


@dataclass(frozen=True, slots=True)
class ReconcileFunctionSettings(Settings):
    """Settings of the reconcile function, besides the rules of a run."""

    clerk_secret_key_arn: Required
    clerk_api_url: Text
    """Address of the Backend API; empty: Clerk's own address."""
    rate_limit_share: Number
    """The part of Clerk's rate limit for this function, above 0, at most 1."""
    database_secret_arn: Required
    sync_queue_url: Required
    database_ca_file: Text
    """As in SyncSettings."""
    keep: Keep


@dataclass(frozen=True, slots=True)
class SessionSettings(Settings):
    """Settings of the session function."""

    clerk_publishable_key: Required
    clerk_frontend_api_urls: Annotated[tuple[str, ...], variable("CLERK_FRONTEND_API_URL", _issuers)]
    """Issuers whose tokens are accepted, each with its own keys; empty: the issuer in the publishable key."""
    authorized_parties: Origins
    """Origins whose tokens are accepted; empty: the tokens of any app of the instance."""
    accept_missing_party: Flag
    allowed_origins: Origins
    """Origins whose pages may read the answer."""
    clerk_secret_key_arn: Required
    clerk_api_url: Text
    """Address of the Backend API; empty: Clerk's own address."""
    session_database_secret_arn: Required
    database_ca_file: Text
    """As in SyncSettings."""
    keep_private_metadata: Flag
