"""The secrets of a stack in Secrets Manager: their formats, and the code that stores their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from clerk_supabase_cli.operate.deployed import secrets_of_stack
from clerk_supabase_cli.operate.queues import client
from clerk_supabase_cli.operate.setup.role_urls import SESSION_ROLE, WORKER_ROLE
from clerk_supabase_cli.operate.setup.secret_formats import (
    connection_string_problem,
    role_warning,
    secret_key_problem,
    webhook_secret_problem,
)
from clerk_supabase_cli.operate.setup.setup_checks import FAILED


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret of the stack."""

    parameter: str
    """The parameter of template.yaml for its ARN."""
    name: str
    """The name of the secret, below the prefix."""
    variable: str
    prefixes: tuple[str, ...]
    what: str
    role: str = ""
    """The role in a connection string; empty for other secrets."""

    def problem_with(self, value: str) -> str:
        """The problem of a value, as a sentence with its variable; empty for a good value."""
        if self.role:
            return connection_string_problem(value, self.variable)
        problem = webhook_secret_problem(value) if self.name == "webhook" else secret_key_problem(value)
        return f"{self.variable} {problem}" if problem else ""

    def warning_about(self, value: str) -> str:
        """A warning about a value without a problem; empty if there is nothing to warn of."""
        return role_warning(value, self.role) if self.role and value else ""


SECRETS: Final = (
    Kept(
        "WebhookSecretArn",
        "webhook",
        "CLERK_WEBHOOK_SIGNING_SECRET",
        ("whsec_",),
        "signing secret of the webhooks",
    ),
    Kept("ClerkSecretKeyArn", "clerk", "CLERK_SECRET_KEY", ("sk_live_", "sk_test_"), "secret key of Clerk's API"),
    Kept(
        "DatabaseSecretArn",
        "database",
        "SYNC_DATABASE_URL",
        ("postgresql://", "postgres://"),
        f"connection string of {WORKER_ROLE}",
        WORKER_ROLE,
    ),
    Kept(
        "SessionDatabaseSecretArn",
        "session-database",
        "SESSION_DATABASE_URL",
        ("postgresql://", "postgres://"),
        f"connection string of {SESSION_ROLE}",
        SESSION_ROLE,
    ),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """The result for a secret, without its value."""

    parameter: str
    name: str
    status: str
    """created, filled, updated, unchanged, missing (no value was given) or failed."""
    arn: str | None = None
    """The ARN for the parameter; None if the stack has it already."""
    reason: str = ""


def store(prefix: str, value_of: Callable[[Kept], str]) -> Iterator[Stored]:
    """Fills the secrets of the stack *prefix*; without such a stack, keeps them below the name *prefix*.

    *value_of*: the value of a secret; empty to leave the secret as it is.
    """
    manager = client("secretsmanager")
    try:
        deployed = secrets_of_stack(prefix, [kept.parameter for kept in SECRETS])
    except (BotoCoreError, ClientError) as error:
        yield Stored("", prefix, FAILED, reason=f"AWS does not say where its secrets are: {_code(error)}")
        return
    for kept in SECRETS:
        if deployed and kept.parameter not in deployed:
            continue  # the stack has no such secret
        name = deployed.get(kept.parameter) or f"{prefix.rstrip('/')}/{kept.name}"
        value = value_of(kept)
        problem = kept.problem_with(value) if value else ""
        if problem:
            yield Stored(kept.parameter, name, FAILED, reason=problem)
            continue
        try:
            done = _filled(manager, kept, name, value) if deployed else _stored(manager, kept, name, value)
            yield replace(done, reason=done.reason or kept.warning_about(value))
        except (BotoCoreError, ClientError) as error:
            yield Stored(kept.parameter, name, FAILED, reason=f"AWS rejected the request: {_code(error)}")


def _filled(manager: Any, kept: Kept, identifier: str, value: str) -> Stored:
    """Fills a secret named by the stack; a secret made by the stack has no value at first."""
    try:
        there = manager.get_secret_value(SecretId=identifier).get("SecretString", "")
    except manager.exceptions.ResourceNotFoundException:
        there = ""
    if not value and not there:
        return Stored(kept.parameter, identifier, "missing", reason=f"give its value as {kept.variable}")
    if not value or there == value:
        return Stored(kept.parameter, identifier, "unchanged")
    manager.put_secret_value(SecretId=identifier, SecretString=value)
    return Stored(kept.parameter, identifier, "updated" if there else "filled")


def _stored(manager: Any, kept: Kept, name: str, value: str) -> Stored:
    try:
        there = manager.get_secret_value(SecretId=name)
    except manager.exceptions.ResourceNotFoundException:
        if not value:
            return Stored(kept.parameter, name, "missing", reason=f"give its value as {kept.variable}")
        about = f"clerk-supabase-sync: {kept.what}"
        created = manager.create_secret(Name=name, SecretString=value, Description=about)
        return Stored(kept.parameter, name, "created", created["ARN"])
    if not value or there.get("SecretString") == value:
        return Stored(kept.parameter, name, "unchanged", there["ARN"])
    manager.put_secret_value(SecretId=name, SecretString=value)
    return Stored(kept.parameter, name, "updated", there["ARN"])


def _code(error: BotoCoreError | ClientError) -> str:
    # The message of a ClientError may repeat the secret.
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else str(error)
