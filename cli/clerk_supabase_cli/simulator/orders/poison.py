"""Events that can never be applied, each with its expected class of parking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

import psycopg

from clerk_supabase.model.envelope import Envelope, ReasonClass
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json

_AT: Final = 1_700_000_000_000
_RECEIVED_AT: Final = 1_750_000_000_000
_NEVER: Final = "never"
_FORBIDDEN: Final = "forbidden"
# Expensive classes get small shares: an event with a temporary failure is tried some fifty times.
_KINDS: Final[dict[ReasonClass, int]] = {"unusable": 60, "refused": 38, "exhausted": 2}

_CURSE: Final = f"""
create function public.never_works() returns trigger language plpgsql
as 'begin raise exception ''not now'' using errcode = ''lock_not_available''; end';
create trigger never_works before insert or update on clerk.users
for each row when (new.username = '{_NEVER}') execute function public.never_works();
alter table clerk.users add constraint forbidden check (username <> '{_FORBIDDEN}');
"""
_LIFT_THE_CURSE: Final = """
drop function if exists public.never_works cascade;
alter table if exists clerk.users drop constraint if exists forbidden;
"""


@dataclass(frozen=True, slots=True)
class Poison:
    """An event to be parked once, and the expected class."""

    envelope: Envelope
    reason_class: ReasonClass


def random_poison(chance: Random, world: str, number: int) -> Poison:
    """A poisonous event of a world, about a user without other events."""
    [reason_class] = chance.choices(list(_KINDS), list(_KINDS.values()))
    user = samples.user(f"user_{world}xp{number}", created_at=_AT, updated_at=_AT) | _what_is_wrong(reason_class)
    event = samples.event("user.updated", user, timestamp=_AT)
    return Poison(Envelope(f"msg_{world}_p{number}", json.dumps(event).encode(), _RECEIVED_AT), reason_class)


def _what_is_wrong(reason_class: ReasonClass) -> Json:
    match reason_class:
        case "unusable":
            # Garbage neither bans anybody nor lifts a ban.
            return {"banned": "perhaps"}
        case "refused":
            return {"username": _FORBIDDEN}
        case "exhausted":
            return {"username": _NEVER}


@contextmanager
def cursed(connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[None]:
    """Lets a trigger fail temporarily for a name, and a constraint refuse another name, for the `with` block."""
    connection.execute(_CURSE)
    yield
    connection.execute(_LIFT_THE_CURSE)
