"""A report about a token in words: its claims, its faults with advice, and SQL to act as its user."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from clerk_supabase.errors import Rejection, SetUpWrong, TokenRejected
from clerk_supabase.tokens.claims import Claims
from clerk_supabase_cli.operate.database import DatabaseFailed, open_database
from clerk_supabase_cli.operate.install.mirror import DEFAULT, NameNotUsable, checked_name, recorded_schema

ADVICE: Final[Mapping[Rejection, str]] = MappingProxyType(
    {
        Rejection.TOO_LONG: "take things out of the customised session token: its cookie holds 4 kB",
        Rejection.MALFORMED: "copy the whole value of `await session.getToken()`, or of the header after `Bearer `",
        Rejection.ALGORITHM: "session tokens are checked with --publishable-key, --jwks-url or --pem (RS256), "
        "tokens of the former Supabase template with --secret (HS256)",
        Rejection.TYPE: "call `session.getToken()` without arguments; OAuth access tokens name no session",
        Rejection.CRITICAL_HEADER: "Clerk sends no such tokens; find out who made this token",
        Rejection.TEMPLATE: "call `session.getToken()` without `{ template: ... }`",
        Rejection.MACHINE: "row-level security is about users; machines use a role of their own",
        Rejection.CATEGORY: "call `session.getToken()` without arguments; Clerk signs other things with the same key",
        Rejection.UNKNOWN_KEY: "token and key are of different Clerk instances (development and production?)",
        Rejection.SIGNATURE: "the token was changed, or signed by another Clerk instance or with another secret",
        Rejection.VERSION: "a newer version of this project may know it",
        Rejection.CLAIM_MISSING: "a token without sid comes from a JWT template: "
        "call `session.getToken()` without arguments",
        Rejection.CLAIM_MALFORMED: "look at Sessions -> Customize session token in Clerk's dashboard: "
        "it must not replace Clerk's own claims",
        Rejection.EXPIRED: "session tokens live 60 seconds: get one per request, do not keep it",
        Rejection.NOT_YET_VALID: "compare the clock of this machine with the true time",
        Rejection.ISSUED_IN_FUTURE: "compare the clock of this machine with the true time",
        Rejection.ISSUER: "token and publishable key are of different Clerk instances (development and production?)",
        Rejection.AUTHORIZED_PARTY: "add the origin in azp to the authorized parties if the app is yours",
        Rejection.AUTHORIZED_PARTY_MISSING: "native apps send no origin: accept missing ones if yours is one",
        Rejection.SESSION_NOT_ACTIVE: "the user has a task left, such as choosing an organization",
        Rejection.AUDIENCE: 'the JWT template must say "aud": "authenticated"',
        Rejection.ROLE: 'the JWT template must say "role": "authenticated"',
    }
)


@dataclass(frozen=True, slots=True)
class MirrorSchema:
    """The schema of the mirror's tables, for the printed SQL."""

    name: str
    why_assumed: str = ""
    """The reason why the name is not known from a database; empty: the name is the database's."""


ASSUMED: Final = MirrorSchema(DEFAULT, "no database is named (--database-url or DATABASE_URL)")


def schema_of(url: str | None) -> MirrorSchema:
    """The schema recorded in a database, or the default with the reason why another name would not be known."""
    if not url:
        return ASSUMED
    try:
        with open_database(url) as connection:
            found = recorded_schema(connection)
        # A name of this form needs no quotes.
        return MirrorSchema(checked_name(found)) if found else MirrorSchema(DEFAULT, "the database has no mirror")
    except (DatabaseFailed, NameNotUsable, SetUpWrong) as error:
        return MirrorSchema(DEFAULT, str(error))


