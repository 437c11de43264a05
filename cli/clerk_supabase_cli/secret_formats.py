"""What a secret has to look like. No message quotes one."""

from __future__ import annotations

from typing import Final

from clerk_supabase.errors import SecretUnavailable
from clerk_supabase.signature import Verifier

_API_KEYS: Final = ("sk_", "pk_")


def webhook_secret_problem(value: str) -> str:
    """What is wrong with the signing secret, or with any of several, as the rest of a sentence; empty for nothing."""
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
    return ""
