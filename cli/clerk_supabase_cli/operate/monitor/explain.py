"""The timeline of a Clerk id: arrived events, their outcomes, and changes of rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.event_types import COMES_BY_COMPARISONS, OF_LOST_EVENTS, in_words, is_only_listed
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import LOOK, open_database
from clerk_supabase_cli.operate.monitor.queued import QueuedEvent
from clerk_supabase_cli.printing import how_long, in_utc, printable
from clerk_supabase_cli.terminal import BAD, DOUBTFUL, STRONG

_FIRST_YEAR: Final = 1971
"""Of times by Clerk's clock; 1970 stands for no time."""
_WHAT_WIDTH: Final = 20
"""The least width of the words about a moment."""
_STUCK: Final = {"parked", "parked again", "unfed"}

_TIMELINE: Final = """
select
    applied_at,
    'webhook',
    event_type || ': ' || outcome,
    svix_id,
    null::bigint,
    extract(epoch from applied_at - occurred_at)::float8
from clerk_sync.deliveries
where entity_id = %(id)s
union all
select
    recorded_at,
    kind || ' ' || operation,
    case
        when operation = 'update' and new_values -> 'deleted_at' = 'null' then concat_ws(
            ', ', 'restored', nullif(array_to_string(array_remove(changed_columns, 'deleted_at'), ', '), '')
        )
        when operation = 'update' then array_to_string(changed_columns, ', ')
        else entity_id
    end || ' (' || cause || ')',
    svix_id,
    null,
    null
from clerk_sync.audit_log
where entity_id = %(id)s
or (kind, entity_id) in (
    select kind, entity_id from clerk_sync.audit_log
    where new_values ->> 'clerk_user_id' = %(id)s
    or new_values ->> 'clerk_org_id' = %(id)s
)
union all
select
    moment.at,
    moment.what,
    case moment.what
        when 'parked' then concat_ws(': ', event_type, reason_class, first_reason)
        when 'parked again' then concat_ws(': ', event_type, reason_class, reason)
        when 'discarded' then concat_ws(' by ', event_type, discarded_by)
        else event_type
    end,
    svix_id,
    null,
    null
from clerk_sync.parked_events
cross join lateral (
    values
    (first_parked_at, 'parked'),
    (nullif(last_parked_at, first_parked_at), 'parked again'),
    (replayed_at, 'replayed'),
    (discarded_at, 'discarded')
) as moment (at, what)
where entity_id = %(id)s and moment.at is not null
union all
select
    recorded_at,
    'left out',
    replace(kind, '_', ' ') || ': ' || array_to_string(fields, ', ') || ' (cannot be stored; the rest was applied)',
    svix_id,
    null,
    null
from clerk_sync.dropped_fields
where entity_id = %(id)s
union all
select
    found_at,
    'reconcile',
    concat(
        replace(kind, '_', ' '), ' ', difference, ': ',
        case when kind = any(%(only_listed)s) and cause = any(%(of_events)s) then %(comes)s else cause end,
        ', ' || nullif(array_to_string(fields, ', '), '')
    ),
    null,
    run_id,
    null
from clerk_sync.reconcile_findings
where entity_id = %(id)s
union all
select
    r.undone_at,
    'undone',
    concat('the delete of the ', replace(f.kind, '_', ' '), ' by this run counts for nothing'),
    null,
    f.run_id,
    null
from clerk_sync.reconcile_findings as f inner join clerk_sync.reconcile_runs as r using (run_id)
where f.entity_id = %(id)s and f.action = 'delete' and r.undone_at is not null
union all
select u.last_at, 'unfed', f.target || ': ' || u.reason, null, null, null
from clerk_sync.unfed_rows as u inner join clerk_sync.feeds as f using (feed_id)
where u.object_id = %(id)s
union all
select
    erased_at,
    'forgotten',
    concat(
        (select string_agg(concat_ws(' ', key, value), ', ' order by key) from jsonb_each_text(emptied)),
        ' (' || erased_by || ')'
    ),
    null,
    null,
    null
from clerk_sync.erasures
where %(id)s = any(user_ids)
order by 1
"""
_ABOUT_CAUSES: Final = {
    "only_listed": [kind for kind in FACTS if is_only_listed(kind)],
    "of_events": list(OF_LOST_EVENTS),
    "comes": COMES_BY_COMPARISONS,
}
_ENTITY: Final = """
select
    kind,
    to_timestamp((version).source_updated_at / 1000.0),
    to_timestamp((version).observed_at / 1000.0),
    to_timestamp(deleted_at / 1000.0),
    delete_run,
    delete_recorded_at,
    purged_at
from clerk_sync.entities
where id = %(id)s
order by kind
"""

_OBJECT_OF_EVENT: Final = """
select entity_id from clerk_sync.deliveries where svix_id = %(id)s
union all
select entity_id from clerk_sync.parked_events where svix_id = %(id)s
"""
_EVENT: Final = re.compile(r"msg_|reconcile-\d+-(?P<object_id>.+)")


