"""The functions of clerk_sync that begin, continue, end, show and undo the runs of reconcile."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from clerk_supabase.clerk.lookups import Held
from clerk_supabase.clerk.walk import Window
from clerk_supabase.errors import RunTakenOver, WrongInstance
from clerk_supabase.model.kinds import Kind, ReadKind
from clerk_supabase.postgres.store import Store
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
    """Reads and writes the rows of runs. Methods raise Retryable, and RunTakenOver where the run is somebody else's."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def twin(self) -> Runs:
        """For another thread."""
        return Runs(self.store.twin())

    # For people

    def list(self, limit: int = 20) -> Sequence[RunSummary]:
        """The newest runs, newest first."""
        return [summary_of(row) for row in self.store.call("list_runs", {"limit": limit})]

    def show(self, run_id: int, limit: int = 1000) -> RunDetails | None:
        """A run with at most so many of its findings; None: there is no such run."""
        found = self.store.call("show_run", {"run": run_id, "limit": limit})
        if found is None:
            return None
        findings = [finding_of(each) for each in found["findings"]]
        windows = [window_of(each) for each in found["windows"]]
        return RunDetails(summary_of(found["run"]), windows, findings, found["findings_count"])

    def undo(self, run_id: int) -> Undone:
        """Restore what the run alone deleted. Not what was purged since, or what an event or another run deleted, too.

        Deletes of the run that arrive later are not applied. Whoever calls needs the rights of the owner of the schema.
        """
        answer = self.store.call("undo_run", {"run": run_id})
        return Undone([(kind, object_id) for kind, object_id in answer["restored"]], answer["waiting"])

    def reset(self, *, instance: bool, dry_run: bool) -> Reset:
        """Ends runs at work, and has the next one compare everything; `instance`: forgets the mirrored one, too.

        Whoever calls needs the rights of the owner of the schema.
        """
        answer = self.store.call("reset_runs", {"instance": instance, "dry_run": dry_run})
        return Reset(answer["running"], answer["trusted"], answer["instance_id"])

    # For the process that works on a run

    def begin(self, asked: Request, instance_id: str, as_of: int, lease_seconds: float, delete_margin_ms: int) -> Begun:
        """Begins a run, or goes on with one that was cut off. Raises WrongInstance."""
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
                "put the secret key of that instance into the secret"
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
        """Whether the run is still this process's, for so many more seconds."""
        asked = {"run": run_id, "lease": lease, "lease_seconds": lease_seconds}
        return bool(self.store.call("renew_lease", asked))

    def plan(
        self, run_id: int, lease: str, windows: Iterable[tuple[int, ReadKind, int | None, int | None]], expected: Tally
    ) -> None:
        """Writes down what there is to compare, each window as number, kind, start and end; and what Clerk counted."""
        rows = [{"number": number, "kind": kind, "start": start, "end": end} for number, kind, start, end in windows]
        _own(self.store.call("plan_run", {"run": run_id, "lease": lease, "windows": rows, "expected": expected}))

    def windows(self, run_id: int) -> Sequence[PlannedWindow]:
        """What is planned, each from where it has to go on."""
        return [window_of(each) for each in self.store.call("windows_of_run", {"run": run_id})]

    def cuts(self, every: int, before: int) -> Sequence[tuple[int, int]]:
        """Moments that cut our rows of users into parts of about so many, and how many were created earlier."""
        return [(moment, rows) for moment, rows in self.store.call("cut_users", {"every": every, "before": before})]

    def count_rows(self, before: int | None = None) -> Mapping[ReadKind, int]:
        """How many rows of each kind everybody may see; of users those created before that moment, if given."""
        return cast("Mapping[ReadKind, int]", self.store.call("count_rows", {"before": before}))

    def prepare_deletes(self, run_id: int, kinds: Sequence[str]) -> tuple[Collection[tuple[str, str]], int]:
        """Leave out candidates that are too young, and add objects of these kinds that Clerk said earlier to be gone.

        Returns kinds and ids of the added ones, which this run did not miss by itself, and how many were left out.
        """
        answer = _unless_over(self.store.call("prepare_deletes", {"run": run_id, "kinds": kinds}))
        return {(kind, object_id) for kind, object_id in answer["due"]}, answer["spared"]

    def weigh_deletes(self, run_id: int) -> Weight:
        """Counts the rows that would be hidden with the objects that Clerk says to be gone."""
        answer = _unless_over(self.store.call("weigh_deletes", {"run": run_id}))
        by_object: dict[str, dict[str, int]] = {}
        for kind, hidden_kind, number in answer["by_object"]:
            by_object.setdefault(kind, {})[hidden_kind] = number
        return Weight(by_object, answer["hidden"])

    def compare(self, request: Mapping[str, object], page: Sequence[str] = ()) -> Sequence[tuple[str, str, str, str]]:
        """Differences of a page, as kind, id, difference and action.

        See the function `compare` in sql/migrations; `page`: elements as JSON. Raises ChangeRefused for content that
        Postgres does not take.
        """
        answer = _unless_over(self.store.call("compare", request, page))
        return [tuple(each) for each in answer["differences"]]

    def fill(self, run_id: int, page: Sequence[str]) -> set[tuple[str, str]]:
        """Writes objects that were never heard of, elements as JSON; returns kinds and ids of the others.

        Raises ChangeRefused and RowUnavailable when it wrote none.
        """
        answer = _unless_over(self.store.call("fill", {"run": run_id}, page))
        return {(kind, object_id) for kind, object_id in answer}

    def finish_window(self, run_id: int, lease: str, number: int, tally: Tally) -> None:
        """Every page of the window is compared, and its repairs are sent."""
        _own(self.store.call("finish_window", {"run": run_id, "lease": lease, "number": number, "tally": tally}))

    def rank_rows(self, kind: ReadKind, moments: Sequence[int]) -> Sequence[int]:
        """Counts, for each of these moments, the rows of a kind that were created before and are not hidden."""
        return cast("Sequence[int]", self.store.call("rank_rows", {"kind": kind, "moments": moments}))

    def find_unseen(self, run_id: int, kind: ReadKind) -> int:
        """Writes down the rows that were not listed; returns how many objects were."""
        return int(_unless_over(self.store.call("find_unseen", {"run": run_id, "kind": kind}))["seen"])

    def find_unseen_among(self, run_id: int, kind: ReadKind, window: Window, ids: Sequence[str]) -> None:
        """Writes down the rows that were created in a window and whose ids Clerk did not list there."""
        asked = {"run": run_id, "kind": kind, "since": window.start, "until": window.end, "ids": ids}
        _unless_over(self.store.call("find_unseen", asked))

    # When what was compared

    def next_slice(self, run_id: int, kind: ReadKind) -> Slice:
        """The part of a list that waited longest, of those that this run has not visited."""
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
        """Writes down that this run has read a part of a list. `is_whole`: no row can have been missed there."""
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
        """Count as compared what this run visited, but nothing of the doubtful kinds.

        Returns until when all of each kind is compared, by Clerk's clock.
        """
        answer = self.store.call("settle_sweeps", {"run": run_id, "lease": lease, "doubtful": doubtful})
        return cast("Mapping[ReadKind, int]", _unless_over(answer))

    def expire_invitations(self, run_id: int, lease: str) -> tuple[int, int]:
        """Marks the invitations that have expired since; returns how many, and how many rows refused it."""
        answer = _unless_over(self.store.call("expire_invitations", {"run": run_id, "lease": lease}))
        return answer["expired"], answer["refused"]

    def candidates(self, run_id: int, kind: ReadKind, after: str, limit: int) -> Sequence[Candidate]:
        """Objects that Clerk may have deleted, by their ids."""
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
        """Write down what became of findings.

        Clerk has the object; Clerk did not have it at that moment; its repair or delete was sent, was refused, or is
        held up by a lock.
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
        """Sets right so many more rows of a kind that contradict their tombstones, and profiles that contradict users.

        `only_look`: writes down which rows are wrong, and sets none right. Returns whether every row was looked at, and
        how many could not be set right until now. Raises RowUnavailable when one of these rows takes too long.
        """
        asked = {"run": run_id, "lease": lease, "kind": kind, "limit": limit, "only_look": only_look}
        answer = _unless_over(self.store.call("check_rows", asked))
        return answer["is_done"], answer["left"]

    def retry_held_up(self, run_id: int, lease: str, limit: int) -> HeldUp:
        """Try once more to set right the rows that somebody held a lock on, in this run or in one since yesterday.

        At most so many of each kind. Returns what is held up still.
        """
        answer = _unless_over(self.store.call("retry_held_up", {"run": run_id, "lease": lease, "limit": limit}))
        objects: dict[ReadKind, list[Held]] = {}
        for kind, *held in answer["objects"]:
            objects.setdefault(kind, []).append(cast("Held", tuple(held)))
        return HeldUp(answer["rows"], answer["refused"], answer["waiting"], objects)

    def held_repairs(self, run_id: int, kind: ReadKind, after: str, limit: int) -> Sequence[Held]:
        """List objects whose repair is held back, by their ids."""
        asked = {"run": run_id, "kind": kind, "after": after, "limit": limit}
        return [tuple(each) for each in _unless_over(self.store.call("held_repairs", asked))]

    def emptied_columns(self, run_id: int) -> Mapping[str, Mapping[str, int]]:
        """Count by kind and column the rows that lose their value by the repairs that are or were held back."""
        answer = _unless_over(self.store.call("emptied_columns", {"run": run_id}))
        return cast("Mapping[str, Mapping[str, int]]", answer)

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
        """Ends the run or, `running`, this process's work on it."""
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
        """Return what is known of each object of a page, elements as JSON, by kind and id.

        Whoever calls needs the rights of the owner of the schema; so for `check_objects`. Raises ChangeRefused.
        """
        answer = self.store.call("look_at_objects", {"of": "page"}, page) if page else []
        return {(kind, object_id): Known(*rest) for kind, object_id, *rest in answer}

    def check_objects(self, objects: Mapping[str, Sequence[str]]) -> Sequence[tuple[str, str, Sequence[str], bool]]:
        """Set right the rows of some objects like `check_rows`: kind, id, columns, and whether each is right now."""
        return [tuple(each) for each in self.store.call("check_objects", {"objects": objects})]

    def memberships_of(self, kind: ReadKind, object_id: str) -> Sequence[str]:
        """Ids of the memberships of a user or an organization that are shown."""
        return [str(each) for each in self.store.call("memberships_of", {"kind": kind, "id": object_id})]

    def known_as(self, object_id: str) -> tuple[str | None, Mapping[str, bool]]:
        """The instance that is mirrored, if any, and as which kinds this id is known, and whether deleted."""
        answer = self.store.call("known_as", {"id": object_id})
        return answer["instance_id"], answer["kinds"]


def _unless_over(answer: Any) -> Any:
    """The answer of a function; None means that the run is over, or taken over by another process."""
    if answer is None:
        raise RunTakenOver
    return answer


def _own(is_ours: object) -> None:
    if not is_ours:
        raise RunTakenOver
