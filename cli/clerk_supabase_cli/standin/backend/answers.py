"""Answers of Clerk's Backend API to requests, computed from a made-up world.

Source: https://github.com/clerk/openapi-specs (bapi/2026-05-12), https://clerk.com/docs/guides/development/upgrading/versioning.
Undocumented behaviour is a field of Answers, so that both ways can be tried.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import unquote

import msgspec

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.access.lists import LISTINGS, Listing, sessions_asked_for
from clerk_supabase_cli.standin.backend import user_list
from clerk_supabase_cli.standin.backend.rejections import (
    VERSION_PARAMETER,
    Rejection,
    check_parameters,
    integer,
    limit_of,
    not_found,
    unprocessable,
)
from clerk_supabase_cli.standin.billing import answers as billing
from clerk_supabase_cli.standin.faults import Elements, Request
from clerk_supabase_cli.standin.members import Members
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.worlds import OTHER_KINDS, World

VERSIONS: Final = ("2021-02-05", "2024-10-01", "2025-04-10", "2025-11-10", "2026-05-12")
_METADATA_ONLY_SINCE: Final = "2026-05-12"
_ORGANIZATION_ORDERS: Final = ("name", "created_at", "members_count")
_MEMBERSHIP_ORDERS: Final = ("phone_number", "email_address", "created_at", "first_name", "last_name", "username")

_INVITATION_STATUSES: Final = ("pending", "accepted", "revoked", "expired")

Alter = Callable[[Elements], Elements]


@dataclass(slots=True)
class Answers:
    """The stand-in for Clerk's servers. A thread that writes to its world during requests holds `lock`."""

    world: World
    key: str = "sk_test_standin"
    instance_id: str = samples.INSTANCE_ID
    lock: threading.RLock = field(default_factory=threading.RLock)
    no_organizations: tuple[int, str] | None = None
    """Status and code of the answer of an instance without organizations: 403 organization_not_enabled_in_instance."""
    no_domains: tuple[int, str] | None = None
    """Status and code of the answer when the instance has no verified domains, such as 403
    organization_domains_not_enabled."""
    no_billing: tuple[int, str] | None = None
    """Status and code of the answer of an instance without Billing: 403 feature_not_enabled."""
    made_by_domains: set[str] = field(default_factory=set)
    """Ids of the invitations made by a domain: the list of a single organization omits these."""
    tells_expiry: bool = True
    """True: lists call an unanswered invitation after its `expires_at` expired; False: pending."""
    inclusive: bool = False
    """True: `created_at_after` and `created_at_before` include users created exactly at that moment."""
    lost_cursor: user_list.LostCursor = "not_found"
    jwks: Callable[[], Json] = lambda: {"keys": []}
    """The keys of the session tokens."""
    seen: Callable[[], World] | None = None
    """The world that GET requests see, if the API lags; called with the lock."""

    def body(self, request: Request, alter: Alter | None = None) -> bytes:
        """The body of a successful answer. Raises Rejection instead of any other answer."""
        self.check_key(request)
        self._check_version(request)
        for (method, pattern), (handler, parameters) in _ROUTES.items():
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                if self.no_organizations and "organization" in request.path:
                    status, code = self.no_organizations
                    raise Rejection(status, code, "The organizations feature is not enabled for this instance.")
                if self.no_domains and request.path.endswith("domains"):
                    raise Rejection(*self.no_domains, "This instance does not have domains enabled for organizations.")
                if self.no_billing and "billing" in request.path.split("/"):
                    raise Rejection(*self.no_billing, "This feature is not enabled on this instance")
                check_parameters(request, parameters)
                with self.lock:
                    answers = replace(self, world=self.seen()) if self.seen and method == "GET" else self
                    return handler(answers, request, alter or _as_it_is, *map(unquote, match.groups()))
        raise Rejection(404, "not_found", "no such route")

    def route(self, request: Request) -> str:
        """The endpoint, without the ids in its path."""
        for method, pattern in _ROUTES:
            if method == request.method and pattern.fullmatch(request.path):
                return f"{method} {pattern.pattern.replace(_ID, '{id}')}"
        return f"{request.method} ?"

    def check_key(self, request: Request) -> None:
        """Raises Rejection without the secret key of the instance."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Rejection(401, "authentication_invalid", "Invalid authentication")
        if key != self.key:
            raise Rejection(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid.")

    @staticmethod
    def _check_version(request: Request) -> None:
        said = [request.headers.get("clerk-api-version", ""), request.value(VERSION_PARAMETER)]
        versions = [each for each in said if each]
        if len(versions) > 1 or any(each not in VERSIONS for each in versions):
            raise Rejection(400, "api_version_invalid", "Name one known version, in the header or the parameter.")

    # Users

    def users(self, request: Request, alter: Alter) -> bytes:
        elements = user_list.page(
            self.world.users,
            request,
            inclusive=self.inclusive,
            lost_cursor=self.lost_cursor,
            members_of=self._members_of,
        )
        return _array(alter(elements))

    def users_count(self, request: Request, _: Alter) -> bytes:
        found = user_list.count(self.world.users, request, inclusive=self.inclusive, members_of=self._members_of)
        return json.dumps({"object": "total_count", "total_count": found}).encode()

    def user(self, _: Request, alter: Alter, user_id: str) -> bytes:
        if user_id not in self.world.users:
            raise not_found()
        return b"".join(alter([self.world.users.json(user_id)]))

    def create_user(self, request: Request, _: Alter) -> bytes:
        fields = _fields(request)
        addresses = [
            samples.email_address(f"idn_{place}", str(address), self.world.now)
            for place, address in enumerate(fields.pop("email_address", []))
        ]
        if addresses:
            fields |= {"email_addresses": addresses, "primary_email_address_id": "idn_0"}
        return _json(self.world.create_user(fields))

    def update_user(self, request: Request, _: Alter, user_id: str) -> bytes:
        fields = _fields(request)
        version = request.headers.get("clerk-api-version") or request.value(VERSION_PARAMETER)
        if version == _METADATA_ONLY_SINCE and any(name.endswith("_metadata") for name in fields):
            raise unprocessable("metadata", "is written through /metadata")
        if user_id not in self.world.users:
            raise not_found()
        return _json(self.world.update("user", user_id, fields))

    def delete_user(self, _: Request, __: Alter, user_id: str) -> bytes:
        if user_id not in self.world.users:
            raise not_found()
        self.world.remove_user(user_id)
        return _json(samples.deleted("user", user_id))

    # Organizations and their objects

    def organizations(self, request: Request, alter: Alter) -> bytes:
        found = list(self.world.organizations.values())
        if ids := request.values("organization_id"):
            if len(ids) > user_list.MOST_VALUES:
                raise unprocessable("organization_id", f"at most {user_list.MOST_VALUES} values")
            found = [each for each in found if _is_asked_for(each["id"], ids)]
        if ids := request.values("user_id"):
            theirs = {_org_of(each) for each in self.world.memberships.values() if _user_of(each) in ids}
            found = [each for each in found if each["id"] in theirs]
        if text := request.value("query").lower():
            found = [
                each for each in found if any(text in str(each.get(key)).lower() for key in ("id", "name", "slug"))
            ]
        return _envelope(found, request, alter, _ORGANIZATION_ORDERS)

    def organization(self, _: Request, alter: Alter, org: str) -> bytes:
        return b"".join(alter([_json(self._organization(org))]))

    def memberships(self, request: Request, alter: Alter) -> bytes:
        listed = self.world.memberships
        if isinstance(listed, Members) and request.value("order_by", "-created_at").lstrip("+-") == "created_at":
            limit, offset = limit_of(request), integer(request, "offset", 0, least=0)
            is_descending = not request.value("order_by").startswith("+")
            elements = listed.page(offset, limit, descending=is_descending)
            return b'{"data":%s,"total_count":%d}' % (_array(alter(elements)), len(listed))
        return _envelope(listed.values(), request, alter, _MEMBERSHIP_ORDERS)

    def memberships_of_organization(self, request: Request, alter: Alter, org: str) -> bytes:
        org_id = self._organization(org)["id"]
        found = [each for each in self.world.memberships.values() if _org_of(each) == org_id]
        if ids := request.values("user_id"):
            found = [each for each in found if _is_asked_for(_user_of(each), ids)]
        if roles := request.values("role"):
            found = [each for each in found if each["role"] in roles]
        return _envelope(found, request, alter, _MEMBERSHIP_ORDERS)

    def memberships_of_user(self, request: Request, alter: Alter, user_id: str) -> bytes:
        if user_id not in self.world.users:
            raise not_found()
        found = [each for each in self.world.memberships.values() if _user_of(each) == user_id]
        return _envelope(found, request, alter, ("created_at",))

    def invitations(self, request: Request, alter: Alter) -> bytes:
        found = [self._told(each) for each in self.world.invitations.values()]
        if text := request.value("query").lower():
            found = [each for each in found if text in str(each["email_address"]).lower()]
        return self._invitations(found, request, alter)

    def invitations_of_organization(self, request: Request, alter: Alter, org: str) -> bytes:
        org_id = self._organization(org)["id"]
        found = [
            self._told(each)
            for each in self.world.invitations.values()
            if each["organization_id"] == org_id and each["id"] not in self.made_by_domains
        ]
        return self._invitations(found, request, alter)

    def invitation(self, _: Request, alter: Alter, org: str, invitation_id: str) -> bytes:
        org_id = self._organization(org)["id"]
        found = self.world.invitations.get(invitation_id)
        if found is None or found["organization_id"] != org_id:
            raise not_found()
        return b"".join(alter([_json(self._told(found))]))

    @staticmethod
    def _invitations(found: list[Json], request: Request, alter: Alter) -> bytes:
        statuses = request.values("status")
        if any(each not in _INVITATION_STATUSES for each in statuses):
            raise unprocessable("status", f"must be one of {', '.join(_INVITATION_STATUSES)}")
        if statuses:
            found = [each for each in found if each["status"] in statuses]
        return _envelope(found, request, alter, ("created_at", "email_address"))

    def _told(self, invitation: Json) -> Json:
        """An invitation as Clerk's lists show it: expired, after its time."""
        expires_at = invitation.get("expires_at")
        has_expired = invitation["status"] == "pending" and isinstance(expires_at, int) and expires_at <= self.world.now
        return invitation | {"status": "expired"} if self.tells_expiry and has_expired else invitation

    def domains(self, request: Request, alter: Alter) -> bytes:
        found = list(self.world.domains.values())
        if ids := request.values("organization_id"):
            found = [each for each in found if _is_asked_for(each["organization_id"], ids)]
        if modes := request.values("enrollment_mode"):
            found = [each for each in found if _is_asked_for(each["enrollment_mode"], modes)]
        if names := request.values("domains"):
            found = [each for each in found if each["name"] in names]
        if verified := request.value("verified"):
            found = [each for each in found if _is_verified(each) == (verified == "true")]
        if text := request.value("query").lower():
            found = [each for each in found if text in str(each["name"]).lower()]
        return _envelope(found, request, alter, ("created_at", "name"))

    # Billing

    def subscription_items(self, request: Request, alter: Alter) -> bytes:
        return billing.items(self.world.billing, request, alter)

    def plans(self, request: Request, alter: Alter) -> bytes:
        return billing.plans(self.world.others["plan"].values(), request, alter)

    def subscription_of_user(self, _: Request, alter: Alter, user_id: str) -> bytes:
        if user_id not in self.world.users:
            raise not_found()
        return billing.subscription(self.world.billing, user_id, alter)

    def subscription_of_organization(self, _: Request, alter: Alter, org: str) -> bytes:
        return billing.subscription(self.world.billing, self._organization(org)["id"], alter)

    def statements(self, request: Request, alter: Alter) -> bytes:
        return billing.statements(self.world.billing, request, alter)

    def statement(self, _: Request, alter: Alter, statement_id: str) -> bytes:
        return billing.statement(self.world.billing, statement_id, alter)

    def attempts_of_statement(self, request: Request, alter: Alter, statement_id: str) -> bytes:
        return billing.attempts_of_statement(self.world.billing, request, statement_id, alter)

    # The rest

    def others(self, kind: Kind, request: Request, alter: Alter) -> bytes:
        """The list of another kind, or of a kind that an app has added."""
        listing = LISTINGS.get(kind, Listing())
        return _envelope(listing.filtered(self.world.others[kind].values(), request), request, alter, listing.orders)

    def other(self, kind: Kind, _: Request, alter: Alter, *ids: str) -> bytes:
        """An object of such a kind; the stand-in ignores the ids of its parents."""
        found = self.world.others[kind].get(ids[-1])
        if found is None:
            raise not_found()
        return b"".join(alter([_json(found)]))

    def sessions(self, request: Request, alter: Alter) -> bytes:
        found = sessions_asked_for(self.world.others["session"].values(), request)
        limit, offset = limit_of(request), integer(request, "offset", 0, least=0)
        return _array(alter([_json(_without_user(each)) for each in found[offset : offset + limit]]))

    def session(self, _: Request, alter: Alter, session_id: str) -> bytes:
        found = self.world.others["session"].get(session_id)
        if found is None:
            raise not_found()
        return b"".join(alter([_json(_without_user(found))]))

    def keys(self, _: Request, __: Alter) -> bytes:
        return _json(self.jwks())

    def instance(self, _: Request, __: Alter) -> bytes:
        environment = "production" if self.key.startswith("sk_live_") else "development"
        return _json(
            {
                "object": "instance",
                "id": self.instance_id,
                "environment_type": environment,
                "allowed_origins": None,
                "workspace_id": None,
            }
        )

    def _organization(self, org: str) -> Json:
        for each in self.world.organizations.values():
            if org in (each["id"], each.get("slug")):
                return each
        raise not_found()

    def _members_of(self, org: str) -> set[str]:
        sign, org_id = (org[0], org[1:]) if org[:1] in ("+", "-") else ("+", org)
        members = {_user_of(each) for each in self.world.memberships.values() if _org_of(each) == org_id}
        return members if sign == "+" else set(self.world.users) - members


