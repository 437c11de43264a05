"""`clerk-supabase status`: the flow of events through the queues and tables, and everything that is stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from clerk_supabase.errors import SetUpWrong
from clerk_supabase_cli.operate.database import DatabaseFailed, DatabaseUnreachable
from clerk_supabase_cli.operate.monitor.database_state import Database, read_database
from clerk_supabase_cli.operate.monitor.function_logs import FunctionLogs, Outage
from clerk_supabase_cli.operate.monitor.outages import (
    DELIVERS_AGAIN,
    Outages,
    in_words,
    since_when_for_functions,
    they_wait,
)
from clerk_supabase_cli.operate.monitor.problems import (
    database_problems,
    instance_problems,
    purge_problems,
    queue_problems,
    unfed_problems,
    unfinished_problems,
)
from clerk_supabase_cli.operate.queues import HOW_TO_NAME_QUEUES, AwsUnreachable, Depth, Name, Queues


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


def outage_problems(status: Status) -> Iterator[str]:
    """A sentence about a database that is unavailable: to this command, or to the functions while events wait."""
    if status.outage is None:
        return
    if status.is_unreachable:
        yield in_words(status.outage, status.waiting)
    elif status.waiting:
        reason = f"{status.outage.reason}; {DELIVERS_AGAIN}"
        yield f"the {since_when_for_functions(status.outage)}; {they_wait(status.waiting)}; {reason}"
