"""The session function of an app whose users sign in, with a stand-in for Clerk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from clerk_supabase.answer import Answer
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.session import Session
from clerk_supabase.settings import SessionSettings
from clerk_supabase.telemetry import metrics
from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.clerk import PassingClock
from tests.kit.clock import Clock
from tests.kit.credentials import Changing
from tests.kit.tokens import KEY

ORIGIN: Final = "https://app.example.test"


@dataclass
class App:
    """An app whose users sign in, and everything behind the app."""

    session: Session
    frontend: FrontendApi
    clerk: ClerkApi
    database: Changing
    """The source of the function's connection string."""
    later: Clock
    """Seconds by which the function's clock is ahead of all other clocks."""

    def post(
        self,
        user_id: str = "user_ada",
        active: Organization | None = None,
        *,
        version: int = 2,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """The answer to the browser of a user, with an active organization."""
        bearer = token or Mint(KEY, self.frontend.issuer).session(user_id, active, version=version, azp=ORIGIN)
        return self.ask("POST", {"authorization": f"Bearer {bearer}", "origin": ORIGIN} | headers)

    def ask(self, method: str, headers: dict[str, str]) -> Answer:
        return self.session.answer({"httpMethod": method, "headers": headers, "body": None})

    def signs_up(self, user_id: str = "user_ada", **fields: Any) -> None:
        """Clerk knows them; no webhook has come."""
        now = time.time_ns() // 1_000_000
        address = samples.email_address("idn_1", "ada@example.test", now)
        user = samples.user(
            user_id,
            created_at=now,
            updated_at=now,
            first_name="Ada",
            email_addresses=[address],
            primary_email_address_id="idn_1",
        )
        with self.clerk.writing() as world:
            world.users[user_id] = user | fields

    def founds(self, role: str = "org:admin", user_id: str = "user_ada", org_id: str = "org_1", **fields: Any) -> None:
        """Clerk knows the organization and the user's membership; no webhook has come."""
        now = time.time_ns() // 1_000_000
        times = {"created_at": now, "updated_at": now}
        with self.clerk.writing() as world:
            org = world.organizations.setdefault(org_id, samples.organization(org_id, **times))
            known = samples.membership(f"orgmem_{user_id}", org, world.users[user_id], role=role, **times)
            world.memberships[known["id"]] = known | fields

    def leaves(self, user_id: str = "user_ada") -> None:
        with self.clerk.writing() as world:
            del world.users[user_id]

    @property
    def calls(self) -> int:
        """The number of requests to Clerk for a user."""
        return self.clerk.counts["GET /users/{id}"]


def app_of(
    frontend: FrontendApi,
    clerk: ClerkApi,
    url: str,
    *,
    key: str = "sk_test_standin",
    waits: bool = False,
    **settings: Any,
) -> Iterator[App]:
    given: dict[str, Any] = {
        "clerk_publishable_key": "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA",
        "clerk_frontend_api_urls": (frontend.issuer,),
        "authorized_parties": (ORIGIN,),
        "accept_missing_party": False,
        "allowed_origins": (ORIGIN,),
        "clerk_secret_key_arn": "arn",
        "clerk_api_url": clerk.url,
        "session_database_secret_arn": "arn",
        "database_ca_file": "",
        "keep_private_metadata": False,
    }
    database = Changing(url)
    store = Store(database)
    passing = PassingClock()
    clock, sleep = (time.monotonic, time.sleep) if waits else (passing, passing.sleep)
    http = ClerkHttp(Fixed(key), clerk.url, clock=clock, sleep=sleep)
    later = Clock(0)
    session = Session(
        SessionSettings(**(given | settings)),
        store,
        http,
        clock_ms=lambda: time.time_ns() // 1_000_000 + int(later() * 1000),
        monotonic=clock,
    )
    yield App(session, frontend, clerk, database, later)
    http.close()
    store.close()


def counted(name: str) -> int:
    return int(sum(metrics.metric_set.get(name, {}).get("Value", [])))
