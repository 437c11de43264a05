"""Who signed a webhook. The only module that knows how Svix signs.

`svix.webhooks` is a thin wrapper over `standardwebhooks`, but importing it loads a whole API client; a property test
holds this module to the same verdicts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from clerk_supabase.errors import SecretUnavailable, SignatureRefused

_HEADERS = ("id", "timestamp", "signature")


class Verifier:
    """Checks requests against one or several signing secrets (`whsec_` + base64); one match is enough."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Raises SecretUnavailable when there is no secret, or one is not `whsec_` and base64."""
        self._webhooks = [_webhook(secret) for secret in secrets]
        if not self._webhooks:
            raise SecretUnavailable("the webhook signing secret is empty")

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The id of the delivery: one per message, the same on every retry and replay.

        `headers` have lower-case names; Svix's own names win over the white-label ones (`webhook-id` ...).
        Raises SignatureRefused, also for headers that make no sense and bodies that are not UTF-8.
        """
        signed = {f"webhook-{name}": _header(headers, name) for name in _HEADERS}
        for webhook in self._webhooks:
            try:
                webhook.verify(body, signed, json_parse=False)
            except (WebhookVerificationError, ValueError) as error:
                # ValueError: a malformed header entry, broken base64 or a body that is not UTF-8.
                refusal: Exception = error
            else:
                return signed["webhook-id"]
        raise SignatureRefused(str(refusal)) from refusal


def _webhook(secret: str) -> Webhook:
    try:
        # The library skips what is not base64, and would take any text for a key.
        base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        if secret.startswith("whsec_"):
            return Webhook(secret)
    except (EmptyWebhookSecretError, ValueError):
        pass
    # Not chained: the causes quote the secret.
    raise SecretUnavailable("a webhook signing secret is not 'whsec_' and base64") from None


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"svix-{name}", headers.get(f"webhook-{name}", ""))
