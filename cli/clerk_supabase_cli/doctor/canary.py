"""A signed event of our own, sent to the stack's public URL and looked for in the database."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from clerk_supabase.model.found_kinds import CANARY_TYPE
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.standin.deliveries import sign

_TIMEOUT: Final = httpx.Timeout(20, connect=5)
_LOOK_AGAIN_SECONDS: Final = 0.1
_APPLIED: Final = """
    select extract(epoch from applied_at - received_at)::float8
    from clerk_sync.deliveries where svix_id = %s
"""


def canary(instance_id: str = "") -> dict[str, Any]:
    """The event. `instance_id`: the Clerk instance of the stack, which rejects events of any other instance."""
    instance = {"instance_id": instance_id} if instance_id else {}
    # Without an id, ingest would park the event like any event without a user.
    return {
        "object": "event",
        "type": CANARY_TYPE,
        "timestamp": time.time_ns() // 1_000_000,
        "data": {"object": "canary", "id": "canary"},
        **instance,
    }


@dataclass(frozen=True, slots=True)
class Sent:
    """A canary on its way."""

    svix_id: str
    status: int
    """The answer of the API."""
    sent_at: float
    """By the monotonic clock, like `answered_at`."""
    answered_at: float


@dataclass(frozen=True, slots=True)
class Arrived:
    """A canary recorded as a delivery."""

    total_seconds: float
    """From the first sent byte to the sight of the row, by this machine's clock."""
    queue_seconds: float
    """From ingest's answer to the commit, by their own clocks."""


def send(url: str, secret: str, instance_id: str = "") -> Sent:
    """Posts a canary as Svix would. Raises httpx.HTTPError without an answer."""
    request = sign(canary(instance_id), secret)
    began = time.monotonic()
    # A proxy from the environment could not reach this machine's loopback.
    is_here = httpx.URL(url).host == "127.0.0.1"
    answer = httpx.post(
        url, content=request.body, headers=dict(request.headers), timeout=_TIMEOUT, trust_env=not is_here
    )
    return Sent(request.headers["svix-id"], answer.status_code, began, time.monotonic())


def wait_for(sent: Sent, connection: Connection, seconds: float) -> Arrived | None:
    """The record of the canary; None if the canary was not recorded within the given seconds."""
    while True:
        found = connection.execute(_APPLIED, [sent.svix_id]).fetchone()
        if found is not None:
            return Arrived(time.monotonic() - sent.sent_at, found[0])
        if time.monotonic() > sent.answered_at + seconds:
            return None
        time.sleep(_LOOK_AGAIN_SECONDS)
