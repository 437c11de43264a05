"""`clerk-supabase setup`: checks Clerk, prints the settings for Clerk and Supabase, and stores the secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import click
from botocore.exceptions import BotoCoreError, ClientError

from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase_cli.operate.deployed import secrets_of_stack
from clerk_supabase_cli.operate.queues import client
from clerk_supabase_cli.operate.setup.role_urls import SESSION_ROLE, WORKER_ROLE
from clerk_supabase_cli.operate.setup.secret_formats import (
    connection_string_problem,
    role_warning,
    webhook_secret_problem,
)
from clerk_supabase_cli.operate.setup.setup_checks import FAILED, Check, Instance, checks, config_toml
from clerk_supabase_cli.options import OrVariable, json_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.token_argument import token_of

_STEPS: Final = """
In Clerk:     dashboard.clerk.com/setup/supabase, "Activate": session tokens get role: authenticated.
In Supabase:  Authentication > Sign In / Providers > Third Party Auth > Clerk, with the domain {host}.
              One third-party provider at a time; a rotated key may take half an hour to arrive.
For `supabase start`, in supabase/config.toml:

{toml}"""


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
        if self.name == "webhook":
            problem = webhook_secret_problem(value)
        else:
            problem = "" if value.startswith(self.prefixes) else f"does not begin with {self.prefixes[0]}"
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


@click.command("setup")
@click.option(
    "--publishable-key",
    cls=OrVariable,
    envvar="CLERK_PUBLISHABLE_KEY",
    required=True,
    help="pk_live_... or pk_test_..., from Clerk's API keys.  [env: CLERK_PUBLISHABLE_KEY]",
)
@click.option(
    "--token", help="A session token of Clerk's, to check its claims; `-` reads the token from standard input."
)
@click.option(
    "--store-secrets",
    "prefix",
    metavar="STACK",
    help="Fill the secrets of this stack; before its deployment, keep them in Secrets Manager below this name.",
)
@click.option(
    "--frontend-api-url", default="", help="ClerkFrontendApiUrl, if you set it: issuers, separated by commas."
)
@json_option
def setup_command(
    *, publishable_key: str, token: str | None, prefix: str | None, frontend_api_url: str, as_json: bool
) -> None:
    """Check the Clerk instance, print the settings for Clerk and Supabase, and store the stack's secrets.

    Values of secrets come from CLERK_WEBHOOK_SIGNING_SECRET, CLERK_SECRET_KEY, SYNC_DATABASE_URL and
    SESSION_DATABASE_URL, or are asked for; never from the command line. Safe to run twice: an equal value stays.
    Exit status 1 if a check fails or a secret could not be stored.
    """
    try:
        instances = Instance.of(frontend_api(publishable_key.strip()), frontend_api_url)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    instance = instances[0]
    found = list(checks(instances, token_of(token or "")))
    stored = list(_store(prefix)) if prefix else []
    if as_json:
        about = {"issuer": instance.issuer, "host": instance.host, "config_toml": config_toml(instance)}
        print_json({**about, "checks": found, "secrets": stored})
    else:
        _print(instance, found, stored)
    if FAILED in {check.status for check in found} | {each.status for each in stored}:
        sys.exit(1)


def _print(instance: Instance, found: list[Check], stored: list[Stored]) -> None:
    say(f"issuer  {instance.issuer}")
    for check in found:
        say(printable(f"{check.status:<8}{check.name}: {check.words}"))
    say(_STEPS.format(host=instance.host, toml=config_toml(instance)))
    for each in stored:
        say(printable(f"{each.status:<10}{each.name}  {each.reason}".rstrip()))
    overrides = [f"{each.parameter}={each.arn}" for each in stored if each.arn]
    if overrides:
        say("\nsam deploy --parameter-overrides " + printable(" ".join(overrides)))


def _store(prefix: str) -> Iterator[Stored]:
    store = client("secretsmanager")
    try:
        deployed = secrets_of_stack(prefix, [kept.parameter for kept in SECRETS])
    except (BotoCoreError, ClientError) as error:
        yield Stored("", prefix, FAILED, reason=f"AWS does not say where its secrets are: {_code(error)}")
        return
    for kept in SECRETS:
        if deployed and kept.parameter not in deployed:
            continue  # the stack has no such secret
        name = deployed.get(kept.parameter) or f"{prefix.rstrip('/')}/{kept.name}"
        value = _value_of(kept)
        problem = kept.problem_with(value) if value else ""
        if problem:
            yield Stored(kept.parameter, name, FAILED, reason=problem)
            continue
        try:
            done = _filled(store, kept, name, value) if deployed else _stored(store, kept, name, value)
            yield replace(done, reason=done.reason or kept.warning_about(value))
        except (BotoCoreError, ClientError) as error:
            yield Stored(kept.parameter, name, FAILED, reason=f"AWS rejected the request: {_code(error)}")


def _value_of(kept: Kept) -> str:
    value = os.environ.get(kept.variable, "").strip()
    if value or not sys.stdin.isatty():
        return value
    prompt = f"{kept.what} ({kept.prefixes[0]}..., empty: leave it)"
    return str(click.prompt(prompt, default="", show_default=False, hide_input=True, err=True)).strip()


def _filled(store: Any, kept: Kept, identifier: str, value: str) -> Stored:
    """Fills a secret named by the stack; a secret made by the stack has no value at first."""
    try:
        there = store.get_secret_value(SecretId=identifier).get("SecretString", "")
    except store.exceptions.ResourceNotFoundException:
        there = ""
    if not value and not there:
        return Stored(kept.parameter, identifier, "missing", reason=f"give its value as {kept.variable}")
    if not value or there == value:
        return Stored(kept.parameter, identifier, "unchanged")
    store.put_secret_value(SecretId=identifier, SecretString=value)
    return Stored(kept.parameter, identifier, "updated" if there else "filled")


def _stored(store: Any, kept: Kept, name: str, value: str) -> Stored:
    try:
        there = store.get_secret_value(SecretId=name)
    except store.exceptions.ResourceNotFoundException:
        if not value:
            return Stored(kept.parameter, name, "missing", reason=f"give its value as {kept.variable}")
        arn = store.create_secret(Name=name, SecretString=value, Description=f"clerk-supabase-sync: {kept.what}")["ARN"]
        return Stored(kept.parameter, name, "created", arn)
    if not value or there.get("SecretString") == value:
        return Stored(kept.parameter, name, "unchanged", there["ARN"])
    store.put_secret_value(SecretId=name, SecretString=value)
    return Stored(kept.parameter, name, "updated", there["ARN"])


def _code(error: BotoCoreError | ClientError) -> str:
    # The message of a ClientError may repeat the secret.
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else str(error)
