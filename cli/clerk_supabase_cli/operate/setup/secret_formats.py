"""Formats of secrets. No message quotes a secret."""

from __future__ import annotations

import re
from typing import Final

from clerk_supabase.errors import SecretUnavailable, SetUpWrong
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase.signature import Verifier

_API_KEYS: Final = ("sk_", "pk_")
_OWNER: Final = "postgres"
# 24 bytes as base64, the least of Svix. https://docs.svix.com/receiving/verifying-payloads/how-manual
_LEAST_OF_A_SECRET: Final = 32
_SECRET_KEY: Final = re.compile(r"sk_(live|test)_[A-Za-z0-9_-]+")


def webhook_secret_problem(value: str) -> str:
    """The fault of a signing secret, or of any of several, as the rest of a sentence; empty without a fault."""
    secrets = value.split()
    if not secrets:
        return "is empty"
    for number, secret in enumerate(secrets, start=1):
        which = f" (number {number} of {len(secrets)})" if len(secrets) > 1 else ""
        if secret.startswith(_API_KEYS):
            return f"is an API key of Clerk's, not the signing secret of a webhook endpoint{which}"
        try:
            Verifier([secret])
        except SecretUnavailable:
            return f"is not whsec_ and base64{which}: was it copied whole?"
        if len(secret.removeprefix("whsec_").rstrip("=")) < _LEAST_OF_A_SECRET:
            return f"is too short for a signing secret{which}: was it copied whole?"
    return ""


def secret_key_problem(value: str) -> str:
    """The fault of a secret key of Clerk's API, as the rest of a sentence; empty without a fault."""
    if value.startswith("pk_"):
        return "is Clerk's publishable key; the secret key begins with sk_live_ or sk_test_"
    return "" if _SECRET_KEY.fullmatch(value) else "is not sk_live_ or sk_test_ with letters and digits behind it"


def connection_string_problem(value: str, source: str) -> str:
    """The reason why a function could not use the connection string, as a sentence; empty for a good string.

    *source*: the variable with the string.
    """
    try:
        given = parse(value, source)
    except SetUpWrong as error:
        return str(error)
    return f"the connection string in {source} names no password" if given.password is None else ""


def role_warning(value: str, role: str) -> str:
    """A warning about a valid connection string of another role; empty for the right role."""
    given = parse(value, "").role
    if given == role:
        return ""
    whose = "the owner of the database" if given == _OWNER else "another role"
    return f"warning: it logs in as {whose}, not as {role}, the role with only the rights of the function"
