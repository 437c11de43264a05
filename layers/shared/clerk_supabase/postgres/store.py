"""The statements that functions and commands execute in Supabase's Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, LiteralString, Protocol, cast, get_args

from clerk_supabase.errors import (
    ChangeRefused,
    DatabaseUnavailable,
    DeleteUnfinished,
    Retryable,
    RowUnavailable,
    ValueRefused,
)
from clerk_supabase.model.changes import Changes, Delete, Source
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase.postgres.batch import as_json, elements_of, origins_of, provenance, rows_of, with_page
from clerk_supabase.postgres.connection import Connection, KeptConnection, errors_translated, not_allowed
from clerk_supabase.postgres.parts import in_parts
from clerk_supabase.telemetry import count, logger
from clerk_supabase.version import MAJOR

if TYPE_CHECKING:
    from clerk_supabase.credentials import Credential
    from clerk_supabase.model.facts import Kind
    from clerk_supabase.tokens.claims import Claims

Outcome = Literal[
    "created",
    "updated",
    "unchanged",
    "stale",
    "deleted",
    "deleted_before",
    "duplicate",
    "wrong_instance",
    # Written, but a trigger of the app stores another value.
    "altered",
    # Never an answer of apply(): see _finished().
    "unfinished",
]

# For the deletes of a batch with very many rows, from the start of the batch to the start of the last part, which takes
# three seconds in most databases: SyncFunction has 30 s. The first of these deletes gets one part at any rate.
_SECONDS_FOR_PARTS: Final = 12.0

# The argument of each statement. A database of another major version raises OtherVersion, in the same round trip.
_ARGUMENT: Final = f"clerk_sync.for_major(%s::jsonb, {MAJOR})"
_APPLY: Final = f"select outcome from clerk_sync.apply({_ARGUMENT}) order by position"  # noqa: S608 - made of constants
# In one transaction; first what was left out, so that two workers with the same change wait for each other only there.
_APPLY_AND_RECORD: Final = _APPLY.replace(_ARGUMENT, f"clerk_sync.record_dropped({_ARGUMENT})")
# The same for changes of which an instance or a run is known: the database applies no change of another instance.
_APPLY_FROM: Final = _APPLY.replace(f"apply({_ARGUMENT}", f"apply_from({_ARGUMENT}, %s::jsonb")
_APPLY_FROM_AND_RECORD: Final = _APPLY_FROM.replace("%s::jsonb)", "%s::jsonb, true)")
_PARK: Final = f"select clerk_sync.park({_ARGUMENT})"
# By whether origins are known, and whether a change lost a part.
_QUERIES: Final[Mapping[tuple[bool, bool], LiteralString]] = MappingProxyType(
    {
        (False, False): _APPLY,
        (False, True): _APPLY_AND_RECORD,
        (True, False): _APPLY_FROM,
        (True, True): _APPLY_FROM_AND_RECORD,
    }
)
# The same, with deferred triggers of the app that raise their errors where apply() catches these, row by row.
_AT_ONCE: Final = f"clerk_sync.without_deferral({_ARGUMENT})"
_QUERIES_AT_ONCE: Final[Mapping[tuple[bool, bool], LiteralString]] = MappingProxyType(
    {key: query.replace(_ARGUMENT, _AT_ONCE) for key, query in _QUERIES.items()}
)
# What reconcile, housekeeping and canaries call; each takes one JSON value and returns one.
Function = Literal[
    "begin_run",
    "renew_lease",
    "plan_run",
    "windows_of_run",
    "cut_users",
    "count_rows",
    "rank_rows",
    "compare",
    "fill",
    "finish_window",
    "find_unseen",
    "items_without_subscription",
    "prepare_deletes",
    "next_slice",
    "visit_slice",
    "settle_sweeps",
    "expire_invitations",
    "delete_candidates",
    "weigh_deletes",
    "settle_findings",
    "check_rows",
    "retry_held_up",
    "retry_unfed",
    "compare_feed",
    "held_repairs",
    "emptied_columns",
    "altered_columns",
    "end_run",
    "list_runs",
    "show_run",
    "known_as",
    "look_at_objects",
    "check_objects",
    "memberships_of",
    "undo_run",
    "reset_runs",
    "keep_house",
    "record_canary",
    "continue_deletes",
    "list_unfinished",
]
_FUNCTIONS: Final[Mapping[Function, LiteralString]] = MappingProxyType(
    {name: f"select clerk_sync.{name}({_ARGUMENT})" for name in get_args(Function)}
)
_FUNCTIONS_AT_ONCE: Final[Mapping[Function, LiteralString]] = MappingProxyType(
    {name: _FUNCTIONS[name].replace(_ARGUMENT, _AT_ONCE) for name in ("continue_deletes", "undo_run")}
)
# Rows of one delete that fail one by one. With more of them, the app refuses every row.
_MOST_FAILED: Final = 1_000
# An empty batch: nothing is written, but the function, the right to call it and its tables must be there.
_CHECK: Final = f"select clerk_sync.takes_writes(), (select count(*) from clerk_sync.apply({_ARGUMENT}))"  # noqa: S608


class Queries(Protocol):
    """Queries that act as a user."""

    def rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of one statement; an empty list if the statement returns no rows.

        Raises NotAllowed for a statement that the policies or a missing right forbid, Retryable, and ChangeRefused for
        all other errors of Postgres. After any error, the transaction is over and rolled back.
        """
        ...


