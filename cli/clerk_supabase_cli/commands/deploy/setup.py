"""`clerk-supabase setup`: checks Clerk, prints the settings for Clerk and Supabase, and stores the secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase_cli.operate.setup.manual_steps import at_clerk, at_supabase
from clerk_supabase_cli.operate.setup.setup_checks import (
    FAILED,
    Check,
    Instance,
    checks,
    config_toml,
    obstacle_to_register,
)
from clerk_supabase_cli.operate.setup.stack_secrets import Kept, Stored, store
from clerk_supabase_cli.operate.setup.supabase_settings import Access, Setting, set_up, shown
from clerk_supabase_cli.options import (
    OrVariable,
    json_option,
    management_api_option,
    optional_database_url_option,
    supabase_url_option,
)
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.token_argument import token_of

_LOCAL: Final = """
For `supabase start`, which takes one third-party provider, in supabase/config.toml:

{toml}"""


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
    "--frontend-api-url",
    envvar="CLERK_FRONTEND_API_URL",
    default="",
    help="ClerkFrontendApiUrl, if you set it: issuers, separated by commas.  [env: CLERK_FRONTEND_API_URL]",
)
@supabase_url_option
@optional_database_url_option
@management_api_option
@json_option
def setup_command(
    *,
    publishable_key: str,
    token: str | None,
    prefix: str | None,
    frontend_api_url: str,
    supabase_url: str,
    database_url: str | None,
    management_api_url: str,
    as_json: bool,
) -> None:
    """Check the Clerk instance, and store the stack's secrets. The settings for Clerk and Supabase are made or printed.

    With SUPABASE_ACCESS_TOKEN, an access token of your account at Supabase: registers Clerk as third-party provider,
    adds the mirror's schema to the exposed schemas, and reads both back. Providers and schemas of others stay.
    --supabase-url or DATABASE_URL name the project, and DATABASE_URL the schema. Without a token, these steps are
    printed.

    Values of secrets come from CLERK_WEBHOOK_SIGNING_SECRET, CLERK_SECRET_KEY, SYNC_DATABASE_URL and
    SESSION_DATABASE_URL, or are asked for; never from the command line. Safe to run twice: an equal value stays.
    Exit status 1 if a check fails or a secret could not be stored.

    \b
    Examples:
      clerk-supabase setup --publishable-key pk_live_Y2xlcmsuZXhhbXBsZS5jb20k
      clerk-supabase setup --store-secrets clerk-supabase-sync
    """
    try:
        instances = Instance.of(frontend_api(publishable_key.strip()), frontend_api_url)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    instance = instances[0]
    found = list(checks(instances, token_of(token or "")))
    access = Access(supabase_url, database_url or "", management_api_url)
    settings = set_up(access, [each.issuer for each in instances], obstacle_to_register(found))
    stored = list(store(prefix, _value_of)) if prefix else []
    if as_json:
        about = {"issuer": instance.issuer, "host": instance.host, "config_toml": config_toml(instance)}
        print_json({**about, "checks": found, "supabase": settings, "secrets": stored})
    else:
        _print(instance, found, settings, stored)
    statuses = [
        *(each.status for each in found),
        *(each.status for each in settings),
        *(each.status for each in stored),
    ]
    if FAILED in statuses:
        sys.exit(1)


def _print(instance: Instance, found: list[Check], settings: Sequence[Setting], stored: list[Stored]) -> None:
    say(f"issuer  {instance.issuer}")
    for check in found:
        say(printable(f"{check.status:<8}{check.name}: {check.words}"))
    for line in shown(settings):
        say(printable(line))
    say()
    for step in (*at_clerk(), *at_supabase(instance.host, settings)):
        say(printable(step))
    say(_LOCAL.format(toml=config_toml(instance)), as_it_is=True)
    for each in stored:
        say(printable(f"{each.status:<10}{each.name}  {each.reason}".rstrip()))
    overrides = [f"{each.parameter}={each.arn}" for each in stored if each.arn]
    if overrides:
        say("\nsam deploy --parameter-overrides " + printable(" ".join(overrides)), as_it_is=True)


def _value_of(kept: Kept) -> str:
    value = os.environ.get(kept.variable, "").strip()
    if value or not sys.stdin.isatty():
        return value
    prompt = f"{kept.what} ({kept.prefixes[0]}..., empty: leave it)"
    return str(click.prompt(prompt, default="", show_default=False, hide_input=True, err=True)).strip()