_ID: Final = "([^/]+)"
Handler = Callable[..., bytes]
Route = tuple[str, str, Handler, frozenset[str]]
_PAGES: Final = frozenset({"limit", "offset"})
_ORDERED: Final = _PAGES | {"order_by"}
_NONE: Final[frozenset[str]] = frozenset()


def _routes_of_others() -> Iterator[Route]:
    """The routes of the kinds that are listed alike: the list, and a single object, as the facts say."""
    for kind in OTHER_KINDS:
        facts = FACTS[kind]
        if not facts.list_path:
            continue
        filters = LISTINGS.get(kind, Listing()).filters
        yield "GET", facts.list_path, _of_kind(Answers.others, kind), _ORDERED | filters.keys()
        for path in {facts.again_path, facts.gone_path}:
            if path.endswith("/{id}"):
                single = path.replace("{user}", "{id}").replace("{organization}", "{id}")
                yield "GET", single, _of_kind(Answers.other, kind), _NONE


def _of_kind(handler: Handler, kind: Kind) -> Handler:
    return lambda answers, *arguments: handler(answers, kind, *arguments)


_ROUTES: Final[Mapping[tuple[str, re.Pattern[str]], tuple[Handler, frozenset[str]]]] = MappingProxyType(
    {
        (method, re.compile(path.replace("{id}", _ID))): (handler, parameters)
        for method, path, handler, parameters in cast(
            "Sequence[Route]",
            (
                # Each of the others replaces a route of the same path.
                *_routes_of_others(),
                ("GET", "/users/count", Answers.users_count, user_list.COUNT_PARAMETERS),
                ("GET", "/users", Answers.users, user_list.LIST_PARAMETERS),
                ("POST", "/users", Answers.create_user, _NONE),
                ("GET", "/users/{id}", Answers.user, _NONE),
                ("PATCH", "/users/{id}", Answers.update_user, _NONE),
                ("DELETE", "/users/{id}", Answers.delete_user, _NONE),
                ("GET", "/users/{id}/organization_memberships", Answers.memberships_of_user, _PAGES),
                (
                    "GET",
                    "/organizations",
                    Answers.organizations,
                    _ORDERED | {"organization_id", "user_id", "query", "include_members_count"},
                ),
                ("GET", "/organizations/{id}", Answers.organization, frozenset({"include_members_count"})),
                (
                    "GET",
                    "/organizations/{id}/memberships",
                    Answers.memberships_of_organization,
                    _ORDERED | {"user_id", "role"},
                ),
                ("GET", "/organization_memberships", Answers.memberships, _ORDERED),
                ("GET", "/organization_invitations", Answers.invitations, _ORDERED | {"status", "query"}),
                ("GET", "/organizations/{id}/invitations", Answers.invitations_of_organization, _ORDERED | {"status"}),
                ("GET", "/organizations/{id}/invitations/{id}", Answers.invitation, _NONE),
                (
                    "GET",
                    "/organization_domains",
                    Answers.domains,
                    _ORDERED | {"organization_id", "verified", "enrollment_mode", "domains", "query"},
                ),
                ("GET", "/sessions", Answers.sessions, _PAGES | {"user_id", "client_id", "status"}),
                ("GET", "/sessions/{id}", Answers.session, _NONE),
                ("GET", "/billing/subscription_items", Answers.subscription_items, billing.ITEMS_PARAMETERS),
                ("GET", "/billing/statements", Answers.statements, billing.STATEMENTS_PARAMETERS),
                ("GET", "/billing/statements/{id}", Answers.statement, _NONE),
                (
                    "GET",
                    "/billing/statements/{id}/payment_attempts",
                    Answers.attempts_of_statement,
                    billing.STATEMENTS_PARAMETERS,
                ),
                ("GET", "/billing/plans", Answers.plans, billing.PLANS_PARAMETERS),
                ("GET", "/users/{id}/billing/subscription", Answers.subscription_of_user, _NONE),
                ("GET", "/organizations/{id}/billing/subscription", Answers.subscription_of_organization, _NONE),
                ("GET", "/instance", Answers.instance, _NONE),
                ("GET", "/jwks", Answers.keys, _NONE),
            ),
        )
    }
)


