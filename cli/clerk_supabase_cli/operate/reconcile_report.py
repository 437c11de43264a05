"""The output of a comparison of Clerk with Postgres, during the run and afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import rich.progress

from clerk_supabase.model.facts import ReadKind
from clerk_supabase.model.found_kinds import FACTS, KIND_NAMES
from clerk_supabase.reconcile.drift import WRONG_CARRIER
from clerk_supabase.reconcile.pages import Progress
from clerk_supabase.reconcile.records import Finding, RunDetails, RunSummary
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.event_types import in_words, plural
from clerk_supabase_cli.printing import how_long, in_utc, print_json, printable, say
from clerk_supabase_cli.terminal import Listing, Terminal

DIFFERENCES: Final = ("missing", "stale", "different", "extra", "deleted here")
NAMED: Final = (*DIFFERENCES, "altered")
"""The differences of findings. An altered row is no loss: a trigger of the app stores another value."""
ON_A_PAGE: Final = 100
WHEN_STOPPED: Final = (
    "if Clerk is right, say how many: clerk-supabase reconcile --allow-deletes N, or --allow-emptied N"
)
"""The advice after the brake has stopped a run."""
_COUNTED: Final = (
    "listed", "compared", *DIFFERENCES, WRONG_CARRIER, "older", "altered", "repaired", "repairs sent", "overtaken",
    "deleted", "deletes sent",
)  # fmt: skip
_PLACES: Final[Mapping[str, int]] = {kind: place for place, kind in enumerate(KIND_NAMES)}
# The length of a list by Clerk's count: of use only to the run itself.
_NOT_SHOWN: Final = {"told"}


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows a progress bar on stderr, if stderr is a terminal."""
    console = Terminal(stderr=True)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=quiet or not console.is_live) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.kind not in tasks:
                tasks[progress.kind] = bar.add_task(KIND_NAMES[progress.kind], total=progress.expected)
            bar.update(tasks[progress.kind], completed=progress.compared, total=progress.expected)

        yield show
        # Of a list that Clerk does not count, the end is known now.
        for task in bar.tasks:
            if task.total is None:
                bar.update(task.id, total=task.completed)


def print_report(
    report: Report, details: RunDetails, seconds: float, *, as_json: bool, console: Terminal | None = None
) -> None:
    """Prints the result and the findings of a run."""
    console = console or Terminal()
    if as_json:
        print_json({"report": report, "findings": details.findings})
        return
    if report.state == "busy":
        console.say(f"{report.reason}: two runs exclude each other")
        return
    if details.findings:
        console.show(_groups_list(details.findings))
    print_run(details.run, console)
    if report.state == "stopped":
        console.say(WHEN_STOPPED)
    if any(each.get("repairs sent") or each.get("deletes sent") for each in details.run.counts.values()):
        show = f"clerk-supabase reconcile show {details.run.run_id}"
        console.say(f"sent: through the sync queue; to see if they are applied: {show}")
    for line in _ages(report.compared_until):
        console.say(line)
    console.say(f"took {how_long(seconds)}")


def _ages(compared_until: Mapping[ReadKind, int]) -> Iterator[str]:
    """A line for each second since which every row of some kinds was compared."""
    kinds_of: dict[str, list[str]] = {}
    for kind, until in compared_until.items():
        moment = in_utc(datetime.fromtimestamp(until / 1_000, UTC))
        kinds_of.setdefault(moment, []).append(kind)
    for moment, kinds in sorted(kinds_of.items()):
        names = [KIND_NAMES[kind] for kind in sorted(kinds, key=_place)]
        yield f"every row was compared since {moment} UTC: {', '.join(names)}"


def print_run(run: RunSummary, console: Terminal) -> None:
    """Prints the counts, the end and the times of a run."""
    if numbers := counts_list(run.counts):
        console.show(numbers)
    how = f"{', versions only' if run.versions_only else ''}{', dry run' if run.is_dry_run else ''}"
    what = f"run {run.run_id}, {run.mode}{how}: {run.state}"
    console.say(f"{what}{f'; {run.reason}' if run.reason else ''}")
    since = f"started {in_utc(run.started_at)} UTC"
    until = f", finished {in_utc(run.finished_at)} UTC" if run.finished_at else ""
    again = f", {run.invocations} invocations" if run.invocations > 1 else ""
    console.say(f"{since}{until}{again}, {run.calls} requests to Clerk")
    if run.undone_at:
        console.say(f"undone {in_utc(run.undone_at)} UTC: its deletes count for nothing")


