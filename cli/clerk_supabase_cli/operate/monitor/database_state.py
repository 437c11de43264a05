"""The state of the tables, as `status`, `doctor` and `console` read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

import psycopg

from clerk_supabase_cli.operate.database import LOOK, Connection, DatabaseFailed, open_database
from clerk_supabase_cli.operate.install.migrations import MigrationFailed, differing_objects, why_incomplete
from clerk_supabase_cli.operate.parked import EVENTS, STATES, State
from clerk_supabase_cli.operate.versions import database_version, why_of_another_major
from clerk_supabase_cli.project import find_root

# Longer than the time of most events through all attempts of sync and retry.
REPLAY_TAKES: Final = "3 hours"

_STATES: Final[LiteralString] = f"""
    select
        state, count(*),
        count(*) filter (where state = 'replayed' and replayed_at < now() - interval '{REPLAY_TAKES}')
    from ({EVENTS}) as event
    group by state
"""  # noqa: S608 - made of constants
_REASONS: Final[LiteralString] = f"""
    select reason_class, event_type, count(*), min(first_parked_at)
    from ({EVENTS}) as event
    where state = 'parked'
    group by reason_class, event_type
    order by count(*) desc, reason_class, event_type
"""  # noqa: S608 - made of constants
_LAST_DELIVERY: Final = "select max(applied_at) from clerk_sync.deliveries"
_OUTCOMES: Final = """
    select span, outcome, count(*)
    from (values ('hour', interval '1 hour'), ('day', interval '1 day')) as recent (span, length)
    inner join clerk_sync.deliveries on applied_at > now() - length
    group by span, outcome
    order by span, count(*) desc, outcome
"""
_LAGS: Final = """
    select
        span,
        percentile_cont(array[0.5, 0.95, 0.99]) within group (order by extract(epoch from applied_at - received_at)),
        percentile_cont(array[0.5, 0.95, 0.99]) within group (order by extract(epoch from applied_at - occurred_at))
    from (values ('hour', interval '1 hour'), ('day', interval '1 day')) as recent (span, length)
    inner join clerk_sync.deliveries on applied_at > now() - length
    group by span
"""
_LEFT_OUT: Final = """
    select count(distinct entity_id), (array_agg(entity_id order by recorded_at desc))[1]
    from clerk_sync.dropped_fields
    where recorded_at > now() - interval '1 day'
"""
_NOT_PURGED: Final = """
    select kind, reason, count(*), min(first_tried_at)
    from clerk_sync.not_purged
    group by kind, reason
    order by count(*) desc, kind, reason
"""
_UNFINISHED: Final = """
    select u.kind, u.id, u.is_deleted, clerk_sync.rows_left(u), u.began_at
    from clerk_sync.unfinished_deletes as u
    order by u.began_at, u.kind, u.id
"""
_UNFED: Final = """
    select f.target, u.code, u.reason, count(*), min(u.first_at)
    from clerk_sync.unfed_rows as u inner join clerk_sync.feeds as f using (feed_id)
    group by f.target, u.code, u.reason
    order by count(*) desc, f.target, u.reason
"""
_WRONG_INSTANCES: Final = """
    select w.instance_id, w.events, w.last_at, w.last_at > now() - interval '1 day', i.instance_id
    from clerk_sync.wrong_instances as w left join clerk_sync.instance as i on true
    -- A move leaves a row of the instance that is mirrored now; the comparison after the move brings these events.
    where w.instance_id is distinct from i.instance_id
    order by w.last_at desc, w.instance_id
"""
_COMPARED: Final = """
    select
        kind, to_timestamp(changed_until / 1000.0), to_timestamp(compared_until / 1000.0), is_switched_off,
        extract(epoch from now() - to_timestamp(compared_until / 1000.0))::float
    from clerk_sync.compared_until()
"""
_HAS_KINDS: Final = "select exists (select from clerk_sync.kinds)"
_SPANS: Final = ("hour", "day")
_NOT_MIGRATED: Final = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
)


@dataclass(frozen=True, slots=True)
class Lag:
    """The seconds between two moments, for the events of a period: half, 95 % and 99 % took at most this time."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Recent:
    """The events applied within the last hour or day."""

    outcomes: Mapping[str, int]
    from_accepted: Lag | None
    """From ingest's answer to the commit; None without an applied event."""
    from_happened: Lag | None
    """From Clerk's clock to the commit."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Parked events of the same type, with the same class of reason."""

    reason_class: str
    event_type: str | None
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Objects applied within the last day without values that Postgres cannot store."""

    objects: int
    newest: str | None
    """The id of the object applied last."""


@dataclass(frozen=True, slots=True)
class NotPurged:
    """Deleted rows of a kind with personal data, because the app's constraints or triggers refuse the purge."""

    kind: str
    reason: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class UnfinishedDelete:
    """An object whose delete, with very many rows, is applied in parts."""

    kind: str
    id: str
    is_deleted: bool
    """False: the delete was undone, and rows are being shown again."""
    rows_left: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Unfed:
    """Rows of an app's table that follows the mirror and could not be written, with the same reason."""

    table: str
    code: str
    reason: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class WrongInstance:
    """Events of a Clerk instance that the database does not mirror: counted, and not applied."""

    instance_id: str
    """Empty for all instances beyond the first hundred."""
    events: int
    last_at: datetime
    is_recent: bool
    """True: the last event came within a day."""
    mirrored: str | None
    """The instance that the database mirrors."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The times until which the rows of a kind were compared with Clerk."""

    changed_until: datetime | None
    """All changes in Clerk before this time were compared."""
    compared_until: datetime | None
    """Every row was compared after this time, so older edits by hand were found, too. None: never all rows."""
    is_switched_off: bool
    """True: the instance has this kind switched off, by Clerk's answer."""
    age_seconds: float | None
    """Seconds since `compared_until`."""


