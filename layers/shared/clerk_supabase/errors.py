"""What can go wrong. The first split is the only one the queue cares about: will the same message work later?

ClerkSupabaseError
├── Retryable              leave the message in the queue
│   ├── DatabaseUnavailable
│   ├── DatabaseNotReady   reached, but not set up for this code
│   ├── QueueUnavailable
│   └── SecretUnavailable
└── Permanent              no code of ours can use it: park it with its reason
    ├── SignatureRefused
    ├── UnusableEvent
    ├── EventTooLarge
    └── ChangeRefused      Postgres refuses the data
"""


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


class ChangeRefused(Permanent):
    """Postgres refuses the data of this change."""
