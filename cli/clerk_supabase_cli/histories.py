"""Random lives of users, as Clerk would tell them: the events, in the order in which things happened."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from clerk_supabase_cli import samples
from clerk_supabase_cli.samples import Json

_BEGINNING: Final = 1_700_000_000_000
# Milliseconds between two events of a user; 0 on purpose, for Clerk writes more than once in a millisecond.
_STEPS: Final = (0, 0, 0, 1, 7, 1_000, 60_000)


def user_history(chance: Random, user_id: str) -> list[Json]:
    """The webhooks about one user, oldest first, all of them different. Some lives are told only in part."""
    events = [*_lifetime(chance, user_id), *_end(chance, user_id)]
    if len(events) > 1 and chance.random() < 0.1:
        # The endpoint was set up after the user.
        del events[0]
    return events


def _lifetime(chance: Random, user_id: str) -> Iterator[Json]:
    now = _BEGINNING + chance.randrange(1_000)
    user = samples.user(user_id, created_at=now, updated_at=now, first_name=f"{chance.randrange(4)}")
    yield samples.event("user.created", user, timestamp=_timestamp(chance, now))
    for _ in range(chance.randrange(8)):
        now += chance.choice(_STEPS)
        user = user | {"updated_at": now} | _edit(chance, now)
        yield samples.event("user.updated", user, timestamp=_timestamp(chance, now))


def _edit(chance: Random, now: int) -> Json:
    """What an update changes; few values, so that content comes back to what it was. A sign-in changes nothing."""
    return chance.choice(
        (
            {"last_sign_in_at": now},
            {"first_name": chance.choice("ABC"), "last_name": chance.choice(("Ö'Neill", None))},
            {"username": chance.choice(("ada", "grace", None)), "image_url": chance.choice(("x", "y"))},
            {"public_metadata": {"plan": chance.randrange(3)}, "banned": chance.random() < 0.5},
            {"email_addresses": [], "primary_email_address_id": None},
        )
    )


def _end(chance: Random, user_id: str) -> Iterator[Json]:
    """Half the users are deleted, now and then twice; the envelope's clock says when: in the midst of their updates."""
    if chance.random() < 0.5:
        return
    for _ in range(chance.choice((1, 1, 1, 2))):
        moment = _BEGINNING + chance.choice((500, 1_000, 1_007, 200_000))
        yield samples.event("user.deleted", samples.deleted("user", user_id), timestamp=_timestamp(chance, moment))


def _timestamp(chance: Random, now: int) -> int:
    """The envelope's clock: a little later than the object's, or in whole seconds."""
    return chance.choice((now, now, now + 3, now // 1_000))
