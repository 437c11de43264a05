"""Compares the outcomes of events, and the rows of parked deletes, with the tables beside an app that alters rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.simulator.clerks_clock import mirrors
from clerk_supabase_cli.simulator.episodes.stage import Stage
from clerk_supabase_cli.simulator.snapshots import content_of_event, differing

# Not of Billing, where events of one version differ.
_KINDS: Final[tuple[Kind, ...]] = ("user", "organization", "membership", "invitation", "domain")
# After these outcomes, a row is as its event says.
_OUTCOMES: Final = """
select d.svix_id, d.entity_id, d.outcome::text, d.event_type
from clerk_sync.deliveries as d
where d.applied_at > %s and d.event_type not like 'reconcile%%' and d.outcome in ('created', 'updated', 'unchanged')
order by d.applied_at
"""
_PARKED: Final = """
select p.svix_id, p.entity_id, split_part(p.event_type, '.', 1) from clerk_sync.parked_events as p
where p.event_type in ('user.deleted', 'organization.deleted') and p.reason_class = 'refused'
and p.replayed_at is null and p.discarded_at is null
"""


class Outcomes:
    """The deliveries and parked events before some events arrive, for a look at the new ones afterwards."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        [(self._since,)] = stage.admin.execute("select coalesce(max(applied_at), 'epoch') from clerk_sync.deliveries")
        self._parked = {svix_id for svix_id, *_ in self._refused_deletes()}

    def untrue(self) -> Iterator[str]:
        """Outcomes that the rows contradict, and children that a parked delete left visible because of other rows."""
        yield from self._untrue_outcomes()
        yield from self._children_shown()

    def _untrue_outcomes(self) -> Iterator[str]:
        stage, events = self._stage, self._stage.world.events
        if not stage.rules.ids("skip", "alter", "rewrite"):
            return
        snapshot = stage.snapshot()
        told = Counter(map(_version, events))
        kinds = {FACTS[kind].event: kind for kind in _KINDS}
        for svix_id, object_id, outcome, event_type in stage.admin.execute(_OUTCOMES, [self._since]):
            kind = kinds.get(event_type.partition(".")[0])
            number = svix_id.rpartition("_")[2]
            place = (kind or "", object_id)
            entity, row = snapshot.entities.get(place), snapshot.rows.get(place)
            if kind is None or entity is None or row is None or not number.isdecimal():
                continue
            version = _version(event := events[int(number)])
            # Of two events with one version, the content decides. After any other event, the row is of that event.
            if told[version] == 1 and entity.moments == version[1:]:
                content = content_of_event(event)
                if not mirrors(row, content):
                    yield f"{svix_id} is called {outcome}, but {kind} {object_id} says {differing(row, content)}"

    def _refused_deletes(self) -> list[tuple[Any, ...]]:
        return self._stage.admin.execute(_PARKED).fetchall()

    def _children_shown(self) -> Iterator[str]:
        stage = self._stage
        refused = [each for each in self._refused_deletes() if each[0] not in self._parked]
        if not refused:
            return
        troubled, snapshot = stage.rules.ids(), stage.snapshot()
        for svix_id, object_id, parent in refused:
            column = "clerk_user_id" if parent == "user" else "clerk_org_id"
            for place, row in snapshot.rows.items():
                if row.get(column) == object_id and snapshot.shows(place) and place[1] not in troubled:
                    yield f"{svix_id} is parked, and {' '.join(place)} is shown, which the app refuses nothing"


def _version(event: Mapping[str, Any]) -> tuple[str, int, int]:
    """The id of the object of an event, and both parts of the version."""
    return event["data"].get("id", ""), event["data"].get("updated_at", 0), event["timestamp"]
