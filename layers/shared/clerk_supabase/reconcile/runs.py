"""The functions of clerk_sync that begin, continue, end, show and undo the runs of reconcile."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from clerk_supabase.clerk.lookups import Held
from clerk_supabase.clerk.walk import Window
from clerk_supabase.errors import RunTakenOver, WrongInstance
from clerk_supabase.model.facts import Kind, ReadKind
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.unfinished import finish_deletes
from clerk_supabase.reconcile.drift import Tally
from clerk_supabase.reconcile.records import (
    Begun,
    Candidate,
    HeldUp,
    Known,
    PlannedWindow,
    Reset,
    RunDetails,
    RunSummary,
    Slice,
    State,
    Undone,
    Weight,
    finding_of,
    summary_of,
    window_of,
)
from clerk_supabase.reconcile.request import Request


class Runs:
    """Reads and writes the rows of runs.

    Methods raise Retryable, and RunTakenOver if the run is over or another process works on it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def twin(self) -> Runs:
        """Runs for another thread, with a connection of their own."""
        return Runs(self.store.twin())

    # For operators

    def list(self, limit: int = 20) -> Sequence[RunSummary]:
        """The newest runs, newest first."""
        return [summary_of(row) for row in self.store.call("list_runs", {"limit": limit})]

    def show(self, run_id: int, limit: int = 1000) -> RunDetails | None:
        """A run with its first findings, at most `limit`; None: there is no such run."""
        found = self.store.call("show_run", {"run": run_id, "limit": limit})
        if found is None:
            return None
        findings = [finding_of(each) for each in found["findings"]]
        windows = [window_of(each) for each in found["windows"]]
        return RunDetails(summary_of(found["run"]), windows, findings, found["findings_count"])

    def undo(self, run_id: int) -> Undone:
        """Restore the objects that only this run deleted, except purged objects.

        An object that an event or another run deleted, too, stays deleted. Deletes of the run that arrive later are not
        applied. The login role needs the rights of the owner of the schema.
        """
        answer = self.store.call("undo_run", {"run": run_id})
        finish_deletes(self.store, lambda: True)
        return Undone([(kind, object_id) for kind, object_id in answer["restored"]], answer["waiting"])

    def reset(self, *, instance: bool, dry_run: bool) -> Reset:
        """Ends all runs in progress, so that the next run compares everything. The login role needs the owner's rights.

        `instance`: forgets the mirrored instance of Clerk, too. `dry_run`: only returns the result.
        """
        answer = self.store.call("reset_runs", {"instance": instance, "dry_run": dry_run})
        return Reset(answer["running"], answer["trusted"], answer["instance_id"])

    # For the process of a run

    def begin(self, asked: Request, instance_id: str, as_of: int, lease_seconds: float, delete_margin_ms: int) -> Begun:
        """Begins a run, or continues a run whose process was cut off. Raises WrongInstance."""
        answer = self.store.call(
            "begin_run",
            {
                "instance_id": instance_id,
                "mode": asked.mode,
                "dry_run": asked.dry_run,
                "versions_only": asked.versions_only,
                "allow_deletes": asked.allow_deletes,
                "allow_emptied": asked.allow_emptied,
                "as_of": as_of,
                "lease_seconds": lease_seconds,
                "delete_margin_ms": delete_margin_ms,
            },
        )
        if answer["outcome"] == "wrong_instance":
            raise WrongInstance(
                f"the secret key belongs to {instance_id}, the database mirrors {answer['instance_id']}: "
                "put the secret key of that instance into the secret, or move the database to the other instance: "
                "clerk-supabase switch-instance"
            )
        newest_delivery = answer.get("newest_delivery")
        return Begun(
            run=summary_of(answer["run"]),
            lease=answer["run"]["lease"],
            is_resumed=answer["outcome"] == "resumed",
            is_busy=answer["outcome"] == "busy",
            watermark=answer.get("watermark"),
            began=answer.get("began"),
            newest_delivery=None if newest_delivery is None else int(newest_delivery),
        )

    def renew(self, run_id: int, lease: str, lease_seconds: float) -> bool:
        """Extends the lease; False: another process works on the run, or the run is over."""
        asked = {"run": run_id, "lease": lease, "lease_seconds": lease_seconds}
        return bool(self.store.call("renew_lease", asked))

    def plan(
        self, run_id: int, lease: str, windows: Iterable[tuple[int, ReadKind, int | None, int | None]], expected: Tally
    ) -> None:
        """Stores the windows to compare, each as number, kind, start and end, and Clerk's counts."""
        rows = [{"number": number, "kind": kind, "start": start, "end": end} for number, kind, start, end in windows]
        _own(self.store.call("plan_run", {"run": run_id, "lease": lease, "windows": rows, "expected": expected}))

    def windows(self, run_id: int) -> Sequence[PlannedWindow]:
        """The planned windows, each with the moment from which to continue."""
        return [window_of(each) for each in self.store.call("windows_of_run", {"run": run_id})]

    def cuts(self, every: int, before: int) -> Sequence[tuple[int, int]]:
        """Moments that cut our users into parts of about `every` rows, each with the number of earlier rows."""
        return [(moment, rows) for moment, rows in self.store.call("cut_users", {"every": every, "before": before})]

    def count_rows(self, before: int | None = None) -> Mapping[ReadKind, int]:
        """The number of rows of each kind that are not hidden. `before`: only users created before this moment."""
        return cast("Mapping[ReadKind, int]", self.store.call("count_rows", {"before": before}))

    def prepare_deletes(self, run_id: int, kinds: Sequence[str]) -> tuple[Collection[tuple[str, str]], int]:
        """Remove candidates that are too young, and add objects that Clerk called gone in earlier runs.

        Returns kind and id of each added object, which this run did not miss by itself, and the number of removed
        candidates. `kinds`: the kinds with trusted lists.
        """
        answer = _unless_over(self.store.call("prepare_deletes", {"run": run_id, "kinds": kinds}))
        return {(kind, object_id) for kind, object_id in answer["due"]}, answer["spared"]

    def weigh_deletes(self, run_id: int) -> Weight:
        """Counts the rows that would be hidden by the deletes of the objects gone from Clerk."""
        answer = _unless_over(self.store.call("weigh_deletes", {"run": run_id}))
        by_object: dict[str, dict[str, int]] = {}
        for kind, hidden_kind, number in answer["by_object"]:
            by_object.setdefault(kind, {})[hidden_kind] = number
        return Weight(by_object, answer["hidden"])

    def compare(
        self,
        request: Mapping[str, object],
        page: Sequence[str] = (),
        arrays: Mapping[Kind, Sequence[str]] = MappingProxyType({}),
    ) -> Sequence[tuple[str, str, str, str]]:
        """The differences of a page, as kind, id, difference and action.

        See the function `compare` in sql/migrations; `page`, `arrays`: as JSON. Raises ChangeRefused for content that
        Postgres refuses.
        """
        return [tuple(each) for each in _unless_over(self.store.call("compare", request, page, arrays))]

    def fill(self, run_id: int, page: Sequence[str]) -> set[tuple[str, str]]:
        """Inserts the objects of a page that are unknown here; returns kind and id of the known objects.

        `page`: elements as JSON. Raises ChangeRefused and RowUnavailable; then no object was inserted.
        """
        answer = _unless_over(self.store.call("fill", {"run": run_id}, page))
        return {(kind, object_id) for kind, object_id in answer}

    def finish_window(self, run_id: int, lease: str, number: int, tally: Tally) -> None:
        """Marks a window as done: every page is compared, and its repairs are sent."""
        _own(self.store.call("finish_window", {"run": run_id, "lease": lease, "number": number, "tally": tally}))

    def rank_rows(self, kind: ReadKind, moments: Sequence[int]) -> Sequence[int]:
        """The number of rows of a kind created before each moment, without hidden rows."""
        return cast("Sequence[int]", self.store.call("rank_rows", {"kind": kind, "moments": moments}))

    def find_unseen(self, run_id: int, kind: ReadKind, *, is_count_only: bool = False) -> int:
        """Stores a finding for each row that Clerk did not list; returns the number of objects that Clerk listed.

        With `is_count_only`, no finding is stored.
        """
        asked = {"run": run_id, "kind": kind, "is_count_only": is_count_only}
        return int(_unless_over(self.store.call("find_unseen", asked))["seen"])

    def items_without_subscription(self, run_id: int, ids: Sequence[str]) -> set[str]:
        """The subscription items among these whose subscription has no row, or a row that contradicts its items."""
        return set(_unless_over(self.store.call("items_without_subscription", {"run": run_id, "ids": ids})))

    def find_unseen_among(self, run_id: int, kind: ReadKind, window: Window, ids: Sequence[str]) -> None:
        """Stores a finding for each row created in a window whose id Clerk did not list there."""
        asked = {"run": run_id, "kind": kind, "since": window.start, "until": window.end, "ids": ids}
        _unless_over(self.store.call("find_unseen", asked))

    # Visits of parts of lists

    def next_slice(self, run_id: int, kind: ReadKind) -> Slice:
        """The part of a list that has waited longest, among the parts that this run has not visited."""
        answer = _unless_over(self.store.call("next_slice", {"run": run_id, "kind": kind}))
        return Slice(answer["start"], answer["visited_at"] or 0, answer["newest_visit"])

    def visit_slice(
        self,
        run_id: int,
        lease: str,
        kind: ReadKind,
        window: Window,
        *,
        is_whole: bool,
        is_switched_off: bool = False,
    ) -> None:
        """Stores that this run has read a part of a list. `is_whole`: no object of the part can be missing."""
        asked = {
            "run": run_id,
            "lease": lease,
            "kind": kind,
            "start": window.start,
            "end": window.end,
            "is_whole": is_whole,
            "is_switched_off": is_switched_off,
        }
        _own(self.store.call("visit_slice", asked))

    def settle_sweeps(self, run_id: int, lease: str, doubtful: Sequence[ReadKind] = ()) -> Mapping[ReadKind, int]:
        """Count the parts visited by this run as compared, except parts of the doubtful kinds.

        Returns, by kind, the moment of Clerk's clock up to which all objects are compared. A kind that was never
        compared as a whole, or is switched off, is missing.
        """
        answer = self.store.call("settle_sweeps", {"run": run_id, "lease": lease, "doubtful": doubtful})
        return cast("Mapping[ReadKind, int]", _unless_over(answer))

    def expire_invitations(self, run_id: int, lease: str) -> int:
        """Marks invitations that have expired. Returns the number of rows that the app refused to mark."""
        refused: int = _unless_over(self.store.call("expire_invitations", {"run": run_id, "lease": lease}))["refused"]
        return refused

    def candidates(self, run_id: int, kind: ReadKind, after: str, limit: int) -> Sequence[Candidate]:
        """Objects that Clerk may have deleted: the first `limit` ids above `after`."""
        asked = {"run": run_id, "kind": kind, "after": after, "limit": limit}
        return [tuple(each) for each in _unless_over(self.store.call("delete_candidates", asked))]

    def settle(
        self,
        run_id: int,
        kind: Kind,
        *,
        present: Sequence[str] = (),
        gone: Mapping[str, int] | None = None,
        sent: Sequence[str] = (),
        refused: Sequence[str] = (),
        held_up: Sequence[str] = (),
    ) -> None:
        """Store the outcomes of findings, by id.

        `present`: Clerk has the object. `gone`: Clerk did not have the object at that moment. `sent`, `refused` and
        `held_up`: the repair or delete was sent, was refused for good, or is held up by a lock.
        """
        asked = {
            "run": run_id,
            "kind": kind,
            "present": present,
            "gone": gone or {},
            "sent": sent,
            "refused": refused,
            "held_up": held_up,
        }
        _own(self.store.call("settle_findings", asked))

    def check_rows(
        self, run_id: int, lease: str, kind: Kind, limit: int, *, only_look: bool = False
    ) -> tuple[bool, int]:
        """Checks the next `limit` rows of a kind against their tombstones, and users_public against users.

        Corrects wrong rows; with `only_look`, only stores findings about wrong rows. Returns whether every row was
        checked, and the number of rows that could not be corrected until now. Raises RowUnavailable when a row takes
        too long.
        """
        asked = {"run": run_id, "lease": lease, "kind": kind, "limit": limit, "only_look": only_look}
        answer = _unless_over(self.store.call("check_rows", asked))
        return answer["is_done"], answer["left"]

    def retry_held_up(self, run_id: int, lease: str, limit: int) -> HeldUp:
        """Retry the correction of rows held by a lock, in this run or in an earlier run since yesterday.

        `limit`: the most rows of each kind. Returns the rows and objects that are still held up.
        """
        answer = _unless_over(self.store.call("retry_held_up", {"run": run_id, "lease": lease, "limit": limit}))
        objects: dict[ReadKind, list[Held]] = {}
        for kind, *held in answer["objects"]:
            objects.setdefault(kind, []).append(cast("Held", tuple(held)))
        return HeldUp(answer["rows"], answer["refused"], answer["waiting"], objects)

    def retry_unfed(self, limit: int, seconds: int) -> tuple[int, int, int]:
        """Writes unfed rows of the app's tables again. Returns the numbers of tried, written and remaining rows."""
        answer = self.store.call("retry_unfed", {"limit": limit, "seconds": seconds})
        return answer["tried"], answer["written"], answer["left"]

    def compare_feed(self, run_id: int, lease: str, limit: int) -> bool:
        """Compares the next `limit` rows of a fed table with the mirror; True: every row was compared."""
        answer = _unless_over(self.store.call("compare_feed", {"run": run_id, "lease": lease, "limit": limit}))
        return bool(answer["is_done"])

    def held_repairs(self, run_id: int, kind: ReadKind, after: str, limit: int) -> Sequence[Held]:
        """List objects whose repair is held back: the first `limit` ids above `after`."""
        asked = {"run": run_id, "kind": kind, "after": after, "limit": limit}
        return [tuple(each) for each in _unless_over(self.store.call("held_repairs", asked))]

    def emptied_columns(self, run_id: int) -> Mapping[str, Mapping[str, int]]:
        """Count, by kind and column, the rows that lose a value by repairs that are or were held back."""
        answer = _unless_over(self.store.call("emptied_columns", {"run": run_id}))
        return cast("Mapping[str, Mapping[str, int]]", answer)

    def altered_columns(self, run_id: int) -> Sequence[tuple[str, str, int]]:
        """Table and column in which triggers of the app store other values than Clerk's, with the number of rows."""
        answer = _unless_over(self.store.call("altered_columns", {"run": run_id}))
        return [(table, column, rows) for table, column, rows in answer]

    def end(
        self,
        run_id: int,
        lease: str,
        state: State,
        reason: str | None,
        *,
        calls: int,
        newest_change: int | None = None,
        newest_delivery: int | None = None,
        is_silent: bool | None = None,
    ) -> RunSummary:
        """Ends the run or, with the state `running`, only this process's work on the run."""
        row = self.store.call(
            "end_run",
            {
                "run": run_id,
                "lease": lease,
                "state": state,
                "reason": reason,
                "calls": calls,
                "newest_change": newest_change,
                "newest_delivery": newest_delivery,
                "is_silent": is_silent,
            },
        )
        return summary_of(_unless_over(row))

    def look_at(self, page: Sequence[str]) -> Mapping[tuple[str, str], Known]:
        """Return the state of each object of a page, by kind and id. `page`: elements as JSON. Raises ChangeRefused.

        The login role needs the rights of the owner of the schema; so does `check_objects`.
        """
        answer = self.store.call("look_at_objects", {"of": "page"}, page) if page else []
        return {(kind, object_id): Known(*rest) for kind, object_id, *rest in answer}

    def check_objects(self, objects: Mapping[str, Sequence[str]]) -> Sequence[tuple[str, str, Sequence[str], bool]]:
        """Correct the rows of some objects as `check_rows` does.

        Returns, for each wrong row, kind, id, columns, and whether the row is correct now.
        """
        return [tuple(each) for each in self.store.call("check_objects", {"objects": objects})]

    def memberships_of(self, kind: ReadKind, object_id: str) -> Sequence[str]:
        """Ids of the memberships of a user or an organization, without hidden memberships."""
        return [str(each) for each in self.store.call("memberships_of", {"kind": kind, "id": object_id})]

    def known_as(self, object_id: str) -> tuple[str | None, Mapping[str, bool]]:
        """The mirrored instance, if any; and the kinds of the entities with this id, by kind whether one is deleted."""
        answer = self.store.call("known_as", {"id": object_id})
        return answer["instance_id"], answer["kinds"]


def _unless_over(answer: Any) -> Any:
    """The answer of a function. Raises RunTakenOver for None: the run is over, or taken over by another process."""
    if answer is None:
        raise RunTakenOver
    return answer


def _own(is_ours: object) -> None:
    if not is_ours:
        raise RunTakenOver
