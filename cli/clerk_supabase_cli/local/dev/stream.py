"""The work of the deployed functions, as lines for a terminal."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from rich.text import Text

from clerk_supabase_cli.local.dev.reload import INDENT
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.operate.database import DatabaseFailed, Patience, connect
from clerk_supabase_cli.printing import how_long, printable
from clerk_supabase_cli.terminal import ASIDE, BAD, DOUBTFUL, GOOD, Terminal

# Lambda's own lines around every invocation, and the metrics.
_NOISE: Final = ("START RequestId:", "END RequestId:", "REPORT RequestId:", "INIT_START", '{"_aws":')
# The fields of a record with a fixed place on the line, or without a place.
_PLACED: Final = frozenset(
    {"level", "location", "message", "timestamp", "service", "xray_trace_id", "svix_id", "event_type", "object_id"}
    | {"exception", "exception_name", "stack_trace", "function_name", "function_arn", "function_request_id"}
    | {"function_memory_size", "cold_start", "sampling_rate", "version"}
)
_STYLES: Final = {"DEBUG": ASIDE, "INFO": GOOD, "WARNING": DOUBTFUL, "ERROR": BAD, "CRITICAL": BAD}
# The words that say the same as the colours.
_WORDS: Final = {"WARNING": "warn: ", "ERROR": "error: ", "CRITICAL": "error: "}
# CloudWatch orders by milliseconds; a record written a moment later may carry an earlier time.
_OVERLAP_MS: Final = 10_000
# The lines of the stream do not wait for a database that hangs.
_PATIENCE: Final = Patience(connect=2, silence=1.0, proof=2)

# By the key of deliveries, then by the index of the audit log on the entity.
_WHAT_CHANGED: Final = """
select d.svix_id, extract(epoch from d.applied_at - d.occurred_at)::float8, array(
    select distinct c from clerk_sync.audit_log as a cross join unnest(a.changed_columns) as c
    where a.entity_id = d.entity_id and a.svix_id = d.svix_id and a.operation = 'update' order by 1
)
from clerk_sync.deliveries as d where d.svix_id = any(%s)
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """The record of a delivery in Postgres: of its first arrival, and not of a duplicate."""

    lag_seconds: float
    """Seconds from the change, by Clerk's clock, to the commit."""
    columns: tuple[str, ...]
    """The changed columns of a row that existed before."""


class Stream:
    """Prints the log of a stack's functions since the last look."""

    def __init__(self, stack: LocalStack, database_url: str, console: Terminal, names: Mapping[str, str]) -> None:
        """*database_url*: the owner's; *names*: physical names of the functions, each with its short name on a line."""
        self._logs = stack.ministack.client("logs")
        self._database_url = database_url
        self._console = console
        self._names = names
        self._seen: dict[str, dict[str, int]] = {name: {} for name in names}
        self._began = time.time_ns() // 1_000_000 - _OVERLAP_MS
        self._why_no_details = ""

    def show_what_is_new(self) -> None:
        """Prints a line for each new record; nothing if the emulator does not answer."""
        try:
            new = [(function, message) for function in self._names for message in self._unseen(function)]
        except (BotoCoreError, ClientError):
            return
        applied = self._applied([message for _, message in new])
        for function, message in new:
            for line in stream_lines(self._names[function], message, applied):
                self._console.say(line, indent=INDENT)

    def _unseen(self, function: str) -> Iterator[str]:
        seen = self._seen[function]
        since = max(seen.values(), default=self._began) - _OVERLAP_MS
        try:
            answer = self._logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", startTime=since)
        except self._logs.exceptions.ResourceNotFoundException:
            return
        twins: Counter[str] = Counter()
        for event in answer["events"]:
            # MiniStack's records have no id. A stream there is a single invocation, written at once.
            place = f"{event['logStreamName']} {event['timestamp']}"
            key = f"{place} {twins[place]}"
            twins[place] += 1
            if key not in seen:
                seen[key] = event["timestamp"]
                if not event["message"].startswith(_NOISE):
                    yield event["message"].rstrip()
        for key in [key for key, at in seen.items() if at < since]:
            del seen[key]

    def _applied(self, messages: Iterable[str]) -> dict[str, Applied]:
        records = [record for message in messages if (record := _record(message))]
        ids = sorted({record["svix_id"] for record in records if record.get("event_type") and "svix_id" in record})
        if not ids:
            return {}
        try:
            with connect(self._database_url, _PATIENCE) as database:
                rows = database.execute(_WHAT_CHANGED, [ids]).fetchall()
        except (DatabaseFailed, psycopg.Error) as error:
            self._say_once(" ".join(str(error).split()))
            return {}
        self._why_no_details = ""
        return {svix_id: Applied(lag, tuple(columns)) for svix_id, lag, columns in rows}

    def _say_once(self, reason: str) -> None:
        if reason != self._why_no_details:
            self._why_no_details = reason
            self._console.say(f"warn: lag and changed columns are not shown, because {reason}", DOUBTFUL)


def _record(message: str) -> dict[str, Any] | None:
    """The fields of a record of the functions' logger; None for other output."""
    try:
        record = json.loads(message)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "message" in record else None


def stream_lines(function: str, message: str, applied: Mapping[str, Applied]) -> Iterator[Text]:
    """Yields the lines for a message of a function's log. *applied*: by svix id."""
    record = _record(message)
    if record is None:
        for each in message.splitlines():
            yield Text(f"{_clock():<10}{function:<11}{printable(each)}", BAD if "Error" in each else ASIDE)
        return
    yield _line(function, record, applied)
    for each in str(record.get("exception", "")).splitlines():
        yield Text(f"{'':<{INDENT}}{printable(each)}", BAD)


def _line(function: str, record: Mapping[str, Any], applied: Mapping[str, Applied]) -> Text:
    """`04:21:21  sync       updated  user.updated user_1  0.4 s after it happened  first_name, username  msg_...`."""
    level = str(record.get("level"))
    said = _WORDS.get(level, "") + printable(str(record["message"]))
    line = Text(f"{_clock(record.get('timestamp')):<10}{function:<11}")
    line.append(f"{said:<10}", _STYLES.get(level, ""))
    subject = " ".join(str(record[name]) for name in ("event_type", "object_id") if record.get(name))
    details = [printable(subject)] if subject else []
    svix_id = str(record.get("svix_id", ""))
    # A duplicate, or an attempt that failed, has neither changed the columns nor taken this time.
    is_result = function == "sync" and level == "INFO" and said != "duplicate"
    if is_result and (known := applied.get(svix_id)):
        details.append(f"{how_long(known.lag_seconds)} after it happened")
        details.append(", ".join(known.columns))
    details += [printable(f"{name}: {_in_words(value)}") for name, value in record.items() if name not in _PLACED]
    line.append("".join(f"  {each}" for each in details if each))
    return line.append(f"  {printable(svix_id)}" if svix_id else "", ASIDE)


def _in_words(value: object) -> str:
    """The value of a field; of a list, its elements."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _clock(logged: object = None) -> str:
    """The local time of day, of a record or now."""
    try:
        moment = datetime.strptime(str(logged), "%Y-%m-%d %H:%M:%S,%f%z")
    except ValueError:
        moment = datetime.now().astimezone()
    return f"{moment.astimezone():%H:%M:%S}"