def _envelope(objects: Iterable[Json], request: Request, alter: Alter, orders: Sequence[str]) -> bytes:
    limit, offset = limit_of(request), integer(request, "offset", 0, least=0)
    value = request.value("order_by", "-created_at")
    name = value[1:] if value[:1] in "+-" else value
    if name not in orders:
        raise unprocessable("order_by", "not an order")
    found = sorted(objects, key=lambda each: _sort_key(each, name), reverse=value.startswith("-"))
    elements = alter([_json(each) for each in found[offset : offset + limit]])
    return b'{"data":%s,"total_count":%d}' % (_array(elements), len(found))


def _sort_key(each: Json, name: str) -> tuple[int, str, str]:
    value = each.get(name, each.get("public_user_data", {}).get(name))
    return (value, "", each["id"]) if isinstance(value, int) else (0, str(value or ""), each["id"])


def _is_asked_for(object_id: str, asked: Sequence[str]) -> bool:
    included = [each.removeprefix("+") for each in asked if not each.startswith("-")]
    return (not included or object_id in included) and f"-{object_id}" not in asked


def _without_user(session: Json) -> Json:
    """A session as the API shows it: only webhooks show the user, too."""
    return {name: each for name, each in session.items() if name != "user"}


def _is_verified(domain: Json) -> bool:
    return any(
        (domain.get(name) or {}).get("status") == "verified"
        for name in ("affiliation_verification", "ownership_verification")
    )


def _fields(request: Request) -> Json:
    try:
        fields = json.loads(request.body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Rejection(400, "request_body_invalid", "not a JSON object")
    return fields


def _as_it_is(elements: Elements) -> Elements:
    return elements


def _array(elements: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(elements) + b"]"


def _json(value: Json) -> bytes:
    return msgspec.json.encode(value)


def _org_of(membership: Json) -> str:
    return str(membership["organization"]["id"])


def _user_of(membership: Json) -> str:
    return str(membership["public_user_data"]["user_id"])
