"""Users: all users in windows of created_at, several at once, or only changed users and windows of differing counts."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

from clerk_supabase.clerk.walk import PAGE_SIZE, Window
from clerk_supabase.errors import RunTakenOver
from clerk_supabase.model.facts import ReadKind
from clerk_supabase.reconcile.drift import (
    Census,
    cuts_by_counts,
    doubts_about_pages,
    doubts_about_users,
    is_silent,
    where_counts_differ,
    windows_between,
)
from clerk_supabase.reconcile.pages import Comparison, Work
from clerk_supabase.reconcile.records import PlannedWindow

_MOST_WINDOWS: Final = 500
# Where each cut costs a request: a few windows for each thread, so that no thread waits long for the last window.
_MOST_WINDOWS_BY_COUNTS: Final = 32
# A quick run reads no more pages; the next full run finds the rest.
_MOST_PAGES_OF_CHANGES: Final = 200
# So a window in which the numbers differ is a page, with a little room for users who are missing here.
_USERS_PER_COUNT: Final = 490

CHANGES: Final = 0
"""Number of the window for the users who changed last."""

_UNDATED: Final = "Clerk's answers have no believable Date, so nothing can be said about deletes"

Planned = tuple[int, ReadKind, int | None, int | None]


# All users


def plan_all(work: Work) -> list[Planned]:
    """Windows with about equal numbers of users. Notes Clerk's count, and whether most users are missing here."""
    as_of = work.begun.run.as_of
    there = work.clerk.users_count(Window(0, as_of or None)).value
    work.expected["user"] = there
    here = work.runs.count_rows(as_of)["user"]
    work.is_bulk = here * 2 < there
    per_window = max(work.settings.users_per_window, max(there, here) // _MOST_WINDOWS + 1)
    if not work.is_bulk:
        cuts = [moment for moment, _ in work.runs.cuts(per_window, as_of)]
    else:
        cuts = _cuts_of_an_unknown_instance(work, there, max(per_window, there // _MOST_WINDOWS_BY_COUNTS + 1))
    return [(number, "user", each.start, each.end) for number, each in enumerate(windows_between(cuts), 1)]


def _cuts_of_an_unknown_instance(work: Work, there: int, per_window: int) -> list[int]:
    """Cuts by Clerk's counts: a table with few rows does not show how users are spread in time."""
    if there <= per_window:
        return []
    first = next((item.created_at for item in next(work.clerk.users(Window())).items if item.created_at), None)
    if first is None:
        return []
    return cuts_by_counts(first, work.begun.run.as_of, there, per_window, partial(_count, work))


def _count(work: Work, window: Window) -> int:
    work.check()
    return work.clerk.users_count(window).value


def compare_windows(work: Work, windows: Iterable[PlannedWindow]) -> None:
    """Compares windows that are not done, several at once. Raises the error that stopped the threads, if any."""
    waiting: queue.SimpleQueue[PlannedWindow] = queue.SimpleQueue()
    todo = [window for window in windows if not window.is_done]
    for window in todo:
        waiting.put(window)

    def work_off() -> None:
        runs = work.runs.twin()
        with closing(runs.store):
            try:
                while not work.stopped.is_set():
                    comparison = Comparison(work, runs, waiting.get_nowait())
                    _compare_window(work, comparison)
            except queue.Empty:
                return
            except BaseException:
                work.stopped.set()
                raise

    threads = max(1, min(work.settings.threads, len(todo)))
    with ThreadPoolExecutor(threads, thread_name_prefix="reconcile") as pool:
        tasks = [pool.submit(work_off) for _ in range(threads)]
        try:
            wait(tasks)
        except BaseException:
            # Ctrl-C: the threads end after their present page.
            work.stopped.set()
            raise
    errors = [error for error in (task.exception() for task in tasks) if error is not None]
    if errors:
        # Report the error that stopped the run, not the RunTakenOver of the threads it stopped.
        raise next((error for error in errors if not isinstance(error, RunTakenOver)), errors[0])
    work.check()


def _compare_window(work: Work, comparison: Comparison) -> None:
    window = comparison.window
    for stretch in work.clerk.users(Window(window.start or 0, window.end)):
        comparison.page(stretch.items, stretch.odd, since=stretch.window.start, until=stretch.window.end)
    comparison.finish()


def doubts_about_all(work: Work, windows: Sequence[PlannedWindow]) -> str | None:
    """The reason why Clerk may not have listed every user, if any."""
    as_of = work.begun.run.as_of
    if as_of == 0:
        return _UNDATED
    for window in windows:
        if doubts := doubts_about_pages(window.tally, "users"):
            return doubts
    listed = sum(window.tally.get("listed", 0) for window in windows)
    after = work.clerk.users_count(Window(0, as_of)).value
    return doubts_about_users(work.expected["user"], listed, after)


# Changed users


@dataclass(frozen=True, slots=True)
class Changed:
    """The result of reading the list of the users who changed."""

    doubts: str | None
    """The reason why users may have been missed, if any."""
    missing_created: Sequence[int]
    """The moments of creation of the users who are missing here until their repairs are applied."""
    newest: int | None
    """The newest change whose webhook must have arrived by now."""
    listed: int | None
    """Number of listed users created before the run, if the list ended before the watermark; None: it did not."""


def compare_changes(work: Work, watermark: int) -> Changed:
    """Compare users by their last change, newest first, down to the watermark."""
    comparison = Comparison(work, work.runs, PlannedWindow(CHANGES, "user", None, None, is_done=False, tally={}))
    until = watermark - work.settings.overlap_ms
    in_time = work.begun.run.as_of - work.settings.silence_minutes * 60_000
    newest: int | None = None
    doubts = _UNDATED if work.begun.run.as_of == 0 else None
    listed: set[str] = set()
    is_at_the_end = True
    for number, page in enumerate(work.clerk.users_newest_change_first(), 1):
        comparison.page(page.items, page.odd)
        listed.update(item.id for item in page.items if (item.created_at or 0) < work.begun.run.as_of)
        changed = [item.updated_at for item in page.items if item.updated_at is not None]
        newest = newest or max((moment for moment in changed if moment <= in_time), default=None)
        if not page.joins:
            doubts = "users were removed while Clerk listed what changed, so some may have been missed"
        if not page.is_new:
            comparison.tally["repeated"] = 1
        if changed and min(changed) < until:
            is_at_the_end = False
            break
        if number == _MOST_PAGES_OF_CHANGES:
            doubts = f"more than {number * PAGE_SIZE:,} users changed: a full run has to compare the rest"
            is_at_the_end = False
            break
    comparison.finish()
    doubts = doubts_about_pages(comparison.tally, "users") or doubts
    return Changed(doubts, comparison.missing_created, newest, len(listed) if is_at_the_end else None)


def silence(work: Work, newest: int | None) -> bool:
    """Tells whether Clerk has a change later than all webhooks, although its webhook must have arrived by now.

    Only a change after the beginning of the first complete run counts.
    """
    since = work.begun.began
    return newest is not None and since is not None and newest > since and is_silent(newest, work.begun.newest_delivery)


def plan_where_counts_differ(work: Work, missing_created: Sequence[int]) -> tuple[list[Planned], dict[int, int]]:
    """Windows, of about a page each, in which Clerk has another number of users than we; and Clerk's numbers by window.

    `missing_created`: moments of creation of users whose repairs are on their way.
    """
    as_of = work.begun.run.as_of
    there = work.clerk.users_count(Window(0, as_of)).value
    work.expected["user"] = there
    rows = work.runs.count_rows(as_of)["user"]
    if there == rows + sum(moment < as_of for moment in missing_created):
        return [], {}
    cuts = work.runs.cuts(_USERS_PER_COUNT, as_of)
    census = Census([*(moment for moment, _ in cuts), as_of], [*(before for _, before in cuts), rows])
    planned: list[Planned] = []
    counted: dict[int, int] = {}
    differing = where_counts_differ(census.with_rows(missing_created), there, partial(_count, work))
    for number, (window, theirs) in enumerate(differing, CHANGES + 1):
        planned.append((number, "user", window.start, window.end))
        counted[number] = theirs
    return planned, counted


def doubts_about_windows(windows: Iterable[PlannedWindow], counted: dict[int, int]) -> str | None:
    """The reason why Clerk may not have listed every user of the windows in which the numbers differed, if any."""
    for window in windows:
        theirs = counted.get(window.number)
        listed = window.tally.get("listed", 0)
        if theirs is None:
            continue
        if doubts := doubts_about_pages(window.tally, "users"):
            return doubts
        if listed != theirs:
            return f"Clerk listed {listed:,} users where it counted {theirs:,}"
    return None
