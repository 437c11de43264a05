"""Compares Clerk with the tables, repairs differences, and deletes nothing without proof.

A run is a row with windows: after a process was cut off, the next process continues at the same place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.clerk.walk import Window
from clerk_supabase.errors import (
    ClerkKeyRejected,
    ClerkRejected,
    ClerkSupabaseError,
    OutOfTime,
    Permanent,
    TooLongToWait,
    WrongInstance,
)
from clerk_supabase.model.facts import ListKind, ReadKind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, LIST_KINDS
from clerk_supabase.reconcile.conclusion import Ended, conclude
from clerk_supabase.reconcile.corrections.feeds import compare_feeds, retry_unfed
from clerk_supabase.reconcile.corrections.repairs import ClockMs, Repairs
from clerk_supabase.reconcile.corrections.resync import Resync
from clerk_supabase.reconcile.corrections.row_checks import ROWS_OF_QUICK_RUN, check_rows
from clerk_supabase.reconcile.corrections.unfinished import finish_deletes
from clerk_supabase.reconcile.drift import doubts_about_end
from clerk_supabase.reconcile.enclosed import compare_enclosed, plan_enclosed
from clerk_supabase.reconcile.lease import renewed_lease
from clerk_supabase.reconcile.lists import LISTS, compare_list, find_extra, note_switched_off, note_visit, plan_lists
from clerk_supabase.reconcile.pages import Progress, ReconcileSettings, Work
from clerk_supabase.reconcile.records import PlannedWindow, State
from clerk_supabase.reconcile.report import Report, report_of, report_of_resync, tell, tell_ages
from clerk_supabase.reconcile.request import Request
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
from clerk_supabase.telemetry import logger


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
            with renewed_lease(work):
                if not begun.run.is_dry_run:
                    retry_unfed(self._runs)
                    # Rows that are about to be hidden would look like rows whose deletes did not arrive.
                    finish_deletes(self._runs.store, lambda: work.seconds_left() > 0)
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

    def _full(self, work: Work) -> Ended:
        check_rows(work)
        windows = self._runs.windows(work.run_id)
        if not windows:
            planned = [*plan_all(work), *plan_lists(is_quick=False), *plan_enclosed()]
            self._runs.plan(work.run_id, work.begun.lease, planned, work.expected)
            windows = self._runs.windows(work.run_id)
        compare_windows(work, [window for window in windows if window.kind == "user"])
        doubts, switched_off = self._compare_lists(work)
        users = [window for window in self._runs.windows(work.run_id) if window.kind == "user"]
        doubts["user"] = doubts_about_all(work, users)
        if doubts["user"] is None:
            self._runs.find_unseen(work.run_id, "user")
            note_visit(work, "user", Window())
        return conclude(work, doubts, switched_off=switched_off)

    def _quick(self, work: Work, silent: _Silence) -> Ended:
        watermark = work.begun.watermark
        assert watermark is not None  # noqa: S101 - without one begin_run makes it a full run
        check_rows(work, ROWS_OF_QUICK_RUN)
        planned = [(0, "user", None, None), *plan_lists(is_quick=True), *plan_enclosed()]
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
        return conclude(work, doubts, [*of_users, *more.more], more.notes, switched_off=switched_off)

    def _compare_lists(self, work: Work) -> tuple[dict[ReadKind, str | None], Sequence[str]]:
        """Return, by kind, the reason why a list may be incomplete, if any; and a sentence about lists switched off."""
        doubts: dict[ReadKind, str | None] = {}

        def compare(kind: ListKind) -> None:
            if kind in ENCLOSED_KINDS:
                doubts[kind] = compare_enclosed(work, kind, is_quick=False)
                return
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
            if kind in ENCLOSED_KINDS:
                doubts[kind] = compare_enclosed(work, kind, is_quick=True)
                return
            of_kind = compare_quickly(work, kind, windows, watermark)
            doubts[kind] = of_kind.deletes
            of_all.more += of_kind.more
            of_all.notes += of_kind.notes

        return doubts, of_all, self._each_list(work, compare, doubts)

    @staticmethod
    def _each_list(
        work: Work, compare: Callable[[ListKind], None], doubts: dict[ReadKind, str | None]
    ) -> Sequence[str]:
        """Compare each list that Clerk has; return a sentence for each feature that is switched off."""
        features = work.features
        for kind in (*LIST_KINDS, *ENCLOSED_KINDS):
            if features.is_refused(kind):
                continue
            try:
                compare(kind)
            except ClerkKeyRejected:
                raise
            except ClerkRejected as error:
                logger.warning("not every object of a kind is compared", kind=kind, reason=str(error))
                features.refuse(kind, error)
        doubts |= features.doubts()
        for kind in features.switched_off():
            if kind not in ENCLOSED_KINDS:
                note_switched_off(work, kind)
        return features.sentences()

    def _window(self, work: Work, kind: ListKind) -> PlannedWindow:
        return next(each for each in self._runs.windows(work.run_id) if each.number == LISTS[kind])

    def _settle(self, work: Work, doubtful: Sequence[ReadKind]) -> Mapping[ReadKind, int]:
        """Mark expired invitations, and mark the visited parts of lists as compared.

        Returns, by kind, the moment up to which all objects are compared. `doubtful`: kinds whose rows may still differ
        from Clerk's answers to this run.
        """
        refused = self._runs.expire_invitations(work.run_id, work.begun.lease)
        if refused:
            logger.error("the tables do not let invitations expire", invitations=refused)
        return self._runs.settle_sweeps(work.run_id, work.begun.lease, doubtful)

    # Around a run

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


@dataclass
class _Silence:
    """The findings of a quick run about webhooks; None: the run has not come to this step."""

    newest_change: int | None = None
    is_silent: bool | None = None
