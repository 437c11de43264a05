"""The answer to `POST /session`: the row of the user who signs in, before the webhook arrives.

The answer is the user's own view of the table `users`, or the reason for an empty view, and reveals no more than
Supabase's API does. A header tells whether the user is a member of the active organization. Existing rows cost one
query. The function asks Clerk only about a user whose own event has not arrived, or whom the policies hide, and about a
membership that the policies do not show with the role in the token. After an answer that does not help the user, the
function asks about the same user or membership at most once a minute, or once in five seconds while Clerk does not know
the user or the membership.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString

from clerk_supabase.answer import Answer
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.errors import (
    ChangeRefused,
    NotAllowed,
    Retryable,
    SetUpWrong,
    TokenRejected,
)
from clerk_supabase.first_login import NO_ANSWER, Failure, FirstLogin, Forbidden, Lack
from clerk_supabase.postgres.store import Queries, Store
from clerk_supabase.settings import SessionSettings
from clerk_supabase.telemetry import count, logger
from clerk_supabase.tokens.claims import Claims, Organization, is_id
from clerk_supabase.tokens.forbidden_users import REMEMBERED_MS, UNKNOWN_TO_CLERK_MS, ForbiddenUsers
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase.tokens.verifiers import IssuerChoice, SessionVerifier

# The policies decide about reads and writes. The id is an argument, so no function of another schema is needed.
# A transaction of as_user() finds the mirror's tables by their bare names.
_ROW: LiteralString = """
    select to_jsonb(u.*)::text, u.created_at is not null
    from users as u
    where u.clerk_id = %s
"""
# The same statement with the roles of the user in the active organization. A membership has its organization's row.
_ROW_AND_MEMBERSHIP: LiteralString = """
    select
        to_jsonb(u.*)::text,
        u.created_at is not null,
        array(
            select m.role from organization_memberships as m
            where m.clerk_user_id = u.clerk_id and m.clerk_org_id = %s
        )
    from users as u
    where u.clerk_id = %s
"""
_INSERT_STUB: LiteralString = """
    insert into users (clerk_id) values (%s) on conflict (clerk_id) do nothing