def print_resync(object_id: str, report: Report) -> None:
    """Prints a line for each object that differed from Clerk, with its repair; then the numbers."""
    for each in report.objects:
        if each.done != "left as it was" or each.why:
            say(printable(f"{in_words(each.kind)} {each.id}: {each.done}{f', {each.why}' if each.why else ''}"))
    numbers = [
        f"{number:,} {in_words(kind) if number == 1 else plural(kind)} {done}"
        for kind, of_kind in report.counts.items()
        for done, number in of_kind.items()
    ]
    said = ", ".join(filter(None, [report.state, *numbers]))
    say(printable(f"{object_id}: {said}{f'; {report.reason}' if report.reason else ''}"))


def counts_list(counts: Mapping[str, Mapping[str, int]]) -> Listing | None:
    """A list with a row for each kind and each table of the app; None without counts."""
    counted = {name for each in counts.values() for name in each} - _NOT_SHOWN
    if not counted:
        return None
    names = [name for name in _COUNTED if name in counted] + sorted(counted - set(_COUNTED))
    listed = Listing("kind", "objects")
    for kind, numbers in sorted(counts.items(), key=lambda each: _place(each[0])):
        said = [_number(numbers[name], _word(kind, name)) for name in names if numbers.get(name)]
        listed.add_row(in_words(kind), ", ".join(said) or "none")
    return listed


def _place(kind: str) -> int:
    """The place of a kind in every list, as jsonb sorts its keys by their lengths. Tables of the app come last."""
    return _PLACES.get(kind, len(_PLACES))


def _word(kind: str, name: str) -> str:
    """The word for a number of objects of a kind."""
    if name == WRONG_CARRIER:
        return f"whose {in_words(FACTS[kind].carrier)} is missing or wrong"
    return name.replace("_", " ")


def _number(number: int, name: str) -> str:
    """`12 repaired`, `1 repair sent`, `2 repairs sent`."""
    return f"{number:,} {name.replace('s sent', ' sent') if number == 1 else name}"


def _groups_list(findings: Sequence[Finding]) -> Listing:
    """A list with a row for all objects that differed in the same way, the most frequent difference first."""
    groups = Counter((each.kind, each.difference, each.cause, tuple(each.fields or ())) for each in findings)
    examples: dict[tuple[Any, ...], str] = {}
    for each in findings:
        examples.setdefault((each.kind, each.difference, each.cause, tuple(each.fields or ())), each.entity_id)
    grouped = Listing("difference", "objects", "for example", "likely cause", "columns", numbers={"objects"})
    for group, number in groups.most_common(ON_A_PAGE):
        kind, difference, cause, fields = group
        grouped.add_row(f"{in_words(kind)} {difference}", f"{number:,}", examples[group], cause, ", ".join(fields))
    return grouped


def findings_list(findings: Sequence[Finding]) -> Listing:
    """A list with a row for each different object."""
    found = Listing("object", "kind", "difference", "done", "likely cause", "columns")
    for each in findings:
        columns = ", ".join(each.fields or ())
        found.add_row(each.entity_id, in_words(each.kind), each.difference, what_was_done(each), each.cause, columns)
    return found


def what_was_done(finding: Finding) -> str:
    """The repair or delete of a difference and its outcome, in words."""
    sent = f"sent {in_utc(finding.sent_at)}" if finding.sent_at else ""
    match finding.outcome:
        case "settled":
            done = "deleted" if finding.action == "delete" else "repaired"
            return f"{done} ({sent})" if sent else done
        case "sent":
            return f"{finding.action} {sent}, not applied yet"
        case "waiting for proof":
            return f"{finding.action} waits for its second proof, by a later run"
        case "held back":
            return f"{finding.action} held back by the brake"
        case "held up":
            return f"{finding.action} held up by a lock, tried again by the next runs"
        case "nothing" | "hidden with its organization" | "hidden with its user":
            return finding.outcome
    return f"{finding.action} {finding.outcome}{f' ({sent})' if sent else ''}"


def runs_list(runs: Sequence[RunSummary]) -> Listing:
    """A list with a row for each run."""
    numbers = "run", "compared", "differed"
    listed = Listing("run", "state", "started (UTC)", "took", "compared", "differed", "mode", "reason", numbers=numbers)
    for run in runs:
        took = how_long((run.finished_at - run.started_at).total_seconds()) if run.finished_at else ""
        listed.add_row(
            str(run.run_id),
            run.state,
            in_utc(run.started_at),
            took,
            f"{total(run, 'compared'):,}",
            f"{differences(run):,}",
            f"{run.mode}, dry run" if run.is_dry_run else run.mode,
            run.reason or "",
        )
    return listed


def differences(run: RunSummary) -> int:
    """The number of objects that differed."""
    # Not the findings: a back-fill keeps only their number.
    return sum(total(run, name) for name in (*DIFFERENCES, WRONG_CARRIER))


def total(run: RunSummary, name: str) -> int:
    """The number of objects of all kinds that a run counted under this name, such as `compared`."""
    return sum(of_kind.get(name, 0) for of_kind in run.counts.values())