@dataclass(frozen=True, slots=True)
class Database:
    """The state of the tables."""

    events: Mapping[State, int]
    """The number of all events ever parked, by their present state."""
    overdue: int
    """The number of events replayed hours ago, and neither applied nor parked again."""
    reasons: list[Reason]
    last_delivery: datetime | None
    recent: Mapping[str, Recent]
    """By "hour" and "day"."""
    left_out: LeftOut
    not_purged: list[NotPurged]
    unfinished: list[UnfinishedDelete]
    unfed: list[Unfed]
    wrong_instances: list[WrongInstance]
    compared: Mapping[str, Compared]
    """By kind, for the kinds in lists of Clerk's API."""
    differing_objects: int | None
    """Functions, tables and so on that are not as the migrations of this version make them; None: not compared."""


def read_database(url: str, *, compares_objects: bool = True) -> Database:
    """Reads the tables. Raises DatabaseFailed and SetUpWrong."""
    with open_database(url, LOOK) as connection:
        if why := why_of_another_major(database_version(connection)):
            raise DatabaseFailed(why)
        try:
            [(has_kinds,)] = connection.execute(_HAS_KINDS).fetchall()
            if not has_kinds:
                # Without these rows every event fails, and nothing would look stuck.
                raise DatabaseFailed(why_incomplete(connection, find_root()))
            return _read(connection, _differing_objects(connection) if compares_objects else None)
        except _NOT_MIGRATED as error:
            # `migrate` may be unable to go on, so its name alone would be no advice.
            raise DatabaseFailed(why_incomplete(connection, find_root())) from error


def _differing_objects(connection: Connection) -> int | None:
    try:
        return len(differing_objects(connection, find_root()))
    except MigrationFailed:
        # Without the list of this version's objects, the rest of the status is as good as ever.
        return None


def _read(connection: Connection, differing: int | None) -> Database:
    states = connection.execute(_STATES).fetchall()
    return Database(
        events={state: sum(number for name, number, _ in states if name == state) for state in STATES},
        overdue=sum(late for _, _, late in states),
        reasons=[Reason(*row) for row in connection.execute(_REASONS)],
        last_delivery=connection.execute(_LAST_DELIVERY).fetchall()[0][0],
        recent=_recent(connection),
        left_out=LeftOut(*connection.execute(_LEFT_OUT).fetchall()[0]),
        not_purged=read_not_purged(connection),
        unfinished=read_unfinished(connection),
        unfed=read_unfed(connection),
        wrong_instances=read_wrong_instances(connection),
        compared=read_compared(connection),
        differing_objects=differing,
    )


def read_not_purged(connection: Connection) -> list[NotPurged]:
    """Reads the number of rows whose purge failed, by kind and reason."""
    return [NotPurged(*row) for row in connection.execute(_NOT_PURGED)]


def read_unfinished(connection: Connection) -> list[UnfinishedDelete]:
    """Reads the deletes that are applied in parts, the oldest first, and counts the rows left of each."""
    return [UnfinishedDelete(*row) for row in connection.execute(_UNFINISHED)]


def read_unfed(connection: Connection) -> list[Unfed]:
    """Reads the number of unfed rows, by table and reason."""
    return [Unfed(*row) for row in connection.execute(_UNFED)]


def read_wrong_instances(connection: Connection) -> list[WrongInstance]:
    """Reads the number of events of other Clerk instances, the last first."""
    return [WrongInstance(*row) for row in connection.execute(_WRONG_INSTANCES)]


def read_compared(connection: Connection) -> dict[str, Compared]:
    """Reads the times until which each kind was compared."""
    return {kind: Compared(*row) for kind, *row in connection.execute(_COMPARED)}


def _recent(connection: Connection) -> dict[str, Recent]:
    outcomes: dict[str, dict[str, int]] = {span: {} for span in _SPANS}
    for span, outcome, number in connection.execute(_OUTCOMES):
        outcomes[span][outcome] = number
    lags = {span: (Lag(*accepted), Lag(*happened)) for span, accepted, happened in connection.execute(_LAGS)}
    return {span: Recent(outcomes[span], *lags.get(span, (None, None))) for span in _SPANS}