"""

_MEMBERSHIP: Final = "organization-membership"
"""The header that tells whether the user is a member of the active organization."""
_JSON: Final = {"content-type": "application/json", "cache-control": "no-store"}
_ORGANIZATION: Final = "org_"
_PREFLIGHT: Final = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "7200",
}


Standing = Literal["present"] | Failure
"""The membership of the user in the active organization: a row of the table, or the reason why there is no row."""


@dataclass(frozen=True, slots=True)
class Row:
    """The user's own row, as the policies show it to the user."""

    json: str
    is_complete: bool
    """True: the row is filled; a stub lacks the moment at which Clerk created the user."""
    roles: Sequence[str] = ()
    """The roles of the user in the active organization; none if the user is no member, or no organization is active."""

    def agrees_with(self, active: Organization) -> bool:
        """Tells whether the user is a member of the organization in the token, with the role in the token."""
        return bool(self.roles) and active.role in (None, *self.roles)


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
        self._store = store
        self._verifier = verifier or verifier_of(settings)
        self._first_login = FirstLogin(
            store,
            http,
            keep_private_metadata=settings.keep_private_metadata,
            clock_ms=clock_ms,
            monotonic=monotonic,
        )
        self._forbidden = ForbiddenUsers(clock_ms)
        self._forbidden_roles = ForbiddenUsers(clock_ms)

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
        if origin not in self._origins:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _MEMBERSHIP,
            "vary": "origin",
        }

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
        active = _active_organization(claims)
        row = self._look(claims, active)
        lack = self._lack(claims, active, row)
        if row is not None and not lack.user and lack.organization_id is None:
            return _answered("Known", 200, claims, row, _standing(active, row, None))
        if lack.user and claims.user_id in self._forbidden:
            raise Forbidden("answered 403 a moment ago, too")
        try:
            return self._answer_by_asking(claims, active, row, lack)
        except Forbidden as error:
            self._forbidden.add(claims.user_id, error.remembered_ms)
            raise
        except NotAllowed:
            self._forbidden.add(claims.user_id, REMEMBERED_MS)
            raise

    def _look(self, claims: Claims, active: Organization | None) -> Row | None:
        with self._store.as_user(claims) as queries:
            return _row(queries, claims, active)

    def _lack(self, claims: Claims, active: Organization | None, row: Row | None) -> Lack:
        """The objects that *row* does not show, without a membership that was asked about a moment ago."""
        lacks_membership = (
            active is not None
            and not (row is not None and row.agrees_with(active))
            and _key(claims, active) not in self._forbidden_roles
        )
        return Lack(
            claims.user_id,
            user=row is None or not row.is_complete,
            organization_id=active.id if active is not None and lacks_membership else None,
        )

    def _answer_by_asking(self, claims: Claims, active: Organization | None, row: Row | None, lack: Lack) -> Answer:
        """The answer to a user with a *lack*, once Clerk was asked about the missing objects."""
        try:
            failure = self._first_login.bring(lack, claims.session_id or "")
        except NO_ANSWER as error:
            logger.error("Clerk could not be asked", object_id=claims.user_id, reason=str(error))
            row = row or self._stub(claims, active)
            return _answered("Stubs", 202, claims, row, _standing(active, row, "unknown"))
        row = self._look(claims, active)
        if row is None:
            raise Forbidden("banned or deprovisioned in Clerk, or deleted a moment ago")
        if active is not None and lack.organization_id is not None:
            self._remember(claims, active, row, failure)
        outcome = "Fetched" if lack.user or failure is None else "Known"
        return _answered(outcome, 200, claims, row, _standing(active, row, failure))

    def _remember(self, claims: Claims, active: Organization, row: Row, failure: Failure | None) -> None:
        """Remembers a role that Clerk's answer does not give to the user; no failure is remembered against a user."""
        if failure in (None, "absent") and not row.agrees_with(active):
            # The API may lag behind a new organization, as behind a sign-up.
            self._forbidden_roles.add(_key(claims, active), REMEMBERED_MS if failure is None else UNKNOWN_TO_CLERK_MS)

    def _stub(self, claims: Claims, active: Organization | None) -> Row:
        """Inserts a row with only the user's id, which any event overwrites. Raises NotAllowed for a deleted user."""
        with self._store.as_user(claims) as queries:
            queries.rows(_INSERT_STUB, claims.user_id)
            row = _row(queries, claims, active)
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


def _active_organization(claims: Claims) -> Organization | None:
    """The organization that the token names; None for an id that Clerk cannot have made."""
    active = claims.organization
    return active if active is not None and is_id(active.id, _ORGANIZATION) else None


def _key(claims: Claims, active: Organization) -> str:
    return f"{claims.user_id} {active.id} {active.role}"


def _row(queries: Queries, claims: Claims, active: Organization | None) -> Row | None:
    if active is None:
        found = queries.rows(_ROW, claims.user_id)
    else:
        found = queries.rows(_ROW_AND_MEMBERSHIP, active.id, claims.user_id)
    return Row(*found[0]) if found else None


def _standing(active: Organization | None, row: Row, failure: Failure | None) -> Standing | None:
    """The answer about the membership in the active organization; None if the token names no organization."""
    if active is None:
        return None
    is_member = bool(row.roles) and failure in (None, "absent")
    return "present" if is_member or row.agrees_with(active) else failure or "absent"


def _answered(outcome: str, status: int, claims: Claims, row: Row, standing: Standing | None) -> Answer:
    count(outcome)
    logger.info(outcome.lower(), object_id=claims.user_id, membership=standing)
    return Answer(status, row.json, _JSON if standing is None else {**_JSON, _MEMBERSHIP: standing})
