"""The settings of a stack without a file: from the operator's answers, or from the values of the stack."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clerk_supabase.clerk.address import BASE_URL
from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ClerkUnavailable
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.deployment.account import LEAST_SYNC_CONCURRENCY, Account
from clerk_supabase_cli.operate.deployment.parameters import Declared, complete, differences_from_defaults
from clerk_supabase_cli.operate.deployment.questions import PUBLISHABLE_KEY, SECRET_KEY, Answers
from clerk_supabase_cli.operate.deployment.stack_file import Settings
from clerk_supabase_cli.project import certificates

_CLERK_SECONDS: Final = 15.0
_WITHOUT_CLERK: Final = "--parameter UseClerkApi=false"


class NoSecretKey(Failure):
    """A new stack reads from Clerk's API, and nobody gave the secret key."""


def asked_for(
    name: str,
    account: Account,
    *,
    root: Path,
    given: Mapping[str, str],
    answers: Answers,
    known: Mapping[str, Declared],
) -> Settings:
    """The settings of a new stack, by the operator's answers.

    *given*: parameters that the operator named. Raises NoSecretKey, and ClerkRejected for a wrong secret key.
    """
    parameters = _starting_values(root, name) | _certificate(root)
    if account.is_small_for(complete(parameters, known)):
        parameters["SyncMaximumConcurrency"] = LEAST_SYNC_CONCURRENCY
    if key := answers(PUBLISHABLE_KEY):
        parameters["ClerkPublishableKey"] = key
    if given.get("UseClerkApi") != "false":
        key = answers(SECRET_KEY)
        if not (key or answers.can_ask):
            raise NoSecretKey(f"there is no terminal to ask: set {SECRET_KEY.variable}, or add {_WITHOUT_CLERK}")
        parameters |= _of_the_instance(key, given.get("ClerkApiUrl", ""))
    chosen = differences_from_defaults(parameters, known) | dict(given)
    return Settings(name, account.region, account.number, chosen)


def settings_of_stack(
    name: str, account: Account, deployed: Mapping[str, str], known: Mapping[str, Declared]
) -> Settings:
    """The settings of a stack that was deployed without a file, from its own values."""
    return Settings(name, account.region, account.number, differences_from_defaults(deployed, known))


def _starting_values(root: Path, name: str) -> dict[str, str]:
    """The values of samconfig.toml for a stack of this name; for any other name, the values of `prod`."""
    environments = tomllib.loads((root / "samconfig.toml").read_text(encoding="utf-8"))
    default = environments["default"]
    is_default = name == default["global"]["parameters"]["stack_name"]
    chosen = default if is_default else environments["prod"]
    return {key: str(value) for key, value in chosen["deploy"]["parameters"]["parameter_overrides"].items()}


def _certificate(root: Path) -> dict[str, str]:
    """The parameter for the single file with a certificate; nothing without a file, or with several."""
    folder = certificates(root)
    files = [each.name for each in folder.iterdir() if each.is_file()] if folder.is_dir() else []
    return {"DatabaseCaFile": f"/opt/ca/{files[0]}"} if len(files) == 1 else {}


def _of_the_instance(secret_key: str, api_url: str) -> dict[str, str]:
    """The parameters that follow from the secret key of Clerk. Raises ClerkRejected."""
    if not secret_key:
        return {"UseClerkApi": "false"}
    http = ClerkHttp(Fixed(secret_key, SECRET_KEY.variable), api_url or BASE_URL)
    try:
        return {"ClerkInstanceId": Clerk(http, deadline=time.monotonic() + _CLERK_SECONDS).instance().value.id}
    except ClerkUnavailable:
        return {}  # doctor asks again
    finally:
        http.close()
