"""All errors. The first split decides about a message in the queue: can the same message succeed later?

ClerkSupabaseError
├── Retryable              leave the message in the queue
│   ├── DatabaseUnavailable
│   │   └── RowUnavailable  a single row may be the reason: the other rows can be tried alone
│   ├── DeleteUnfinished   a delete hides very many rows, and some of them are left
│   ├── DatabaseNotReady   Postgres answers, but is not set up for this code
│   ├── SetUpWrong         no outage: a person has to correct the connection string or the password
│   │   └── OtherVersion   a person has to deploy the functions or to migrate the database
│   ├── KeysUnavailable    no token can be checked
│   ├── QueueUnavailable
│   ├── SecretUnavailable
│   ├── RunTakenOver       another process works on the run of reconcile by now, or the run is over
│   └── ClerkUnavailable
│       ├── OutOfTime
│       └── TooLongToWait  Clerk asks for a longer pause than a run may make
└── Permanent              the same message can never succeed: park the message with the reason
    ├── SignatureRejected
    ├── UnusableEvent
    ├── EventTooLarge
    ├── TokenRejected       the sender learns no reason
    ├── ChangeRefused      Postgres refuses the data
    │   └── ValueRefused   Postgres refuses a single value of the data
    ├── NotAllowed         a policy, a missing right or a tombstone forbids the statement
    └── ClerkRejected       Clerk's Backend API rejects the request
        ├── ClerkKeyRejected
        ├── WrongInstance
        ├── OrganizationsUnavailable
        ├── DomainsUnavailable
        ├── BillingUnavailable
        ├── ContradictoryAnswer
        └── GoneFromClerk
"""

from enum import StrEnum
from typing import Literal


class ClerkSupabaseError(Exception):
    """Something went wrong in clerk-supabase-sync."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").strip()


class Retryable(ClerkSupabaseError):
    """The same message may succeed later."""


class DatabaseUnavailable(Retryable):
    """Postgres cannot be reached, or gave up for a passing reason."""


class RowUnavailable(DatabaseUnavailable):
    """Postgres gave up, perhaps because of a single row: a lock on the row, or a trigger of the app."""


class DeleteUnfinished(Retryable):
    """A delete with very many rows is applied in parts, and some rows are left: no user sees any of them."""


class DatabaseNotReady(Retryable):
    """Postgres answers, but a migration, a right or a setting is missing."""


class SetUpWrong(Retryable):
    """The access to the database is set up wrongly, until a person corrects the setting named in the message."""


class OtherVersion(SetUpWrong):
    """The database is of another major version than this code, until a person upgrades one of both."""


class KeysUnavailable(Retryable):
    """Clerk's public keys cannot be fetched, and the keys at hand are too old."""


class QueueUnavailable(Retryable):
    """SQS did not take the message."""


class SecretUnavailable(Retryable):
    """Secrets Manager did not give the secret, or the secret is unusable."""


class RunTakenOver(Retryable):
    """Another process works on this run by now, or the run is over."""


class Permanent(ClerkSupabaseError):
    """The same message can never succeed."""


Forgery = Literal["missing", "malformed", "timestamp", "signature"]
"""The fault of a request without Clerk's signature, for metrics: a header, its form, its time, or the signature."""


class SignatureRejected(Permanent):
    """The request is not signed by Clerk."""

    def __init__(self, words: str, reason: Forgery) -> None:
        """*words* quote nothing of the request."""
        super().__init__(words)
        self.reason: Forgery = reason


class UnusableEvent(Permanent):
    """An event with Clerk's signature that cannot be applied."""


class EventTooLarge(Permanent):
    """The event is larger than a message of SQS."""


class Rejection(StrEnum):
    """The reason for the rejection of a token. The values are for metrics, logs and tools, and do not change."""

    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    TYPE = "type"
    CRITICAL_HEADER = "critical_header"
    TEMPLATE = "template"
    MACHINE = "machine"
    CATEGORY = "category"
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


class TokenRejected(Permanent):
    """The token proves nothing. The operator learns the reason; the client gets no more than `unauthorized`."""

    def __init__(self, reason: Rejection, words: str) -> None:
        """*words* quote no part of an unsigned token."""
        super().__init__(words)
        self.reason = reason


class ChangeRefused(Permanent):
    """Postgres refuses the data of this change."""


class ValueRefused(ChangeRefused):
    """Postgres refuses a value of this change: too long for an index, or not of the column's type."""


class NotAllowed(Permanent):
    """Row-level security, a missing right or a tombstone forbids the user's statement."""


# Clerk's Backend API


class ClerkUnavailable(Retryable):
    """Clerk's Backend API cannot be reached, or its answers are errors or unreadable."""


class OutOfTime(ClerkUnavailable):
    """The time for this work is up; the objects read so far count, and the rest has to be read later."""


class TooLongToWait(ClerkUnavailable):
    """Clerk asks for a longer pause than this work may make."""


class ClerkRejected(Permanent):
    """Clerk's Backend API rejects the request; asking again does not help."""


class ClerkKeyRejected(ClerkRejected):
    """Clerk does not accept the secret key."""


class WrongInstance(ClerkRejected):
    """The secret key belongs to another instance of Clerk."""


class OrganizationsUnavailable(ClerkRejected):
    """Organizations are switched off in this instance of Clerk."""


class DomainsUnavailable(ClerkRejected):
    """Domains of organizations are switched off in this instance of Clerk."""


class BillingUnavailable(ClerkRejected):
    """Billing is switched off in this instance of Clerk."""


class ContradictoryAnswer(ClerkRejected):
    """Clerk's answer contradicts the request, another answer of Clerk, or itself."""


class GoneFromClerk(ClerkRejected):
    """Clerk says there is no object with this id."""

    def __init__(self, message: str, observed_at: int) -> None:
        """`observed_at`: the moment of Clerk's answer, in milliseconds of Clerk's clock; 0 if unknown."""
        super().__init__(message)
        self.observed_at = observed_at
