"""A client of Clerk's Backend API and the stand-in that answers it, over real HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.clerk.pages import Page
from clerk_supabase.clerk.walk import Stretch, Window
from clerk_supabase.credentials import Credential, Fixed
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.population import Population
from clerk_supabase_cli.standin.worlds import World
from tests.kit.clock import Clock

KEY = "sk_test_standin"


@dataclass
class PassingClock(Clock):
    """A clock for which time passes while somebody sleeps, and only then."""

    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def api_with(users: int = 0, *, same_moment: int = 1, key: str = KEY, **options: Any) -> ClerkApi:
    """A stand-in that is not started yet, with a number of users who signed up a second apart."""
    world = World(Random(1), "a", users=Population(users, same_moment=same_moment))
    world.now += 10_000_000_000
    return ClerkApi(Answers(world, key), **options)


@dataclass
class Reader:
    """A client, and the clock that measures its waits."""

    http: ClerkHttp
    clock: PassingClock

    def clerk(self, seconds: float = math.inf) -> Clerk:
        """Reads for at most this time."""
        return Clerk(self.http, self.clock.now + seconds)


def reader(url: str, key: Credential | None = None, clock: PassingClock | None = None, **options: Any) -> Reader:
    """A client that never waits in real time."""
    clock = clock or PassingClock()
    http = ClerkHttp(key or Fixed(KEY), url, clock=clock, sleep=clock.sleep, chance=lambda: 0.5, **options)
    return Reader(http, clock)


def ids(pages: Iterable[Page | Stretch]) -> list[str]:
    """The ids on these pages."""
    return [item.id for page in pages for item in page.items]


def everybody(clerk: Clerk) -> list[str]:
    """Reads the ids of all users."""
    return ids(clerk.users(Window()))


def expected(api: ClerkApi) -> list[str]:
    """The ids of all users there are."""
    return sorted(api.world.users)
