"""The answer to `POST /session`: the row of the user who signs in, before the webhook arrives.

The answer is the user's own view of the table `users`, or the reason for an empty view, and reveals no more than
Supabase's API does. An existing row costs one query. The function asks Clerk only about a user whose own event has not
arrived, or whom the policies hide. After the answer 403 it asks about the same user at most once a minute, or once in
five seconds while Clerk does not know the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from clerk_supabase.answer import Answer
from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.errors import (
    ChangeRefused,
    ClerkRejected,
    ClerkUnavailable,
    NotAllowed,
    Retryable,
    SecretUnavailable,
    SetUpWrong,
    TokenRejected,
    UnusableEvent,
)
from clerk_supabase.forbidden_users import REMEMBERED_MS, UNKNOWN_TO_CLERK_MS, ForbiddenUsers
from clerk_supabase.model.changes import SignedIn, changes_of_object
from clerk_supabase.postgres.store import Queries, Store
from clerk_supabase.settings import SessionSettings
from clerk_supabase.telemetry import count, logger
from clerk_supabase.tokens.claims import Claims
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase.tokens.verifiers import IssuerChoice, SessionVerifier

# The user waits for the answer; after this time, the row comes with the webhook.
CLERK_SECONDS: Final = 3.0

# The policies decide about reads and writes. The id is an argument, so no function of another schema is needed.
# A transaction of as_user() finds the mirror's tables by their bare names.
_ROW: LiteralString = """
    select to_jsonb(u.*)::text, u.created_at is not null
    from users as u
    where u.clerk_id = %s
"""
_INSERT_STUB: LiteralString = """
    insert into users (clerk_id) values (%s) on conflict (clerk_id) do nothing
"""

_JSON: Final = {"content-type": "application/json", "cache-control": "no-store"}
_PREFLIGHT: Final = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "7200",
}


class Forbidden(Exception):
    """The token is valid, but its user has no access: deleted, banned, deprovisioned, or gone from Clerk."""

    remembered_ms = REMEMBERED_MS


class UnknownToClerk(Forbidden):
    """Clerk's API does not know the user: deleted there, or created a moment ago."""

    remembered_ms = UNKNOWN_TO_CLERK_MS


@dataclass(frozen=True, slots=True)
class Row:
    """The user's own row, as the policies show it to the user."""

    json: str
    is_complete: bool
    """True: the row is filled; a stub lacks the moment at which Clerk created the user."""


