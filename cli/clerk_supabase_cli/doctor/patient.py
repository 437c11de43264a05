"""The subject of the checks: a deployed stack, its secrets, database and Clerk instance, as far as they are named."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from clerk_supabase.clerk.address import BASE_URL
from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.settings import (
    IngestSettings,
    ReconcileFunctionSettings,
    SessionSettings,
    SyncSettings,
)
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase_cli.local.ministack import execute_api_url
from clerk_supabase_cli.operate.database import Connection, open_database
from clerk_supabase_cli.operate.queues import OUTPUTS, AwsUnreachable, Queues, client, errors_explained
from clerk_supabase_cli.operate.setup.management_http import ACCESS_TOKEN
from clerk_supabase_cli.operate.setup.management_http import BASE_URL as MANAGEMENT_API_URL
from clerk_supabase_cli.operate.setup.setup_checks import Instance
from clerk_supabase_cli.project import certificates, find_root

HOW_TO_NAME_A_STACK: Final = "name the stack: --stack-name or CLERK_SUPABASE_STACK"
HOW_TO_NAME_THE_DATABASE: Final = "name the database: --database-url or DATABASE_URL"

_SECRETS: Final[Mapping[str, str]] = {
    "webhook_secret": "CLERK_WEBHOOK_SIGNING_SECRET",
    "clerk_secret_key": "CLERK_SECRET_KEY",
    "worker_url": "SYNC_DATABASE_URL",
    "session_url": "SESSION_DATABASE_URL",
    "supabase_key": "SUPABASE_ANON_KEY",
    "supabase_access_token": ACCESS_TOKEN,
}
"""By the fields of `Named`, the variables."""
_CLERK_SECONDS: Final = 8.0
_CA_IN_LAMBDA: Final = "/opt/ca/"

Value = TypeVar("Value")


class NotLookedAt(Exception):
    """The subject of a check was not named, or cannot exist here."""


@dataclass(frozen=True, slots=True)
class Named:
    """The names and secrets given by the operator; each is empty if not given."""

    root: Path
    """The files of the project."""
    stack_name: str = ""
    database_url: str = ""
    webhook_secret: str = field(default="", repr=False)
    """The webhook's signing secret, as Clerk shows it."""
    clerk_secret_key: str = field(default="", repr=False)
    worker_url: str = field(default="", repr=False)
    session_url: str = field(default="", repr=False)
    ca_file: str = ""
    publishable_key: str = ""
    frontend_api_url: str = ""
    clerk_api_url: str = ""
    token: str = field(default="", repr=False)
    supabase_url: str = ""
    supabase_key: str = field(default="", repr=False)
    supabase_access_token: str = field(default="", repr=False)
    management_api_url: str = MANAGEMENT_API_URL
    canary_seconds: float = 30.0

    @classmethod
    def with_secrets(cls, **given: Any) -> Named:
        """The given names, beside the secrets of the environment.

        No option holds a secret, because everybody on this machine can read options.
        """
        secrets: dict[str, Any] = {name: os.environ.get(variable, "").strip() for name, variable in _SECRETS.items()}
        publishable_key = given.pop("publishable_key", "").strip()
        return cls(root=find_root(), publishable_key=publishable_key, **secrets, **given)


