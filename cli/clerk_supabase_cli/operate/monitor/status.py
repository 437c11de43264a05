"""`clerk-supabase status`: the flow of events through the queues and tables, and everything that is stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, LiteralString

import psycopg

from clerk_supabase.errors import SetUpWrong
from clerk_supabase_cli.event_types import in_words as kind_in_words
from clerk_supabase_cli.operate.database import LOOK, Connection, DatabaseFailed, DatabaseUnreachable, open_database
from clerk_supabase_cli.operate.install.migrations import MigrationFailed, differing_objects, why_incomplete
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs, Outage
from clerk_supabase_cli.operate.monitor.outages import Outages, in_words, they_wait
from clerk_supabase_cli.operate.parked import EVENTS, STATES, State
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, AwsUnreachable, Depth, Name, Queues
from clerk_supabase_cli.operate.versions import database_version, why_of_another_major
from clerk_supabase_cli.printing import counted, how_long, in_utc
from clerk_supabase_cli.project import find_root

# The limit of SyncBacklogAlarm in template.yaml.
OLDEST_SECONDS: Final = 600.0
# Longer than the time of most events through all attempts of sync and retry.
_REPLAY_TAKES: Final = "3 hours"

_STATES: Final[LiteralString] = f"""
    select
        state, count(*),
        count(*) filter (where state = 'replayed' and replayed_at < now() - interval '{_REPLAY_TAKES}')
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


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the database and the queues, and its problems."""

    database: Database | None
    queues: Mapping[Name, Depth] | None
    not_looked_at: Mapping[str, str]
    """The reason, for "database" or "queues" without a name."""
    failed: Mapping[str, str]
    """The reason, for "database" or "queues" with a name and an error."""
    is_unreachable: bool = False
    """True: the database does not let any connection from here in, whatever the connection string."""
    outage: Outage | None = None
    """The present outage: of this command, or by the logs of sync and retry of a named stack."""

    @property
    def waiting(self) -> int | None:
        """The number of events in all queues; None if unknown."""
        return None if self.queues is None else sum(depth.total for depth in self.queues.values())

    @property
    def problems(self) -> list[str]:
        """Problems for a person to look at, each in a sentence; empty without problems."""
        is_told = self.is_unreachable and self.outage is not None
        return [
            *outage_problems(self),
            *(f"{what}: {why}" for what, why in self.failed.items() if what != "database" or not is_told),
            *(database_problems(self.database) if self.database else ()),
            *(purge_problems(self.database.not_purged) if self.database else ()),
            *(unfinished_problems(self.database.unfinished) if self.database else ()),
            *(unfed_problems(self.database.unfed) if self.database else ()),
            *(instance_problems(self.database.wrong_instances) if self.database else ()),
            *(queue_problems(self.queues) if self.queues else ()),
        ]

    def as_json(self) -> dict[str, object]:
        """The state as JSON for machines, with names that stay the same."""
        problems = self.problems
        return {
            "healthy": not problems,
            "problems": problems,
            "queues": self.queues,
            "database": self.database,
            "not_looked_at": {**self.not_looked_at, **self.failed},
            "outage": self.outage,
        }


def look(
    database_url: str | None,
    queues: Callable[[], Queues | None],
    logs: FunctionLogs | None = None,
    outages: Outages | None = None,
    *,
    compares_objects: bool = True,
) -> Status:
    """Reads the named parts; an error of the database does not hide the queues, nor the other way round.

    *logs*: the logs of the stack, which say since when the functions cannot use the database. *outages*: those of this
    database, remembered from earlier looks. *compares_objects*: also compare the objects of the database with the
    migrations, which takes longer than the rest.
    """
    outages = outages or Outages()
    asked_at = datetime.now(UTC)
    not_looked_at: dict[str, str] = {}
    failed: dict[str, str] = {}
    database, depths, outage = None, None, None
    is_unreachable = False
    if database_url:
        try:
            database = read_database(database_url, compares_objects=compares_objects)
        except (DatabaseFailed, SetUpWrong) as error:
            failed["database"] = str(error)
            is_unreachable = isinstance(error, DatabaseUnreachable) and error.is_outage
        if not is_unreachable:
            outages.answered(datetime.now(UTC))
    else:
        not_looked_at["database"] = "name it by --database-url or DATABASE_URL"
    try:
        named = queues()
        if named is None:
            not_looked_at["queues"] = f"name them by {HOW_TO_NAME_QUEUES}"
        else:
            depths = named.depths()
    except AwsUnreachable as error:
        failed["queues"] = str(error)
    asks_logs = not outages.is_known if is_unreachable else any(depth.total for depth in (depths or {}).values())
    if logs is not None and depths is not None and asks_logs:
        try:
            outage = logs.outage(database.last_delivery if database else None)
        except AwsUnreachable as error:
            not_looked_at["logs of the functions"] = str(error)
    if is_unreachable:
        outage = outages.failed(asked_at, failed["database"], outage)
    return Status(database, depths, not_looked_at, failed, is_unreachable=is_unreachable, outage=outage)


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


def outage_problems(status: Status) -> Iterator[str]:
    """A sentence about a database that is unavailable: to this command, or to the functions while events wait."""
    if status.outage is None:
        return
    if status.is_unreachable:
        yield in_words(status.outage, status.waiting)
    elif status.waiting:
        since, number = in_utc(status.outage.since), they_wait(status.waiting)
        reason = f"{status.outage.reason}; SQS delivers again within minutes"
        yield f"the database is unavailable to the functions since {since} UTC; {number}; {reason}"


def database_problems(database: Database) -> Iterator[str]:
    """Problems in the tables, each in a sentence."""
    if waiting := database.events["parked"]:
        yield f"{counted(waiting)} parked; see: clerk-supabase parked list"
    if database.overdue:
        yield (
            f"{counted(database.overdue)} replayed more than {_REPLAY_TAKES} ago and not back; "
            "see: clerk-supabase parked list --state replayed"
        )


def purge_problems(not_purged: Sequence[NotPurged]) -> Iterator[str]:
    """A sentence for each kind and reason of failed purges."""
    for each in not_purged:
        yield (
            f"{counted(each.count, f'deleted {kind_in_words(each.kind)} row')} could not be purged "
            f"since {in_utc(each.since)} UTC: {each.reason}; see clerk_sync.not_purged"
        )


def unfinished_problems(unfinished: Sequence[UnfinishedDelete]) -> Iterator[str]:
    """A sentence for each delete that is applied in parts."""
    for each in unfinished:
        what = "the delete" if each.is_deleted else "the undo of the delete"
        yield (
            f"{what} of {each.id} ({kind_in_words(each.kind)}) is being applied since {in_utc(each.since)} UTC: "
            f"{counted(each.rows_left, 'row')} left"
        )


def unfed_problems(unfed: Sequence[Unfed]) -> Iterator[str]:
    """A sentence for each table and reason of unfed rows."""
    for each in unfed:
        yield (
            f"{counted(each.count, 'row')} of {each.table} "
            f"{'is' if each.count == 1 else 'are'} not written since {in_utc(each.since)} UTC: {each.reason}; "
            "to try again and list them: clerk-supabase adopt switch --retry"
        )


def instance_problems(found: Sequence[WrongInstance]) -> Iterator[str]:
    """A sentence for each other Clerk instance whose last event came within a day."""
    for each in found:
        if each.is_recent:
            yield (
                f"{counted(each.events)} of the Clerk instance {each.instance_id or '(many others)'} not applied, the "
                f"last at {in_utc(each.last_at)} UTC: the database mirrors {each.mirrored or 'no instance'}; "
                "see docs/runbook.md#wronginstancealarm"
            )


def queue_problems(queues: Mapping[Name, Depth]) -> Iterator[str]:
    """Problems in the queues, each in a sentence."""
    if (dead := queues.get("dead_letters")) and dead.total:
        yield f"{counted(dead.total)} in the dead-letter queue, failed five times"
    if (overflow := queues.get("parked")) and overflow.total:
        yield f"{counted(overflow.total)} in the parked queue, waiting for the database"
    sync = queues.get("sync")
    if sync and sync.oldest_seconds is not None and sync.oldest_seconds > OLDEST_SECONDS:
        yield f"the oldest event on the sync queue has waited {how_long(sync.oldest_seconds)}"