@dataclass(frozen=True, slots=True)
class Entity:
    """The present state of an object. Times by Clerk's clock; before 1970-01-02: known only from other objects."""

    kind: str
    updated_at: datetime
    observed_at: datetime
    deleted_at: datetime | None
    delete_run: int | None
    """The comparison that found the delete, without an event; 0: a resync. None: an event reported the delete."""
    delete_recorded_at: datetime | None
    """The time at which the delete was recorded, by the clock of the database; the hold-back begins then."""
    purged_at: datetime | None
    """The time, by the clock of the database, at which housekeeping or `forget` emptied the data."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of the timeline."""

    at: datetime
    what: str
    details: str | None
    svix_id: str | None
    """The id of the event or of the repair; None for a moment without one."""
    run_id: int | None
    """The run of reconcile that found the difference; None for any other moment."""
    lag_seconds: float | None
    """Seconds from the change, by Clerk's clock, to the commit."""


class UnknownId(Failure):
    """No event or comparison ever mentioned this id."""


def is_event(typed: str) -> bool:
    """Tells whether an id looks like that of an event, or of a repair by a comparison."""
    return _EVENT.match(typed) is not None


def object_of_event(database_url: str, svix_id: str) -> str | None:
    """The id of the object of an event or of a repair; None for an event that no table knows. Raises DatabaseFailed."""
    if (match := _EVENT.match(svix_id)) and (of_repair := match["object_id"]):
        return of_repair
    with open_database(database_url, LOOK) as connection:
        found = connection.execute(_OBJECT_OF_EVENT, {"id": svix_id}).fetchall()
    return next((object_id for (object_id,) in found if object_id), None)


def timeline(database_url: str, clerk_id: str) -> tuple[list[Entity], list[Moment]]:
    """The states and the timeline of a user, organization, membership, invitation or domain.

    Raises UnknownId and DatabaseFailed.
    """
    with open_database(database_url, LOOK) as connection:
        entities = [Entity(*row) for row in connection.execute(_ENTITY, {"id": clerk_id})]
        moments = [Moment(*row) for row in connection.execute(_TIMELINE, _ABOUT_CAUSES | {"id": clerk_id})]
    if not entities and not moments:
        raise UnknownId(f"the database has nothing about {clerk_id}; is it of this Clerk instance, and spelled right?")
    return entities, moments


def report(clerk_id: str, entities: Iterable[Entity], moments: Iterable[Moment]) -> Iterator[Text]:
    """Yields the lines of a timeline."""
    for entity in entities:
        yield Text(printable(f"{in_words(entity.kind)} {clerk_id}: {', '.join(describe(entity))}"), STRONG)
    moments = list(moments)
    width = max([_WHAT_WIDTH, *(len(in_words(moment.what)) + 1 for moment in moments)])
    for moment in moments:
        lag = "" if moment.lag_seconds is None else f"{how_long(moment.lag_seconds)} after it happened"
        source = moment.svix_id or ("" if moment.run_id is None else f"run {moment.run_id}")
        details = f"{moment.details or ''}  {source}  {lag}"
        yield _line(moment.at, in_words(moment.what), details, BAD if moment.what in _STUCK else "", width)


def report_queued(events: Iterable[QueuedEvent]) -> Iterator[Text]:
    """Yields a line for each event that waits in a queue."""
    for each in events:
        tried = f"not applied at {in_utc(each.failed_at)} UTC: {each.reason}" if each.failed_at else "not tried yet"
        yield _line(each.accepted_at, "waits in the queue", f"{each.event_type}  {each.svix_id}  {tried}", DOUBTFUL)


def _line(at: datetime, what: str, details: str, style: str, width: int = _WHAT_WIDTH) -> Text:
    moment = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    return Text(printable(f"{moment}  {what:<{width}} {details}".rstrip()), style)


def describe(entity: Entity) -> Iterator[str]:
    """The state of an object, in a few words each."""
    if entity.observed_at.year < _FIRST_YEAR:
        yield "known only from other objects"
    elif entity.updated_at.year < _FIRST_YEAR:
        yield f"listed by Clerk {entity.observed_at:%Y-%m-%d %H:%M:%S} without a time of its last change"
    else:
        yield f"version {entity.updated_at:%Y-%m-%d %H:%M:%S.%f}"
    by = {None: "", 0: " by a resync"}.get(entity.delete_run, f" by a comparison (run {entity.delete_run})")
    yield "exists" if entity.deleted_at is None else f"deleted {entity.deleted_at:%Y-%m-%d %H:%M:%S}{by}"
    if entity.delete_recorded_at is not None:
        yield f"which was recorded here {entity.delete_recorded_at:%Y-%m-%d %H:%M:%S}"
    if is_only_listed(entity.kind):
        yield "brought by comparisons alone"
    if entity.purged_at is not None:
        yield f"data erased {entity.purged_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