class Once(Generic[Value]):
    """A value, read at the first call. Only the first check gets the reason if the value cannot be read."""

    def __init__(self, what: str, read: Callable[[], Value]) -> None:
        self._what = what
        self._read = read
        self._values: list[Value] = []
        self._has_failed = False

    def __call__(self) -> Value:
        """The value. Raises the error of the first reading; NotLookedAt afterwards."""
        if self._has_failed:
            raise NotLookedAt(f"{self._what} could not be read, as said above")
        if not self._values:
            try:
                self._values.append(self._read())
            except NotLookedAt:
                # Nothing was read, and nothing failed: each check repeats the missing name.
                raise
            except Exception:  # raised again for the first check; the others only learn that there was an error
                self._has_failed = True
                raise
        return self._values[0]


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack of template.yaml."""

    name: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]

    @classmethod
    def named(cls, name: str) -> Stack:
        """Raises AwsUnreachable."""
        with errors_explained():
            [found] = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
        if "IngestFunctionName" not in outputs:
            raise AwsUnreachable(f"{name} is no stack of this project: it has no output IngestFunctionName")
        return cls(name, outputs, parameters)

    @property
    def is_emulated(self) -> bool:
        """Tells whether the stack is deployed to an emulated AWS."""
        return bool(self.parameters.get("AwsEndpointUrl"))

    @property
    def webhook_url(self) -> str:
        """The address to which Clerk posts, in a form that works on this machine."""
        url, endpoint = self.outputs["WebhookUrl"], os.environ.get("AWS_ENDPOINT_URL", "")
        return execute_api_url(url, endpoint) if urlsplit(endpoint).hostname == "127.0.0.1" else url

    @property
    def queues(self) -> Queues:
        """Its queues on the way of an event."""
        return Queues({name: self.outputs[key] for name, key in OUTPUTS.items() if key in self.outputs})

    @property
    def version(self) -> str | None:
        """The version in the description of the sync function; None if the description names no version.

        Raises AwsUnreachable.
        """
        with errors_explained():
            # A published version has a description of its own, which the template uses for the parameters.
            found = client("lambda").get_function_configuration(FunctionName=self.outputs["SyncFunctionName"])
        named = re.search(r"\d+\.\d+\.\d+", found.get("Description", ""))
        return named[0] if named else None

    def environment_of(self, output: str) -> Mapping[str, str] | None:
        """The variables of the function with this output; None if the stack has no such function.

        The variables are read from the function, not from the parameters: the function runs with them. Raises
        AwsUnreachable.
        """
        if output not in self.outputs:
            return None
        with errors_explained():
            found = client("lambda").get_function_configuration(FunctionName=self.outputs[output], Qualifier="live")
        variables: Mapping[str, str] = found["Environment"]["Variables"]
        return variables


@dataclass(frozen=True, slots=True)
class Functions:
    """The settings of the deployed functions."""

    ingest: IngestSettings
    sync: SyncSettings
    reconcile: ReconcileFunctionSettings | None
    session: SessionSettings | None
    rules: ReconcileSettings = field(default_factory=ReconcileSettings)
    """Rules of the comparison; the defaults for a stack without comparisons."""

    @classmethod
    def of(cls, stack: Stack) -> Functions:
        """Raises AwsUnreachable, and SettingsError when a variable is missing or malformed."""
        environments = {
            name: stack.environment_of(f"{name}FunctionName") for name in ("Ingest", "Sync", "Reconcile", "Session")
        }
        reconcile, session = environments["Reconcile"], environments["Session"]
        return cls(
            IngestSettings.from_environment(environments["Ingest"] or {}),
            SyncSettings.from_environment(environments["Sync"] or {}),
            None if reconcile is None else ReconcileFunctionSettings.from_environment(reconcile),
            None if session is None else SessionSettings.from_environment(session),
            ReconcileSettings() if reconcile is None else ReconcileSettings.from_environment(reconcile),
        )


class Patient:
    """Reads the values for the checks, each at most once. Methods raise NotLookedAt if their source was not named."""

    def __init__(self, named: Named) -> None:
        self.named = named
        self.stack = Once("the stack", self._stack)
        """The deployed stack. Raises AwsUnreachable."""
        self.functions = Once("the functions' settings", lambda: Functions.of(self.stack()))
        """Raises AwsUnreachable and SettingsError."""
        self._database = Once("the database", self._reach_database)
        self._secrets: dict[str, Once[str]] = {}

    @property
    def has_stack(self) -> bool:
        """Tells whether a stack was named."""
        return bool(self.named.stack_name)

    @contextmanager
    def database(self) -> Iterator[Connection]:
        """A connection as the tables' owner. Raises DatabaseFailed, for a statement in the block too."""
        self._database()
        with open_database(self.named.database_url) as connection:
            yield connection

    def stored_webhook_secret(self) -> str:
        """The signing secrets as ingest reads them. Raises AwsUnreachable."""
        return self._secret(self.functions().ingest.webhook_secret_arn)

    def webhook_secret(self) -> str:
        """The secret to sign with: the given secret, else the stack's newest. Raises AwsUnreachable."""
        stored = self.named.webhook_secret or self.stored_webhook_secret()
        return stored.split()[-1] if stored.split() else ""

    def worker_url(self) -> Fixed:
        """The connection string of sync. Raises AwsUnreachable."""
        if self.named.worker_url and not self.has_stack:
            return Fixed(self.named.worker_url, "SYNC_DATABASE_URL")
        return self._stored(self.functions().sync.database_secret_arn)

    def session_url(self) -> Fixed:
        """The connection string of the session function. Raises AwsUnreachable."""
        if self.named.session_url and not self.has_stack:
            return Fixed(self.named.session_url, "SESSION_DATABASE_URL")
        if (session := self._session()) is None:
            raise NotLookedAt("this stack has no POST /session")
        return self._stored(session.session_database_secret_arn)

    def ca_file(self) -> str:
        """The database's certificate authority as a file on this machine; empty for a stack without any."""
        if self.named.ca_file or not self.has_stack:
            return self.named.ca_file
        in_lambda = self.functions().sync.database_ca_file
        if not in_lambda:
            return ""
        file = certificates(self.named.root) / in_lambda.removeprefix(_CA_IN_LAMBDA)
        if not file.is_file():
            raise NotLookedAt(f"{in_lambda} of the layer is not on this machine ({file})")
        return str(file)

    @contextmanager
    def clerk(self) -> Iterator[Clerk]:
        """Clerk's Backend API, with the secret key of the stack. Raises AwsUnreachable."""
        key, url = self.named.clerk_secret_key, self.named.clerk_api_url
        if self.has_stack or not key:
            reconcile = self.functions().reconcile
            if reconcile is None:
                raise NotLookedAt("this stack has no secret key of Clerk (UseClerkApi=false)")
            key, url = self._secret(reconcile.clerk_secret_key_arn), url or reconcile.clerk_api_url
        http = ClerkHttp(Fixed(key.strip(), "CLERK_SECRET_KEY"), url or BASE_URL)
        try:
            yield Clerk(http, deadline=time.monotonic() + _CLERK_SECONDS)
        finally:
            http.close()

    def instances(self) -> list[Instance]:
        """The addresses of the app's Clerk instance, by issuer. Raises AwsUnreachable and SettingsError."""
        key, url = self.named.publishable_key, self.named.frontend_api_url
        if not key:
            session = self._session() if self.has_stack else None
            if session is None:
                raise NotLookedAt("no publishable key was given: --publishable-key or CLERK_PUBLISHABLE_KEY")
            key, url = session.clerk_publishable_key, url or ",".join(session.clerk_frontend_api_urls)
        return Instance.of(frontend_api(key), url)

    def _session(self) -> SessionSettings | None:
        return self.functions().session

    def _stack(self) -> Stack:
        if not self.named.stack_name:
            raise NotLookedAt(HOW_TO_NAME_A_STACK)
        return Stack.named(self.named.stack_name)

    def _reach_database(self) -> None:
        if not self.named.database_url:
            raise NotLookedAt(HOW_TO_NAME_THE_DATABASE)
        with open_database(self.named.database_url):
            pass

    def _stored(self, arn: str) -> Fixed:
        return Fixed(self._secret(arn), f"the secret {_name_of(arn)}")

    def _secret(self, arn: str) -> str:
        return self._secrets.setdefault(arn, Once(f"the secret {_name_of(arn)}", lambda: _secret_value(arn)))()


def _name_of(arn: str) -> str:
    return arn.rpartition(":")[2]


def _secret_value(arn: str) -> str:
    with errors_explained():
        answer: Any = client("secretsmanager").get_secret_value(SecretId=arn)
    if "SecretString" not in answer:
        raise AwsUnreachable(f"the secret {_name_of(arn)} is binary; store it as text")
    return str(answer["SecretString"])
