"""First login: how long until a new user's row can be seen through the policies, by `POST /session` and by webhook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.tokens.claims import Claims, session_claims
from clerk_supabase.tokens.verifiers import taken_apart
from clerk_supabase_cli.local.stack import APP_ORIGIN, LocalStack
from clerk_supabase_cli.standin.deliveries import sign
from clerk_supabase_cli.standin.samples import event, new_user_id, user
from tests.bench.results import Result, duration

_TURNS: Final = 20
_PATIENCE_SECONDS: Final = 30


def measure(root: Path) -> Iterator[Result]:
    """Measures on the emulated AWS, in one run and by turns. The first of each, with its cold start, does not count.

    The webhook is posted at the moment of the sign-up: the time of Clerk and Svix before the post comes on top.
    """
    with LocalStack(root) as stack, httpx.Client(timeout=60, trust_env=False) as http:
        store = Store(Fixed(f"{stack.database_url}?sslmode=disable"))
        by_session: list[float] = []
        by_webhook: list[float] = []
        for _ in range(_TURNS + 1):
            by_session.append(_seconds_until_seen(store, stack, lambda *who: _post_session(stack, http, *who)))
            by_webhook.append(_seconds_until_seen(store, stack, lambda *who: _post_webhook(stack, http, *who)))
        store.close()
    session, webhook = _median(by_session[1:]), _median(by_webhook[1:])
    yield Result(
        f"first login: POST /session until the row is visible, median of {_TURNS}",
        f"webhook, without Svix: {duration(webhook)}",
        duration(session),
        webhook / session,
        "x faster",
        details=(f"{_span(by_session[1:])} by POST /session, {_span(by_webhook[1:])} by webhook",),
    )


Act = Callable[[str, str], object]


def _seconds_until_seen(store: Store, stack: LocalStack, act: Act) -> float:
    """Seconds until the row is seen. *act*: the step of the app or of Clerk for a user with this id and this token."""
    user_id = new_user_id()
    token = stack.mint.session(user_id)
    claims = session_claims(taken_apart(token).payload)
    started = time.perf_counter()
    act(user_id, token)
    while not _is_seen(store, claims):
        if time.perf_counter() - started > _PATIENCE_SECONDS:
            raise TimeoutError(f"no row within {_PATIENCE_SECONDS} s")
    return time.perf_counter() - started


def _is_seen(store: Store, claims: Claims) -> bool:
    with store.as_user(claims) as queries:
        return bool(queries.rows("select 1 from clerk.users where created_at is not null"))


def _post_session(stack: LocalStack, http: httpx.Client, user_id: str, token: str) -> None:
    now = _now()
    with stack.clerk.writing() as world:
        world.users[user_id] = user(user_id, created_at=now, updated_at=now)
    headers = {"authorization": f"Bearer {token}", "origin": APP_ORIGIN}
    http.post(stack.session_url, headers=headers).raise_for_status()


def _post_webhook(stack: LocalStack, http: httpx.Client, user_id: str, token: str) -> None:
    now = _now()
    request = sign(
        event("user.created", user(user_id, created_at=now, updated_at=now), timestamp=now), stack.webhook_secret
    )
    http.post(stack.webhook_url, content=request.body, headers=dict(request.headers)).raise_for_status()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _median(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def _span(seconds: list[float]) -> str:
    return f"{duration(min(seconds))} to {duration(max(seconds))}"
