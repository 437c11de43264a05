"""The rows that a sign-in lacks, brought from Clerk's API: the user, the active organization and the membership.

A token says only what to ask Clerk about: no row takes a value from a token. One sign-in asks Clerk at most three
questions, one for each object, and all of them together take CLERK_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.clerk.pages import Item
from clerk_supabase.errors import (
    ChangeRefused,
    ClerkRejected,
    ClerkUnavailable,
    ContradictoryAnswer,
    GoneFromClerk,
    Retryable,
    SecretUnavailable,
    UnusableEvent,
)
from clerk_supabase.model.changes import Changes, SignedIn, Upsert, changes_of_object
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.postgres.store import Outcome, Store
from clerk_supabase.telemetry import count, logger
from clerk_supabase.tokens.forbidden_users import REMEMBERED_MS, UNKNOWN_TO_CLERK_MS

# The user waits for the answer; after this time, the rows come with their webhooks.
CLERK_SECONDS: Final = 3.0

NO_ANSWER: Final = (ClerkUnavailable, ClerkRejected, SecretUnavailable, UnusableEvent)
"""The errors of a question that Clerk did not answer, or answered without a usable object."""

Failure = Literal["absent", "unknown", "not-stored"]
"""The reason for a missing membership: Clerk lists none; Clerk or the database was unavailable; a constraint or trigger
of the app rejects the row."""


class Forbidden(Exception):
    """The token is valid, but its user has no access: deleted, banned, deprovisioned, or gone from Clerk."""

    remembered_ms = REMEMBERED_MS


class UnknownToClerk(Forbidden):
    """Clerk's API does not know the user: deleted there, or created a moment ago."""

    remembered_ms = UNKNOWN_TO_CLERK_MS


@dataclass(frozen=True, slots=True)
class Lack:
    """The objects to ask Clerk about."""

    user_id: str
    user: bool
    """True: the user's row is a stub, hidden, or missing."""
    organization_id: str | None
    """The organization whose membership the user lacks; None: no membership is lacking."""


class FirstLogin:
    """Asks Clerk about the objects of a sign-in, and applies the answers."""

    def __init__(
        self,
        store: Store,
        http: ClerkHttp,
        *,
        keep_private_metadata: bool,
        clock_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*monotonic*: the clock of *http*."""
        self._store = store
        self._http = http
        self._keep_private_metadata = keep_private_metadata
        self._clock_ms = clock_ms
        self._monotonic = monotonic

    def bring(self, lack: Lack, session_id: str) -> Failure | None:
        """Applies Clerk's answers in one transaction; returns the reason if no membership was applied.

        A failure of the membership keeps no user out. Raises UnknownToClerk, Forbidden for a user deleted here, and the
        errors of NO_ANSWER if Clerk did not answer about the user.
        """
        with self._asking() as clerk:
            user = self._user(clerk, lack.user_id) if lack.user else []
            member, failure = self._member_or_failure(clerk, lack, user)
        outcomes = self._store.apply([(changes, SignedIn(session_id)) for changes in (*user, *member)])
        if lack.user:
            _check_user(outcomes.pop(0))
        return failure or _failure_of(outcomes)

    @contextmanager
    def _asking(self) -> Iterator[Clerk]:
        calls_before = self._http.calls
        try:
            yield Clerk(self._http, self._monotonic() + CLERK_SECONDS)
        finally:
            count("ClerkCalls", self._http.calls - calls_before)

    def _user(self, clerk: Clerk, user_id: str) -> list[Changes]:
        """The changes of the user. Raises UnknownToClerk, which is no proof of a delete: the API may lag behind."""
        found = clerk.user(user_id).value
        if found is None:
            raise UnknownToClerk("unknown to Clerk: deleted there, or created a moment ago")
        return [self._changes("user", found)]

    def _member_or_failure(
        self, clerk: Clerk, lack: Lack, user: Sequence[Changes]
    ) -> tuple[list[Changes], Failure | None]:
        if lack.organization_id is None:
            return [], None
        if _is_shut_out(user):
            # The policies show the user no membership: one request is enough.
            return [], "unknown"
        try:
            member = self._member(clerk, lack.organization_id, lack.user_id)
        except NO_ANSWER as error:
            logger.error("Clerk could not be asked", object_id=lack.organization_id, reason=str(error))
            return [], "unknown"
        return member, None if member else "absent"

    def _member(self, clerk: Clerk, org_id: str, user_id: str) -> list[Changes]:
        """The changes of the organization and the membership; none if Clerk lists no such membership."""
        try:
            found = clerk.membership(org_id, user_id)
        except GoneFromClerk:
            return []
        if found is None:
            return []
        membership = self._changes("membership", found)
        if not _joins(membership, org_id, user_id):
            raise ContradictoryAnswer("Clerk answered with the membership of another user or organization")
        organization = clerk.organization(org_id).value
        return [] if organization is None else [self._changes("organization", organization), membership]

    def _changes(self, kind: ReadKind, found: Item) -> Changes:
        return changes_of_object(
            kind,
            found.json(),
            found.observed_at,
            self._clock_ms(),
            keep_private_metadata=self._keep_private_metadata,
        )


def _is_shut_out(user: Sequence[Changes]) -> bool:
    """Tells whether Clerk's answer about the user, if any, calls the user banned or deprovisioned."""
    contents = [changes.main.content for changes in user if isinstance(changes.main, Upsert)]
    return any(content["banned"] or content["deprovisioned"] for content in contents)


def _joins(membership: Changes, org_id: str, user_id: str) -> bool:
    main = membership.main
    named = (main.content["clerk_org_id"], main.content["clerk_user_id"]) if isinstance(main, Upsert) else None
    return named == (org_id, user_id)


def _check_user(outcome: Outcome | ChangeRefused | Retryable) -> None:
    if isinstance(outcome, ChangeRefused | Retryable):
        raise outcome
    if outcome == "deleted_before":
        raise Forbidden("deleted here")


def _failure_of(outcomes: list[Outcome | ChangeRefused | Retryable]) -> Failure | None:
    """The reason for a membership that was not written, logged; None if organization and membership were applied."""
    for outcome in outcomes:
        if isinstance(outcome, ChangeRefused):
            count("NotStored")
            logger.error("the membership cannot be stored", reason=str(outcome))
            return "not-stored"
        if isinstance(outcome, Retryable):
            logger.error("the membership could not be written", reason=str(outcome))
            return "unknown"
    return None
