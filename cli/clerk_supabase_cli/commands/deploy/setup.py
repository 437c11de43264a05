"""`clerk-supabase setup`: checks Clerk, prints the settings for Clerk and Supabase, and stores the secrets."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase_cli.operate.setup.setup_checks import FAILED, Check, Instance, checks, config_toml
from clerk_supabase_cli.operate.setup.stack_secrets import Kept, Stored, store
from clerk_supabase_cli.options import OrVariable, json_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.token_argument import token_of

_STEPS: Final = """
In Clerk:     dashboard.clerk.com/setup/supabase, "Activate": session tokens get role: authenticated.
In Supabase:  Authentication > Sign In / Providers > Third Party Auth > Clerk, with the domain {host}.
              One third-party provider at a time; a rotated key may take half an hour to arrive.
For `supabase start`, in supabase/config.toml:

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
    stored = list(store(prefix, _value_of)) if prefix else []
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


def _value_of(kept: Kept) -> str:
    value = os.environ.get(kept.variable, "").strip()
    if value or not sys.stdin.isatty():
        return value
    prompt = f"{kept.what} ({kept.prefixes[0]}..., empty: leave it)"
    return str(click.prompt(prompt, default="", show_default=False, hide_input=True, err=True)).strip()
