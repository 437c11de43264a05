"""Checks parked events: each poisonous event is parked once, with the right class and body, and no other event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import psycopg

from clerk_supabase_cli.simulator.orders.poison import Poison
from clerk_supabase_cli.simulator.orders.schedules import Schedule

_PARKED: Final = """
select svix_id, reason_class, body, reason from clerk_sync.parked_events where svix_id = any(%s) order by parked_id
"""
_APPLIED: Final = "select svix_id from clerk_sync.deliveries where svix_id = any(%s)"


@dataclass(frozen=True, slots=True)
class Parked:
    """The parked events of some schedules, and the poisonous events recorded as applied."""

    poison: dict[str, Poison]
    rows: list[tuple[Any, ...]]
    applied: list[tuple[Any, ...]]

    @classmethod
    def of(cls, schedules: Iterable[Schedule], connection: psycopg.Connection[tuple[Any, ...]]) -> Self:
        """Reads the present state of a database."""
        poison = {each.envelope.svix_id: each for schedule in schedules for each in schedule.poison}
        svix_ids = [*poison, *(envelope.svix_id for schedule in schedules for envelope in schedule.delivered)]
        parked = connection.execute(_PARKED, [svix_ids]).fetchall()
        return cls(poison, parked, connection.execute(_APPLIED, [list(poison)]).fetchall())

    def wrong(self) -> Iterator[str]:
        """Events parked without need, twice, or with another class or body; missing events; and applied poison."""
        missing = dict(self.poison)
        for svix_id, reason_class, body, reason in self.rows:
            poison = missing.pop(svix_id, None)
            if poison is None:
                how_often = "twice" if svix_id in self.poison else "though it could be applied"
                yield f"{svix_id}: parked {how_often}: {reason_class}: {reason}"
            elif (reason_class, body) != (poison.reason_class, poison.envelope.body) or not reason:
                yield f"{svix_id}: parked as {reason_class}: {reason}: {body!r}, not as {poison}"
        yield from (f"{svix_id}: not parked, but it is {missing[svix_id].reason_class}" for svix_id in missing)
        yield from (f"{svix_id}: said to be applied" for (svix_id,) in self.applied)
