"""Compares Clerk with the tables, repairs differences, and deletes nothing without proof.

A run is a row with windows: after a process was cut off, the next process continues at the same place.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.clerk.walk import Window
from clerk_supabase.errors import (
    ClerkKeyRejected,
    ClerkRejected,
    ClerkSupabaseError,
    DomainsUnavailable,
    OrganizationsUnavailable,
    OutOfTime,
    Permanent,
    RowUnavailable,
    TooLongToWait,
    WrongInstance,
)
from clerk_supabase.model.facts import Kind, ListKind, ReadKind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES, KINDS, LIST_KINDS, READ_KINDS
from clerk_supabase.reconcile.corrections.deletes import Deletes, delete_gone
from clerk_supabase.reconcile.corrections.emptied import repair_held
from clerk_supabase.reconcile.corrections.feeds import compare_feeds, retry_unfed
from clerk_supabase.reconcile.corrections.held_up import StillWrong, retry_held_up
from clerk_supabase.reconcile.drift import Tally, doubts_about_end
from clerk_supabase.reconcile.lists import LISTS, compare_list, find_extra, note_switched_off, note_visit, plan_lists
from clerk_supabase.reconcile.pages import Progress, ReconcileSettings, Work
from clerk_supabase.reconcile.records import PlannedWindow, State
from clerk_supabase.reconcile.repairs import ClockMs, Repairs
from clerk_supabase.reconcile.report import Report, report_of, report_of_resync, tell, tell_ages
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.resync import Resync
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.reconcile.slices import ListDoubts, compare_quickly
from clerk_supabase.reconcile.users import (
    compare_changes,
    compare_windows,
    doubts_about_all,
    doubts_about_windows,
    plan_all,
    plan_where_counts_differ,
    silence,
)
from clerk_supabase.telemetry import count, logger

_SWITCHED_OFF = "organizations are switched off in Clerk: organizations and their objects were not compared"
# A check of so many rows takes a tenth of a second.
_ROWS_AT_ONCE = 5_000
# Of each kind: half a second of a quick run, for any number of rows.
_ROWS_OF_QUICK_RUN = 50_000
_PORTIONS = 16
_OF_ORGANIZATIONS: Final = tuple(
    kind for kind in LIST_KINDS if kind == "organization" or "organization" in FACTS[kind].parents.values()
)
_DOMAINS_SWITCHED_OFF = "verified domains are switched off in Clerk: domains were not compared"


class Reconcile:
    """One run at a time; two processes exclude each other."""

    def __init__(
        self,
        clerk_http: ClerkHttp,
        runs: Runs,
        repairs: Repairs,
        settings: ReconcileSettings,
        *,
        clock_ms: ClockMs = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock_ms`: our own clock, never for ordering; `monotonic`: the clock of deadlines."""
        self._http = clerk_http
        self._runs = runs
        self._repairs = repairs
        self._settings = settings
        self._clock_ms = clock_ms
        self._monotonic = monotonic

    def run(self, request: Request, deadline: float, progress: Callable[[Progress], None] = lambda _: None) -> Report:
        """Begins a run, or continues a run that was cut off, until its end or the deadline, by the monotonic clock.

        Raises Retryable while Clerk, Postgres or SQS is unavailable: the next call continues the run. Raises
        WrongInstance and ClerkRejected before a run has begun.
        """
        calls_before = self._http.calls
        clerk = Clerk(self._http, deadline)
        instance = clerk.instance()
        self._check_instance(instance.value.id)
        begun = self._runs.begin(
            request,
            instance.value.id,
            instance.observed_at,
            self._settings.lease_seconds,
            self._settings.delete_margin_ms,
        )
        if begun.is_busy:
            other = f"run {begun.run.run_id} is at work"
            logger.warning("no run was begun", reason=other)
            return report_of(begun.run, state="busy", reason=other, calls=self._http.calls - calls_before)
        work = Work(begun, clerk, self._runs, self._repairs, self._settings, self._clock_ms, progress)
        work.expected.update(begun.run.expected)
        work.seconds_left = lambda: deadline - self._monotonic()
        silent = _Silence()
        compared_until: Mapping[ReadKind, int] = {}
        state: State
        reason: str | None
        try:
            with self._lease(work):
                if not begun.run.is_dry_run:
                    retry_unfed(self._runs)
                ended = self._full(work) if begun.run.mode == "full" else self._quick(work, silent)
                state, reason = ended.state, ended.reason
                compared_until = self._settle(work, ended.doubtful)
                if begun.run.mode == "full":
                    compare_feeds(work)
        except OutOfTime as error:
            state, reason = "running", str(error)
        except TooLongToWait as error:
            state, reason = "incomplete", f"{error}: the rest was not compared"
        except Permanent as error:
            state, reason = "failed", str(error)
        except ClerkSupabaseError as error:
            self._end(work, "running", str(error), calls_before, silent)
            raise
        except KeyboardInterrupt:
            self._end(work, "running", "it was interrupted", calls_before, silent)
            raise
        return self._end(work, state, reason, calls_before, silent, compared_until=compared_until)

    def resync(self, object_id: str, deadline: float, *, force: bool = False) -> Report:
        """Makes the rows of a user or organization and of its memberships equal to the present state in Clerk.

        `force`: applies Clerk's answer even if its version is older than the row's. Raises GoneFromClerk for an id
        unknown to Clerk and to the tables, and the errors of `run`.
        """
        calls_before = self._http.calls
        clerk = Clerk(self._http, deadline)
        mirrored, known_as = self._runs.known_as(object_id)
        if mirrored is not None:
            clerk.check_instance(mirrored)
        resync = Resync(self._runs, self._repairs, self._settings, self._clock_ms, object_id, force=force)
        outcome = resync.run(clerk, known_as)
        return report_of_resync(outcome, calls=self._http.calls - calls_before)

    def _check_instance(self, found: str) -> None:
        wanted = self._settings.instance_id
        if wanted and found != wanted:
            raise WrongInstance(
                f"the secret key belongs to {found}, the parameter ClerkInstanceId names {wanted}: "
                "put the secret key of that instance into the secret, or correct the parameter"
            )

    # The two modes

    def _full(self, work: Work) -> _Ended:
        self._check_rows(work)
        windows = self._runs.windows(work.run_id)
        if not windows:
            planned = [*plan_all(work), *plan_lists(is_quick=False)]
            self._runs.plan(work.run_id, work.begun.lease, planned, work.expected)
            windows = self._runs.windows(work.run_id)
        compare_windows(work, [window for window in windows if window.kind == "user"])
        doubts, switched_off = self._compare_lists(work)
        users = [window for window in self._runs.windows(work.run_id) if window.kind == "user"]
        doubts["user"] = doubts_about_all(work, users)
        if doubts["user"] is None:
            self._runs.find_unseen(work.run_id, "user")
            note_visit(work, "user", Window())
        return self._conclude(work, doubts, switched_off=switched_off)

    def _check_rows(self, work: Work, most: float = math.inf) -> None:
        """Correct rows that contradict other tables here, after a check of at most `most` rows of each kind.

        The first step of a run: a deleted row that was made visible by hand is no candidate for a delete.
        """
        for kind in KINDS:
            self._check_rows_of(work, kind, most)

    def _check_rows_of(self, work: Work, kind: Kind, most: float) -> None:
        """See _check_rows. Smaller and smaller portions find a row that takes too long; the row stays unchanged."""
        at_once = _ROWS_AT_ONCE
        only_look = is_done = False
        looked_at = 0
        while not is_done and looked_at < most:
            work.check()
            if self._monotonic() >= work.clerk.deadline:
                raise OutOfTime("the time for this work was up before every row was checked")
            try:
                is_done, _ = self._runs.check_rows(work.run_id, work.begun.lease, kind, at_once, only_look=only_look)
            except RowUnavailable as error:
                if only_look:
                    raise
                logger.warning("rows were not corrected", kind=kind, rows=at_once, reason=str(error))
                only_look = at_once == 1
                at_once = max(1, at_once // _PORTIONS)
            else:
                looked_at += at_once
                only_look = False
                at_once = min(_ROWS_AT_ONCE, at_once * _PORTIONS)

    def _quick(self, work: Work, silent: _Silence) -> _Ended:
        watermark = work.begun.watermark
        assert watermark is not None  # noqa: S101 - without one begin_run makes it a full run
        self._check_rows(work, _ROWS_OF_QUICK_RUN)
        planned = [(0, "user", None, None), *plan_lists(is_quick=True)]
        self._runs.plan(work.run_id, work.begun.lease, planned, {})
        changed = compare_changes(work, watermark)
        silent.newest_change = changed.newest
        silent.is_silent = silence(work, silent.newest_change)
        planned, counted = plan_where_counts_differ(work, changed.missing_created)
        self._runs.plan(work.run_id, work.begun.lease, planned, work.expected)
        windows = self._runs.windows(work.run_id)
        compare_windows(work, [window for window in windows if window.number in counted])
        doubts, more, switched_off = self._compare_lists_quickly(work, watermark)
        doubts["user"] = doubts_about_windows(self._runs.windows(work.run_id), counted)
        of_users = filter(None, [changed.doubts, doubts_about_end(changed.listed, work.expected["user"])])
        return self._conclude(work, doubts, [*of_users, *more.more], more.notes, switched_off=switched_off)

    def _compare_lists(self, work: Work) -> tuple[dict[ReadKind, str | None], Sequence[str]]:
        """Return, by kind, the reason why a list may be incomplete, if any; and a sentence about lists switched off."""
        doubts: dict[ReadKind, str | None] = {}

        def compare(kind: ListKind) -> None:
            # Read each time: the window has the counts of its pages.
            if not self._window(work, kind).is_done:
                compare_list(work, kind, self._window(work, kind))
            doubts[kind] = find_extra(work, kind, self._window(work, kind).tally)

        return doubts, self._each_list(work, compare, doubts)

    def _compare_lists_quickly(
        self, work: Work, watermark: int
    ) -> tuple[dict[ReadKind, str | None], ListDoubts, Sequence[str]]:
        """Return, by kind, doubts that forbid deletes; all other doubts; and a sentence about lists switched off."""
        doubts: dict[ReadKind, str | None] = {}
        of_all = ListDoubts()
        windows = {window.number: window for window in self._runs.windows(work.run_id)}

        def compare(kind: ListKind) -> None:
            of_kind = compare_quickly(work, kind, windows, watermark)
            doubts[kind] = of_kind.deletes
            of_all.more += of_kind.more
            of_all.notes += of_kind.notes

        return doubts, of_all, self._each_list(work, compare, doubts)

    @staticmethod
    def _each_list(
        work: Work, compare: Callable[[ListKind], None], doubts: dict[ReadKind, str | None]
    ) -> Sequence[str]:
        """Compare each list that Clerk has; return a sentence if organizations or domains are switched off."""
        switched_off: dict[ListKind, str] = {}
        for kind in LIST_KINDS:
            if kind in switched_off:
                continue
            try:
                compare(kind)
            except OrganizationsUnavailable as error:
                logger.warning("organizations are not compared", reason=str(error))
                switched_off |= dict.fromkeys((kind, *_OF_ORGANIZATIONS), _SWITCHED_OFF)
            except DomainsUnavailable as error:
                logger.warning("domains are not compared", reason=str(error))
                switched_off[kind] = _DOMAINS_SWITCHED_OFF
            except ClerkKeyRejected:
                raise
            except ClerkRejected as error:
                doubts[kind] = f"{KIND_NAMES[kind]} were not compared ({error})"
        for kind in switched_off:
            doubts.pop(kind, None)
            note_switched_off(work, kind)
        return list(dict.fromkeys(switched_off.values()))

    def _window(self, work: Work, kind: ListKind) -> PlannedWindow:
        return next(each for each in self._runs.windows(work.run_id) if each.number == LISTS[kind])

    def _settle(self, work: Work, doubtful: Sequence[ReadKind]) -> Mapping[ReadKind, int]:
        """Mark expired invitations, and mark the visited parts of lists as compared.

        Returns, by kind, the moment up to which all objects are compared. `doubtful`: kinds whose rows may still differ
        from Clerk's answers to this run.
        """
        _, refused = self._runs.expire_invitations(work.run_id, work.begun.lease)
        if refused:
            logger.error("the tables do not let invitations expire", invitations=refused)
        return self._runs.settle_sweeps(work.run_id, work.begun.lease, doubtful)

    def _conclude(
        self,
        work: Work,
        doubts: Mapping[ReadKind, str | None],
        more_doubts: Sequence[str] = (),
        more_notes: Sequence[str] = (),
        *,
        switched_off: Sequence[str],
    ) -> _Ended:
        """Delete objects gone from Clerk, except of kinds with doubts, and return the end of the run.

        Answers that would empty too many columns prove no delete, either.
        """
        emptied = repair_held(work)
        sure = [kind for kind in READ_KINDS if kind in doubts and doubts[kind] is None]
        unsure = [f"{doubts[kind]}: no {kind} is deleted" for kind in READ_KINDS if doubts.get(kind) is not None]
        deletes = delete_gone(work, sure) if emptied.stop is None else Deletes()
        tallies = [window.tally for window in self._runs.windows(work.run_id)]
        left, are_too_many = _left_out(work, tallies, retry_held_up(work))
        notes = [
            *left,
            *switched_off,
            *more_notes,
            *_deleted_here(work, tallies, are_repaired=emptied.stop is None and not emptied.doubts),
            _older(work, tallies),
            *deletes.awaiting,
        ]
        stop = emptied.stop or deletes.stop
        doubtful = [*more_doubts, *unsure, *emptied.doubts, *deletes.doubts]
        reason = "; ".join(filter(None, [stop, *doubtful, *notes])) or None
        if stop is not None:
            count("BrakePulled")
            return _Ended("stopped", reason, READ_KINDS)
        left_differing = {*(kind for kind in READ_KINDS if doubts.get(kind)), *emptied.doubtful, *deletes.doubtful}
        if are_too_many:
            left_differing |= {*READ_KINDS}
        state: State = "incomplete" if doubtful or are_too_many else "complete"
        return _Ended(state, reason, [kind for kind in READ_KINDS if kind in left_differing])

    # Around a run

    @contextmanager
    def _lease(self, work: Work) -> Iterator[None]:
        """Renews the lease of the run inside the block, so that no other process takes over the run."""
        ended = threading.Event()

        def renew() -> None:
            runs = self._runs.twin()
            with closing(runs.store):
                while not ended.wait(self._settings.lease_seconds / 5):
                    try:
                        if not runs.renew(work.run_id, work.begun.lease, self._settings.lease_seconds):
                            work.stopped.set()
                    except ClerkSupabaseError as error:
                        logger.warning("the lease was not renewed", reason=str(error))

        thread = threading.Thread(target=renew, name="reconcile-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _end(
        self,
        work: Work,
        state: State,
        reason: str | None,
        calls_before: int,
        silent: _Silence,
        *,
        compared_until: Mapping[ReadKind, int] | None = None,
    ) -> Report:
        calls = self._http.calls - calls_before
        run = self._runs.end(
            work.run_id,
            work.begun.lease,
            state,
            reason,
            calls=calls,
            newest_change=silent.newest_change,
            newest_delivery=work.begun.newest_delivery,
            is_silent=silent.is_silent,
        )
        report = report_of(
            run,
            state=state,
            reason=reason,
            calls=calls,
            is_resumed=work.begun.is_resumed,
            compared_until=compared_until,
        )
        tell(report, is_first=work.begun.began is None)
        if not run.is_dry_run:
            tell_ages(report.compared_until, run.as_of)
        return report


@dataclass(frozen=True, slots=True)
class _Ended:
    """The state of a run that was not cut off."""

    state: State
    reason: str | None
    doubtful: Sequence[ReadKind]
    """Kinds whose rows may still differ: repairs or deletes were not made, or a list is in doubt."""


@dataclass
class _Silence:
    """The findings of a quick run about webhooks; None: the run has not come to this step."""

    newest_change: int | None = None
    is_silent: bool | None = None


def _left_out(work: Work, tallies: Sequence[Tally], wrong: StillWrong) -> tuple[Sequence[str], bool]:
    """Sentences about objects that could not be applied, and whether their number exceeds the brake's limit.

    A few such objects leave a run complete: otherwise every run would be incomplete.
    """
    left_out = wrong.refused + sum(tally.get(name, 0) for tally in tallies for name in ("unusable", "refused"))
    compared = sum(tally.get("compared", 0) for tally in tallies)
    reasons = [f"{left_out:,} objects could not be compared or applied, see the log"] if left_out else []
    if wrong.held_up:
        reasons.append(f"rows held up by locks of other transactions: {wrong.held_up:,}; the next run tries them again")
    return reasons, left_out + wrong.held_up > work.settings.brake.limit(compared, None)


def _deleted_here(work: Work, tallies: Sequence[Tally], *, are_repaired: bool) -> Iterator[str]:
    """Sentences about objects that Clerk has and that were deleted here, and about restored objects.

    `are_repaired`: all repairs held back were made.
    """
    found = sum(tally.get("deleted here", 0) for tally in tallies)
    restored = sum(tally.get("restored", 0) for tally in tallies) if are_repaired else 0
    show = f"clerk-supabase reconcile show {work.run_id} --difference 'deleted here'"
    if found > restored:
        yield f"Clerk has objects that were deleted here: {show}"
    if restored:
        yield f"objects that only a comparison had deleted are restored, because Clerk has them: {show}"


def _older(work: Work, tallies: Sequence[Tally]) -> str | None:
    if not any(tally.get("older") for tally in tallies):
        return None
    return (
        "Clerk lists older versions of objects than were applied here, and no run repairs such objects: "
        f"clerk-supabase reconcile show {work.run_id} names them, clerk-supabase resync ID --force (of a membership: "
        "the id of its user) applies them"
    )
