"""Everybody at once after the same few objects: webhooks, first logins, deletes, undo, purges, erasures, parking."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Final

import psycopg

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase_cli.standin import samples
from tests.bench import crowd_runs
from tests.kit.databases import Database, acting_as
from tests.kit.histories import CREATED_AT, RECEIVED_AT, Applied
from tests.kit.purging import allow_at_once, undo
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, user

_OBJECTS: Final = 6
# Answers that are no failure, by the beginning of the message.
_BY_RULE: Final[Mapping[str, str]] = {
    "a user is forgotten once Clerk has deleted them": "erasures of users whom Clerk still has",
    "a membership of the user came meanwhile": "erasures beside a new membership",
    "this user was deleted in Clerk": "sign-ins of deleted users",
    "canceling statement due to lock timeout": "waits for a lock that took too long",
}
_KEEP: Final = json.dumps(asdict(Keep(hold_back_days=0, purge_by="delete", deliveries_days=0, audit_days=0)))


def told(errors: Sequence[str]) -> str:
    """The answers that are no failure, counted by reason; then the number of failures, and the first of them."""
    reasons = Counter(reason for error in errors for begin, reason in _BY_RULE.items() if error.startswith(begin))
    failures = [error for error in errors if not error.startswith(tuple(_BY_RULE))]
    parts = [f"{number} {reason}" for reason, number in reasons.most_common()]
    turned_down = f"turned down: {', '.join(parts)}; " if parts else ""
    return f"{turned_down}{len(failures)} failed{''.join(f', such as: {each}' for each in failures[:1])}"


@dataclass
class Crowd:
    """Ids are used again after a while, under a new generation, because a purged user never returns."""

    database: Database
    until: float
    began: float = field(default_factory=time.monotonic)
    errors: list[str] = field(default_factory=list)
    acts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def generation(self) -> int:
        return int((time.monotonic() - self.began) / 2)

    @property
    def at(self) -> int:
        """Milliseconds since the beginning."""
        return int((time.monotonic() - self.began) * 1000) + 1

    def name(self, chance: Random, prefix: str) -> str:
        return f"{prefix}_{self.generation - chance.randrange(2)}x{chance.randrange(_OBJECTS)}"

    def keep_on(self, act: Callable[[Random], object], seed: int) -> None:
        """Repeats an action, and goes on after an error, which is noted."""
        chance = Random(seed)
        while time.monotonic() < self.until:
            try:
                act(chance)
            except (psycopg.Error, ClerkSupabaseError) as error:
                with self._lock:
                    self.errors.append(str(error).partition("\n")[0])
            with self._lock:
                self.acts += 1

    def events(self, chance: Random) -> list[Applied]:
        at = self.at
        user_id, org_id = self.name(chance, "user"), self.name(chance, "org")
        member = f"orgmem_{user_id}{org_id}"
        address = f"{user_id}@crowd.test"
        emails = [samples.email_address("idn_1", address, CREATED_AT)]
        return [
            chance.choice(
                (
                    user(user_id, at=at, email_addresses=emails),
                    organization(org_id, at=at),
                    membership(member, at=at, org_id=org_id, user_id=user_id),
                    membership(member, at=at, org_id=org_id, user_id=user_id),
                    invitation(f"orginv_{user_id}{org_id}", at=at, org_id=org_id, email_address=address),
                    domain(f"orgdmn_{org_id}", at=at, org_id=org_id, affiliation_email_address=address),
                    deleted("user", user_id, at=at),
                    deleted("organization", org_id, at=at),
                    deleted("organizationMembership", member, at=at),
                    deleted("organizationDomain", f"orgdmn_{org_id}", at=at),
                )
            )
        ]

    def arrive(self, store: Store) -> Callable[[Random], object]:
        def act(chance: Random) -> None:
            for answer in store.apply([event for _ in range(20) for event in self.events(chance)]):
                if isinstance(answer, Exception):
                    raise answer

        return act

    def park(self, store: Store) -> Callable[[Random], object]:
        def act(chance: Random) -> None:
            user_id = self.name(chance, "user")
            data = {"id": user_id, "note": f"{user_id}@crowd.test"}
            body = json.dumps({"type": "user.updated", "data": data}).encode()
            store.park([ParkedEvent(Envelope(f"msg_{chance.random()}", body, RECEIVED_AT), "refused", "why")])

        return act

    def sign_in(self, admin: psycopg.Connection) -> Callable[[Random], object]:
        def act(chance: Random) -> None:
            user_id = self.name(chance, "user")
            with acting_as(admin, "authenticated", {"sub": user_id, "role": "authenticated"}):
                admin.execute("insert into clerk.users (clerk_id) values (%s) on conflict do nothing", [user_id])

        return act

    def keep_house(self, admin: psycopg.Connection) -> Callable[[Random], object]:
        return lambda _: admin.execute("select clerk_sync.keep_house(%s::jsonb)", [_KEEP])

    def forget(self, admin: psycopg.Connection) -> Callable[[Random], object]:
        def act(chance: Random) -> None:
            user_id = self.name(chance, "user")
            request = {"users": [user_id], "words": [f"{user_id}@crowd.test"], "purge_by": "delete", "erased_by": "ops"}
            admin.execute("select clerk_sync.forget(%s::jsonb)", [json.dumps(request)])

        return act

    def undo(self, admin: psycopg.Connection) -> Callable[[Random], object]:
        def act(_: Random) -> None:
            undo(admin)

        return act


def hammer(database: Database, seconds: float) -> Crowd:
    """Have them all at work for so long."""
    with database.connect() as admin:
        allow_at_once(admin)
        admin.execute("update clerk_sync.retention set purge_by = 'delete', deliveries_days = 0, audit_days = 0")
    crowd = Crowd(database, time.monotonic() + seconds)
    with ExitStack() as opened:
        stores = [opened.enter_context(closing(Store(Fixed(database.worker_url)))) for _ in range(7)]
        admins = [opened.enter_context(database.connect()) for _ in range(10)]
        _have_at_work(crowd, stores, admins)
    return crowd


def _have_at_work(crowd: Crowd, stores: Sequence[Store], admins: Sequence[psycopg.Connection]) -> None:
    acts = [
        *(crowd.arrive(store) for store in stores[:4]),
        crowd.park(stores[4]),
        crowd.sign_in(admins[0]),
        crowd.keep_house(admins[1]),
        crowd.keep_house(admins[2]),
        crowd.forget(admins[3]),
        crowd.forget(admins[4]),
        crowd.undo(admins[5]),
        crowd_runs.compare(crowd, stores[5]),
        crowd_runs.compare(crowd, stores[6]),
        crowd_runs.undo(admins[6]),
        crowd_runs.resync(crowd, admins[7]),
        crowd_runs.edit(crowd, admins[8]),
        crowd_runs.secure(admins[9]),
    ]
    with ThreadPoolExecutor(len(acts)) as pool:
        for at_work in [pool.submit(crowd.keep_on, act, seed) for seed, act in enumerate(acts)]:
            at_work.result()