@dataclass(frozen=True, slots=True)
class Report:
    """The claims and the faults of a token."""

    header: Mapping[str, Any] | None
    claims: Claims | None
    signature_checked: bool
    problems: Sequence[TokenRejected]
    mirror: MirrorSchema = ASSUMED

    @property
    def is_good(self) -> bool:
        """Tells whether the token is valid."""
        return self.signature_checked and self.claims is not None and not self.problems

    def lines(self) -> Iterator[str]:
        """The report as lines, for people."""
        if not self.signature_checked and self.claims is not None:
            yield "SIGNATURE NOT CHECKED: anybody may have written this."
            yield "Check it with --publishable-key, --jwks-url, --pem or, for the former template, --secret."
        for problem in self.problems:
            yield f"rejected ({problem.reason}): {problem}"
            yield f"    {ADVICE[problem.reason]}"
        if self.is_good:
            yield "good: signature and claims are right"
        if self.claims is not None:
            yield ""
            yield from (f"{name:<15}{value}" for name, value in _rows(self.claims))
            for note in _notes(self.claims):
                yield f"note: {note}"
            yield ""

    def statements(self) -> Iterator[str]:
        """The SQL, as lines, that tries policies as the user of the token."""
        if self.claims is not None:
            yield from sql(self.claims, self.mirror)

    def as_json(self) -> str:
        """The report as JSON, for programs."""
        claims = None
        if self.claims is not None:
            claims = dataclasses.asdict(self.claims) | {"payload": json.loads(self.claims.payload)}
        return json.dumps(
            {
                "good": self.is_good,
                "signature_checked": self.signature_checked,
                "problems": [
                    {"reason": problem.reason, "words": str(problem), "advice": ADVICE[problem.reason]}
                    for problem in self.problems
                ],
                "header": self.header,
                "claims": claims,
                "sql": None if self.claims is None else "\n".join(sql(self.claims, self.mirror)),
            },
            indent=2,
        )


def sql(claims: Claims, mirror: MirrorSchema = ASSUMED) -> Iterator[str]:
    """Statements for reading with the rights of the bearer of these claims, as through the API."""
    # Encoded again: only ASCII reaches the terminal, whatever the token holds.
    payload = json.dumps(json.loads(claims.payload)).replace("'", "''")
    yield "begin;"
    yield "set local role authenticated;"
    yield f"select set_config('request.jwt.claims', '{payload}', true);"
    if mirror.why_assumed:
        yield f"-- assumes that the mirror has the schema {mirror.name}: {' '.join(mirror.why_assumed.split())}"
    yield f"select {mirror.name}.requesting_user_id();"
    yield "-- your queries"
    yield "rollback;"


def _rows(claims: Claims) -> Iterator[tuple[str, str]]:
    yield "version", claims.version
    yield "user", claims.user_id
    if claims.session_id:
        yield "session", _listed(claims.session_id, claims.session_status)
    if claims.organization:
        organization = claims.organization
        yield "organization", _listed(organization.id, organization.slug)
        yield "role", _listed(organization.role)
        yield "permissions", _listed(*organization.permissions)
    yield "Postgres role", _listed(claims.role)
    yield "issuer", _listed(claims.issuer)
    yield "origin (azp)", _listed(claims.authorized_party)
    if claims.audience:
        yield "audience", _listed(*claims.audience)
    yield "issued", _moment(claims.issued_at)
    yield "expires", _moment(claims.expires_at)
    if claims.factor_ages:
        yield "factors", ", ".join(map(_age, ("first", "second"), claims.factor_ages))
    if claims.plans:
        yield "plans", _listed(*claims.plans)
    if claims.features:
        yield "features", _listed(*claims.features)


def _notes(claims: Claims) -> Iterator[str]:
    if claims.actor:
        yield f"{_listed(claims.actor.id)} acts as this user"
    if claims.organization is None and any(map(_is_of_organization, (*claims.plans, *claims.features))):
        yield "no organization is active: the plans and features with the scope o count for nothing"
    if claims.version == "v1":
        yield "version 1 is deprecated; Clerk's dashboard changes it under Updates"
    if claims.version == "legacy":
        yield "Clerk and Supabase have deprecated this template: use Supabase's third-party auth"
    if claims.role != "authenticated":
        yield 'Supabase takes its bearer for `anon`, since the session token does not say "role": "authenticated"'


def _is_of_organization(element: str) -> bool:
    return element.startswith("o:")


def _age(name: str, minutes: int) -> str:
    return f"{name} never verified" if minutes < 0 else f"{name} verified {minutes} min before"


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _listed(*values: str | None) -> str:
    """Values of a token, without characters that could move the cursor of a terminal."""
    return ", ".join(value if value.isprintable() else json.dumps(value) for value in values if value) or "none"
