"""What can go wrong. The first split is the only one the queue cares about: will the same message work later?

ClerkSupabaseError
├── Retryable              leave the message in the queue
│   ├── DatabaseUnavailable
│   ├── DatabaseNotReady   reached, but not set up for this code
│   ├── KeysUnavailable    nobody's token can be checked
│   ├── QueueUnavailable
│   └── SecretUnavailable
└── Permanent              no code of ours can use it: park it with its reason
    ├── SignatureRefused
    ├── UnusableEvent
    ├── EventTooLarge
    ├── TokenRefused       whoever sent it learns only that
    └── ChangeRefused      Postgres refuses the data
"""

from enum import StrEnum


class ClerkSupabaseError(Exception):
    """Something went wrong in clerk-supabase-sync."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").strip()


class Retryable(ClerkSupabaseError):
    """The same message may succeed later."""


class DatabaseUnavailable(Retryable):
    """Postgres cannot be reached, or gave up for a reason that passes."""


class DatabaseNotReady(Retryable):
    """Postgres answers, but a migration, a right or a setting is missing."""


class KeysUnavailable(Retryable):
    """Clerk's public keys cannot be fetched, and none that are fresh enough are at hand."""


class QueueUnavailable(Retryable):
    """SQS did not take the message."""


class SecretUnavailable(Retryable):
    """Secrets Manager did not give the secret, or the secret is unusable."""


class Permanent(ClerkSupabaseError):
    """The same message can never succeed."""


class SignatureRefused(Permanent):
    """The request is not signed by Clerk."""


class UnusableEvent(Permanent):
    """Signed by Clerk, but nothing that can be applied."""


class EventTooLarge(Permanent):
    """Larger than a message of SQS."""


class Refusal(StrEnum):
    """Why a token is refused. The values are for metrics, logs and tools, and do not change."""

    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    TYPE = "type"
    CRITICAL_HEADER = "critical_header"
    TEMPLATE = "template"
    MACHINE = "machine"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    VERSION = "version"
    CLAIM_MISSING = "claim_missing"
    CLAIM_MALFORMED = "claim_malformed"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISSUED_IN_FUTURE = "issued_in_future"
    ISSUER = "issuer"
    AUTHORIZED_PARTY = "authorized_party"
    AUTHORIZED_PARTY_MISSING = "authorized_party_missing"
    SESSION_NOT_ACTIVE = "session_not_active"
    AUDIENCE = "audience"
    ROLE = "role"


class TokenRefused(Permanent):
    """The token proves nothing. What is wrong is for the operator; the client learns only that it is unauthorized."""

    def __init__(self, reason: Refusal, words: str) -> None:
        """*words* quote nothing that an unsigned token says."""
        super().__init__(words)
        self.reason = reason


class ChangeRefused(Permanent):
    """Postgres refuses the data of this change."""