class Session:
    """Answers the requests of users at their sign-in."""

    def __init__(
        self,
        settings: SessionSettings,
        store: Store,
        http: ClerkHttp,
        *,
        verifier: SessionVerifier | IssuerChoice | None = None,
        clock_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*monotonic*: the clock of *http*. Raises SettingsError for an invalid publishable key."""
        self._origins = frozenset(settings.allowed_origins)
        self._keep_private_metadata = settings.keep_private_metadata
        self._store = store
        self._http = http
        self._verifier = verifier or verifier_of(settings)
        self._clock_ms = clock_ms
        self._monotonic = monotonic
        self._forbidden = ForbiddenUsers(clock_ms)

    def answer(self, event: Mapping[str, Any]) -> Answer:
        """The answer to one proxy event of a REST API.

        Neither the sender nor an unavailable service can make the method raise.
        """
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        cors = self._cors(headers.get("origin", ""))
        if event.get("httpMethod") == "OPTIONS":
            return Answer(204, "", {**cors, **(_PREFLIGHT if cors else {})})
        answer = self._answer(headers.get("authorization", ""))
        return Answer(answer.status, answer.message, {**answer.headers, **cors})

    def _cors(self, origin: str) -> dict[str, str]:
        """No credentials are allowed: the token is no cookie."""
        return {"access-control-allow-origin": origin, "vary": "origin"} if origin in self._origins else {}

    def _answer(self, authorization: str) -> Answer:
        try:
            claims = self._verifier.verify(_bearer(authorization))
            return self._answer_user(claims)
        except TokenRejected as rejection:
            count("Rejected")
            logger.warning("token rejected", reason=rejection.reason)
            return Answer(401, "unauthorized", {"www-authenticate": "Bearer"})
        except (Forbidden, NotAllowed) as error:
            count("Forbidden")
            logger.warning("user not let in", reason=str(error))
            return Answer(403, "forbidden")
        except Retryable as error:
            # As in sync: a wrong set-up is no outage.
            if not isinstance(error, SetUpWrong):
                count("Unavailable")
            logger.error("nobody can be let in", reason=str(error))
            return Answer(503, "try again later", {"retry-after": "2"})
        except ChangeRefused as error:
            count("NotStored")
            logger.error("the row cannot be stored", reason=str(error))
            return Answer(500, "the row cannot be stored")

    def _answer_user(self, claims: Claims) -> Answer:
        with self._store.as_user(claims) as queries:
            row = _row(queries, claims)
        if row is not None and row.is_complete:
            return _answered("Known", 200, claims, row)
        if claims.user_id in self._forbidden:
            raise Forbidden("answered 403 a moment ago, too")
        try:
            return self._answer_by_asking(claims, row)
        except Forbidden as error:
            self._forbidden.add(claims.user_id, error.remembered_ms)
            raise
        except NotAllowed:
            self._forbidden.add(claims.user_id, REMEMBERED_MS)
            raise

    def _answer_by_asking(self, claims: Claims, row: Row | None) -> Answer:
        """The answer to a user whose *row* is a stub, hidden, or missing, once Clerk was asked about the user."""
        try:
            self._fetch(claims)
        except (ClerkUnavailable, ClerkRejected, SecretUnavailable, UnusableEvent) as error:
            logger.error("Clerk could not be asked", object_id=claims.user_id, reason=str(error))
            return _answered("Stubs", 202, claims, row or self._stub(claims))
        with self._store.as_user(claims) as queries:
            row = _row(queries, claims)
        if row is None:
            raise Forbidden("banned or deprovisioned in Clerk, or deleted a moment ago")
        return _answered("Fetched", 200, claims, row)

    def _fetch(self, claims: Claims) -> None:
        """Applies Clerk's answer about the user. Raises UnknownToClerk, and Forbidden for a user deleted here.

        UnknownToClerk is no proof of a delete: Clerk's API may lag behind the sign-up of a new user.
        """
        calls_before = self._http.calls
        try:
            found = Clerk(self._http, self._monotonic() + CLERK_SECONDS).user(claims.user_id)
        finally:
            count("ClerkCalls", self._http.calls - calls_before)
        if found.value is None:
            raise UnknownToClerk("unknown to Clerk: deleted there, or created a moment ago")
        changes = changes_of_object(
            "user",
            found.value.json(),
            found.observed_at,
            self._clock_ms(),
            keep_private_metadata=self._keep_private_metadata,
        )
        [outcome] = self._store.apply([(changes, SignedIn(claims.session_id or ""))])
        if isinstance(outcome, ChangeRefused | Retryable):
            raise outcome
        if outcome == "deleted_before":
            raise Forbidden("deleted here")

    def _stub(self, claims: Claims) -> Row:
        """Inserts a row with only the user's id, which any event overwrites. Raises NotAllowed for a deleted user."""
        with self._store.as_user(claims) as queries:
            queries.rows(_INSERT_STUB, claims.user_id)
            row = _row(queries, claims)
        if row is None:
            raise Forbidden("the row was hidden a moment ago")
        return row


def verifier_of(settings: SessionSettings) -> IssuerChoice:
    """The verifier of tokens of the configured issuers. Raises SettingsError."""
    # The key is read in any case, so that a broken key is reported.
    of_key = frontend_api(settings.clerk_publishable_key).issuer
    return IssuerChoice.of(
        settings.clerk_frontend_api_urls or (of_key,),
        authorized_parties=settings.authorized_parties,
        accept_missing_party=settings.accept_missing_party,
    )


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _row(queries: Queries, claims: Claims) -> Row | None:
    found = queries.rows(_ROW, claims.user_id)
    return Row(*found[0]) if found else None


def _answered(outcome: str, status: int, claims: Claims, row: Row) -> Answer:
    count(outcome)
    logger.info(outcome.lower(), object_id=claims.user_id)
    return Answer(status, row.json, _JSON)
