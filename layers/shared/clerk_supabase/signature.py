"""Signatures of webhooks. No other module knows how Svix signs.

A delivery carries HMAC-SHA256 over `{id}.{timestamp}.{body}`, keyed with the base64 behind `whsec_` in the secret.
Source: https://docs.svix.com/receiving/verifying-payloads/how-manual. By a property test, this module accepts and
rejects the same requests as the `svix` package, whose import alone would double the cold start.
"""

from __future__ import annotations

import base64
import hmac
import math
import time
from collections.abc import Iterable, Mapping

from clerk_supabase.errors import SecretUnavailable, SignatureRejected

_PREFIX = "whsec_"
_TOLERANCE_SECONDS = 300


class Verifier:
    """Checks requests against one or several signing secrets (`whsec_` + base64); a single match is enough."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Raises SecretUnavailable without a secret, or for a secret that is not `whsec_` and base64."""
        self._keys = [_key_of(secret) for secret in secrets]
        if not self._keys:
            raise SecretUnavailable("the webhook signing secret is empty")

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The id of the delivery: unique for a message, and the same on every retry and replay.

        `headers` have lower-case names; Svix's own names win over the white-label names (`webhook-id` ...).
        Raises SignatureRejected, also for malformed headers and for bodies outside UTF-8.
        """
        svix_id, timestamp = _header(headers, "id"), _header(headers, "timestamp")
        signatures = _header(headers, "signature")
        if not (svix_id and timestamp and signatures):
            raise SignatureRejected("a header is missing", "missing")
        try:
            # The check of the time comes first, so that a stale forgery costs no hash.
            seconds = _seconds_of(timestamp)
            body.decode()
            signed = f"{svix_id}.{seconds}.".encode() + body
            for key in self._keys:
                if _is_among(signatures, hmac.digest(key, signed, "sha256")):
                    return svix_id
        except (ValueError, OverflowError) as error:
            # Not chained into the message: the causes quote the request.
            raise SignatureRejected("a header or the body is malformed", "malformed") from error
        raise SignatureRejected("no signature matches", "signature")


def _key_of(secret: str) -> bytes:
    encoded = secret.removeprefix(_PREFIX)
    try:
        # Strict: the decoder would skip characters outside base64, and take any text for a key. Padding may be missing.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not key or not secret.startswith(_PREFIX):
        raise SecretUnavailable("a webhook signing secret is not 'whsec_' and base64")
    return key


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"svix-{name}", headers.get(f"webhook-{name}", ""))


def _seconds_of(header: str) -> int:
    """The signed time, in whole seconds since 1970. Raises SignatureRejected for a time too far from now."""
    # Svix compares the time in microseconds.
    timestamp = round(float(header), 6)
    age = time.time() - timestamp
    if age > _TOLERANCE_SECONDS:
        raise SignatureRejected("the timestamp is too old", "timestamp")
    if age < -_TOLERANCE_SECONDS:
        raise SignatureRejected("the timestamp is too new", "timestamp")
    return math.floor(timestamp)


def _is_among(signatures: str, expected: bytes) -> bool:
    """Tells whether one of the space-separated `version,base64` entries matches, up to the first malformed entry."""
    try:
        for entry in signatures.split(" "):
            version, signature = entry.split(",")
            if version == "v1" and hmac.compare_digest(expected, base64.b64decode(signature)):
                return True
    except ValueError:
        # Another key may still match an earlier entry.
        pass
    return False