class Store:
    """Applies changes to Postgres over a single connection, kept while the function's environment lives."""

    def __init__(
        self,
        url: Credential,
        ca_file: str = "",
        patience_seconds: float | None = None,
        *,
        lock_seconds: float | None = None,
    ) -> None:
        """`url`: see connection_string; TLS with `verify-full` unless the string names another `sslmode`.

        `ca_file`: path of the certificate authority's PEM file. `patience_seconds`: the longest wait for an answer;
        None: as long as the server takes. A limit of the server ends no wait for an unavailable server. `lock_seconds`:
        the longest wait for a lock, for a role without a limit of its own; each call then is a transaction of a few
        statements, because a pooler may give the session to another client.
        """
        self._another = partial(Store, url, ca_file, patience_seconds, lock_seconds=lock_seconds)
        self._kept = KeptConnection(url, ca_file, patience_seconds, lock_seconds)
        self._acts_as_user = False

    def twin(self) -> Store:
        """Another store of the same database, with a connection of its own: for another thread."""
        return self._another()

    def call(
        self,
        function: Function,
        argument: Mapping[str, object],
        page: Sequence[str] = (),
        arrays: Mapping[Kind, Sequence[str]] = MappingProxyType({}),
    ) -> Any:
        """The JSON answer of a function of clerk_sync. `page`, `arrays`: as with_page() adds them to the argument.

        Raises Retryable and ChangeRefused.
        """
        text = with_page(as_json(argument), page, arrays) if page or arrays else as_json(argument)
        try:
            with errors_translated():
                [(answer,)] = self._execute((text,), _FUNCTIONS[function])
        except ChangeRefused:
            # See _apply_together().
            if function not in _FUNCTIONS_AT_ONCE:
                raise
            with errors_translated():
                [(answer,)] = self._execute((text,), _FUNCTIONS_AT_ONCE[function])
        return answer

    def apply(self, batch: Sequence[tuple[Changes, Source]]) -> list[Outcome | ChangeRefused | Retryable]:
        """Applies the changes in one transaction and one round trip; returns an answer for each, in their order.

        The answer is the error for a change that Postgres refuses, or cannot apply now because of its row; all other
        changes are applied: see in_parts(). If Postgres refuses a value, the store empties fields that clients write
        where this helps, so no such field can stop the rest of an object. Raises Retryable when the database is
        unavailable and nothing could be applied. A second call with the same changes is harmless. A delete with very
        many rows is applied in parts; the answer is DeleteUnfinished if there was no time for all of them.
        """
        if not batch:
            return []
        deadline = time.monotonic() + _SECONDS_FOR_PARTS
        answers = in_parts(batch, self._apply_together)
        unfinished = [place for place, answer in enumerate(answers) if answer == "unfinished"]
        for place in unfinished:
            is_over = place != unfinished[0] and time.monotonic() > deadline
            answers[place] = DeleteUnfinished() if is_over else self._finished(*batch[place], deadline)
        return answers

    def finish_delete(self, kind: Kind, object_id: str, is_in_time: Callable[[], bool]) -> bool:
        """Hides the rest of the rows of a delete that was applied in part, or shows the rest again; False: no time.

        A row that the app refuses, or that a lock holds up, holds up no other row. After all other rows, the method
        raises ChangeRefused, or RowUnavailable for locks alone, with the name of the first such row. Raises Retryable.
        """
        failed: dict[str, tuple[str, str, bool]] = {}
        while True:
            answer = self.call("continue_deletes", {"kind": kind, "id": object_id, "without": [*failed]})
            failed |= {row_id: (of_kind, why, passes) for of_kind, row_id, why, passes in answer["refused"]}
            if not answer["is_left"] or len(failed) > _MOST_FAILED:
                break
            if not is_in_time():
                return False
        if not failed:
            return True
        refused = {row_id: each for row_id, each in failed.items() if not each[2]}
        row_id, (of_kind, why, _) = next(iter((refused or failed).items()))
        error = ChangeRefused if refused else RowUnavailable
        raise error(
            f"rows of the deleted {kind} that were not written: {len(failed):,}; the first is {of_kind} {row_id}: {why}"
        )

    def park(self, events: Sequence[ParkedEvent]) -> list[ChangeRefused | Retryable | None]:
        """Writes events to clerk_sync.parked_events; returns an answer for each: None, or the error for its row.

        A second call with the same events is harmless. Raises Retryable when the database is unavailable.
        """
        return in_parts(events, self._park_together) if events else []

    def check(self) -> None:
        """Raises Retryable unless the database is available, takes writes and has the function that applies changes."""
        with errors_translated():
            [(takes_writes, _)] = self._execute(("[]",), _CHECK)
        if not takes_writes:
            raise DatabaseUnavailable("the database is read-only")

    @contextmanager
    def as_user(self, claims: Claims) -> Iterator[Queries]:
        """Runs queries in one transaction as the user with these claims, under the same policies as the user's browser.

        Queries name the mirror's tables without a schema.

        The claims must have been verified. The login role must be a member of `authenticated`; the role of sync is not.
        The transaction is committed at the end of the block, and rolled back when the block raises. Inside the block,
        the store refuses all other calls: as another user, apply() and the rest. Raises the errors of Queries.rows().
        """
        with errors_translated():
            self._refuse_to_mix()
            connection = self._kept.begin_as(claims.payload)
        self._acts_as_user = True
        try:
            yield _QueriesOfUser(connection)
            connection.require_transaction()
            with errors_translated(not_allowed):
                connection.execute("commit")
        finally:
            self._acts_as_user = False
            connection.end_transaction()

    def close(self) -> None:
        """Closes the connection; the next call opens a new connection."""
        self._kept.close()

    def _apply_together(self, batch: Sequence[tuple[Changes, Source]], seconds: float | None = None) -> list[Outcome]:
        """Apply all changes or no change within a number of seconds. A single change may be applied in part.

        See _apply_with_less().
        """
        try:
            return self._apply_as_it_is(batch, seconds)
        except ChangeRefused as error:
            if len(batch) == 1 and isinstance(batch[0][0].main, Delete):
                # Perhaps by a deferred trigger, whose error of one row undoes the work with all rows.
                return self._apply_as_it_is(batch, seconds, at_once=True)
            if not isinstance(error, ValueRefused):
                raise
            less = self._apply_with_less(*batch[0], seconds) if len(batch) == 1 else None
            if less is None:
                raise
            return [less]

    def _finished(self, changes: Changes, source: Source, deadline: float) -> Outcome | ChangeRefused | Retryable:
        """Hide the rest of the rows of a delete, part by part; return the answer for the delete.

        The second apply() records the delivery, which is not recorded while rows are left.
        """
        try:
            if not self.finish_delete(changes.main.kind, changes.main.id, lambda: time.monotonic() <= deadline):
                return DeleteUnfinished()
            [outcome] = self._apply_as_it_is([(changes, source)], None)
        except (ChangeRefused, Retryable) as error:
            return error
        return DeleteUnfinished() if outcome == "unfinished" else outcome

    def _apply_as_it_is(
        self, batch: Sequence[tuple[Changes, Source]], seconds: float | None, *, at_once: bool = False
    ) -> list[Outcome]:
        elements, places = elements_of(batch)
        origins = origins_of(zip((source for _, source in batch), places, strict=True))
        arguments = (as_json(elements), as_json(origins)) if origins else (as_json(elements),)
        queries = _QUERIES_AT_ONCE if at_once else _QUERIES
        query = queries[bool(origins), any(changes.dropped for changes, _ in batch)]
        with errors_translated():
            # A worker that recorded one of these deliveries at the same moment violates the constraint; the second
            # time the delivery is there to be seen.
            rows = self._execute(arguments, query, seconds, again_after="deliveries_pkey")
        outcomes = [cast("Outcome", rows[of_change.start][0]) for of_change in places]
        for (changes, source), outcome in zip(batch, outcomes, strict=True):
            if changes.dropped and outcome != "duplicate":
                _tell_dropped(changes, source)
        return outcomes

    def _apply_with_less(self, changes: Changes, source: Source, seconds: float | None) -> Outcome | None:
        """Apply a change without the value refused by Postgres, if clients write the field; None: not applied."""
        from clerk_supabase.model.storable import with_less  # noqa: PLC0415 - most environments never need it

        for less in with_less(changes):
            with suppress(ChangeRefused):
                [outcome] = self._apply_as_it_is([(less, source)], seconds)
                return outcome
        return None

    def _park_together(self, events: Sequence[ParkedEvent], seconds: float | None) -> list[None]:
        with errors_translated():
            self._execute((rows_of(events),), _PARK, seconds)
        return [None] * len(events)

    def _execute(
        self,
        arguments: Sequence[str],
        query: LiteralString,
        seconds: float | None = None,
        *,
        again_after: str | None = None,
    ) -> list[tuple[Any, ...]]:
        self._refuse_to_mix()
        return self._kept.execute(query, arguments, seconds, again_after=again_after)

    def _refuse_to_mix(self) -> None:
        # Settings of an inner transaction would last until the end of the outer one, and changes be the user's.
        if self._acts_as_user:
            raise RuntimeError("this store acts as a user until the block of as_user() ends; take its twin()")


class _QueriesOfUser:
    """Queries on a connection whose transaction acts as a user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """See Queries."""
        self._connection.require_transaction()
        with errors_translated(not_allowed):
            # Binary results travel by the protocol that takes one statement only.
            cursor = self._connection.execute(query, parameters or None, binary=True)
            return [] if cursor.description is None else cursor.fetchall()


def _tell_dropped(changes: Changes, source: Source) -> None:
    """Count and log the fields of an object that lost a part: the names of the fields, never a value."""
    count("FieldsDropped", len(changes.dropped))
    where = provenance(source)
    logger.warning(
        "fields left out",
        fields=changes.dropped,
        object_id=changes.main.id,
        svix_id=where.get("svix_id"),
        cause=where["cause"],
    )
