"""The begin of the present outage of a database: a moment that stays, also from one command to the next."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from clerk_supabase.errors import SetUpWrong
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL, NOT_REACHED
from clerk_supabase_cli.operate.monitor.function_logs import Outage
from clerk_supabase_cli.operate.reachability import NO_ANSWER
from clerk_supabase_cli.printing import counted, in_utc
from clerk_supabase_cli.private_files import private_folder, write_privately
from clerk_supabase_cli.project import private_place

# After a longer time without a look, nobody knows whether the database answered meanwhile; as for the functions' logs.
_STREAK: Final = timedelta(minutes=15)

DELIVERS_AGAIN: Final = "SQS delivers again within minutes"
"""The end of an outage that only the functions have."""


@dataclass(slots=True)
class Outages:
    """The outages of one database, as this command and the commands before saw them.

    A failed look after a failed look continues an outage, with a pause of at most 15 minutes; a good look ends it.
    """

    file: Path | None = None
    """The memory of all commands; None: of this command only."""
    _present: Outage | None = field(default=None, init=False)
    _answered_at: datetime | None = field(default=None, init=False)

    @classmethod
    def of(cls, database_url: str | None) -> Outages:
        """The outages of a database, remembered in the private folder of this user if there is one."""
        if not database_url:
            return cls()
        try:
            given = parse(database_url, DATABASE_URL)
            address = hashlib.sha256(f"{given.host}:{given.port}/{given.database}".encode()).hexdigest()[:16]
            return cls(private_folder(private_place()) / f"outage-{address}.json")
        except (Failure, SetUpWrong):
            return cls()

    @property
    def is_known(self) -> bool:
        """True: a look of this command has found the present outage."""
        return self._present is not None

    def failed(self, asked_at: datetime, reason: str, of_functions: Outage | None = None) -> Outage:
        """The present outage, after a question without an answer.

        *of_functions*: the outage in the logs of the functions, which may have begun earlier.
        """
        before = self._present or self._remembered()
        since = before.since if before is not None and self._goes_on(before, asked_at) else asked_at
        if of_functions is not None and (self._answered_at is None or of_functions.since > self._answered_at):
            since = min(since, of_functions.since)
        self._present = Outage(since, max(asked_at, datetime.now(UTC)), reason.removeprefix(NOT_REACHED))
        self._remember(self._present)
        return self._present

    def answered(self, at: datetime) -> None:
        """Notes that the database has answered: its outage is over."""
        self._present, self._answered_at = None, at
        if self.file is not None:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)

    def _goes_on(self, before: Outage, asked_at: datetime) -> bool:
        """Tells whether an outage goes on: another command may have noted it while this command was answered."""
        is_over = self._answered_at is not None and before.since <= self._answered_at
        return not is_over and asked_at - before.until <= _STREAK

    def _remembered(self) -> Outage | None:
        if self.file is None:
            return None
        try:
            since, until, reason = json.loads(self.file.read_text(encoding="utf-8"))
            found = Outage(datetime.fromisoformat(since), datetime.fromisoformat(until), str(reason))
        except (OSError, ValueError, TypeError):
            return None
        is_sound = found.since.tzinfo is not None and found.until.tzinfo is not None
        return found if is_sound and found.since <= found.until <= datetime.now(UTC) else None

    def _remember(self, outage: Outage) -> None:
        if self.file is not None:
            content = [outage.since.isoformat(), outage.until.isoformat(), outage.reason]
            # Another command may write at the same moment, or the disk is full: then the memory is poorer, and no more.
            with suppress(OSError):
                write_privately(self.file, json.dumps(content))
                for file in self.file.parent.glob("outage-*.json"):
                    if file.stat().st_mtime < outage.until.timestamp() - _STREAK.total_seconds():
                        file.unlink()


def in_words(outage: Outage, waiting: int | None) -> str:
    """The sentence about an outage: since when, the number of events that wait, the reason and the advice."""
    return "; ".join([f"the {since_when(outage)}", *([] if waiting is None else [they_wait(waiting)]), outage.reason])


def since_when(outage: Outage) -> str:
    """The begin of an outage in words, without the article."""
    what = "has not answered" if outage.reason.startswith(NO_ANSWER) else "is unavailable"
    return f"database {what} since {in_utc(outage.since)} UTC"


def since_when_for_functions(outage: Outage) -> str:
    """Words for the begin of an outage that only the functions have."""
    return f"database is unavailable to the functions since {in_utc(outage.since)} UTC"


def they_wait(number: int) -> str:
    """The number of events that wait, as a sentence."""
    return f"{counted(number)} {'waits' if number == 1 else 'wait'}"
