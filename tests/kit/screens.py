"""The lists of all commands with made-up content, as printed at several widths.

`python -m tests.kit.screens` writes them into tests/unit/screens, for tests/unit/test_terminal.py.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.text import Text

from clerk_supabase.reconcile.records import Finding, RunDetails, RunSummary
from clerk_supabase.reconcile.report import Report
from clerk_supabase_cli.adopt.differences import Comparison, Sample
from clerk_supabase_cli.commands.adopt.compare import print_comparisons
from clerk_supabase_cli.commands.deploy.doctor import print_results
from clerk_supabase_cli.commands.develop.clerk import objects_list
from clerk_supabase_cli.commands.operate.parked import parked_list
from clerk_supabase_cli.doctor.verdicts import Result, fail, ok, skipped, warn
from clerk_supabase_cli.local.demo import Difference, result_list
from clerk_supabase_cli.local.dev.reload import INDENT
from clerk_supabase_cli.local.dev.stream import Applied, stream_lines
from clerk_supabase_cli.operate.monitor.database_state import (
    Compared,
    Database,
    Lag,
    LeftOut,
    NotPurged,
    Reason,
    Recent,
    Unfed,
    WrongInstance,
)
from clerk_supabase_cli.operate.monitor.explain import Entity, Moment, report, report_queued
from clerk_supabase_cli.operate.monitor.function_logs import Outage
from clerk_supabase_cli.operate.monitor.queued import QueuedEvent
from clerk_supabase_cli.operate.monitor.report import report as status_report
from clerk_supabase_cli.operate.monitor.status import Status
from clerk_supabase_cli.operate.parked import ParkedEvent
from clerk_supabase_cli.operate.queues import Depth
from clerk_supabase_cli.operate.reconcile_report import findings_list, print_report, runs_list
from clerk_supabase_cli.terminal import Terminal

SCREENS: Final = Path(__file__).parents[1] / "unit" / "screens"
WIDTHS: Final[tuple[int | None, ...]] = (80, 120, 200, None)
"""None: a pipe."""

_AT: Final = datetime(2026, 11, 28, 15, 53, 18, 123456, UTC)
# As long as Clerk's and Svix's.
USER: Final = "user_2abcdefghijklmnopqrstuvwxyzA"
MEMBERSHIP: Final = "orgmem_2abcdefghijklmnopqrstuvwxyzA"
EVENT: Final = "msg_2abcdefghijklmnopqrstuvwxyzA"
IDS: Final = (USER, MEMBERSHIP, EVENT, f"reconcile-42000-{MEMBERSHIP}")
_WHY: Final = (
    "Postgres refuses the data: CheckViolation (23514), table users, constraint users_age_of_the_app_is_no_negative_one"
)
_TYPE: Final = "organizationMembership.created"


def written(width: int | None) -> str:
    """All screens at a width, each below the command that prints it."""
    out = io.StringIO()
    for command, show in _SCREENS.items():
        out.write(f"$ clerk-supabase {command}\n")
        show(Terminal(file=out, width=width))
        out.write("\n")
    return out.getvalue()


def file_of(width: int | None) -> Path:
    """The file with the screens at a width."""
    return SCREENS / f"{width or 'pipe'}.txt"


def made_up_status() -> Status:
    """A status with something in every part."""
    lag = Lag(0.026, 0.135, 12.5)
    recent = Recent({"created": 1234, "updated": 56789, "deleted_before": 2}, lag, lag)
    compared = Compared(_AT, _AT, is_switched_off=False, age_seconds=101.7)
    database = Database(
        events={"parked": 7, "replayed": 1, "settled": 2, "discarded": 0},
        overdue=1,
        reasons=[Reason("refused", _TYPE, 7, _AT)],
        last_delivery=_AT,
        recent={"hour": recent, "day": recent},
        left_out=LeftOut(3, USER),
        not_purged=[NotPurged("organization_membership", _WHY, 2, _AT)],
        unfinished=[],
        unfed=[Unfed("public.team_members", "23514", _WHY, 1, _AT)],
        wrong_instances=[
            WrongInstance("ins_2Other00000000000000000000", 3, _AT, is_recent=True, mirrored="ins_2Own0000")
        ],
        compared={
            "user": compared,
            "organization": replace(compared, is_switched_off=True),
            "subscription": Compared(None, None, is_switched_off=False, age_seconds=None),
            "subscription_item": compared,
            "payment_attempt": Compared(None, None, is_switched_off=False, age_seconds=None),
        },
        differing_objects=2,
    )
    depth = Depth(12345, 200, 7, 640.0)
    queues = {"sync": depth, "dead_letters": replace(depth, oldest_seconds=None), "parked": Depth(0, 0, 0, 0.0)}
    outage = Outage(_AT, _AT + timedelta(minutes=2), "connection refused: nothing listens at this host and port")
    return Status(database, queues, {"logs": "name them"}, {}, outage=outage)  # type: ignore[arg-type]


def _parked() -> Iterator[ParkedEvent]:
    event = ParkedEvent(
        parked_id=1,
        svix_id=EVENT,
        event_type=_TYPE,
        entity_id=MEMBERSHIP,
        reason_class="refused",
        reason=_WHY,
        first_reason=_WHY,
        attempts=1,
        received_at=_AT,
        first_parked_at=_AT,
        last_parked_at=_AT,
        replayed_at=None,
        discarded_at=None,
        discarded_by=None,
        has_body=True,
        outcome=None,
        applied_at=None,
        state="parked",
    )
    yield event
    yield replace(event, svix_id=IDS[3], entity_id=USER, has_body=False, event_type="user.created")
    yield replace(event, event_type=None, entity_id=None, state="settled", outcome="created", reason="\x1b[2Jno JSON")


_FINDING: Final = Finding(
    "membership",
    MEMBERSHIP,
    "different",
    "repair",
    ("two_factor_enabled", "public_metadata", "email_addresses"),
    "its last change did not arrive",
    None,
    _AT,
    _AT,
    "settled",
)
_FINDINGS: Final = (
    _FINDING,
    replace(_FINDING, kind="user", entity_id=USER, difference="missing", fields=None, cause="it never arrived"),
    replace(_FINDING, difference="extra", action="delete", sent_at=None, outcome="hidden with its organization"),
)
_COUNTS: Final = {
    kind: {"listed": 1_234_567, "compared": 1_234_567, "different": 1, "deleted_here": 12, "repaired": 12}
    for kind in ("organization_membership", "user", "feed public.team_members")
}
_RUN: Final = RunSummary(
    run_id=42_000,
    mode="quick",
    is_dry_run=True,
    versions_only=False,
    allow_deletes=None,
    state="incomplete",
    reason="Clerk's list of users changed while it was read, and 12 objects could not be compared",
    as_of=0,
    started_at=_AT,
    finished_at=_AT + timedelta(minutes=3),
    invocations=2,
    calls=123_456,
    expected={},
    counts=_COUNTS,
    newest_change=None,
    newest_delivery=None,
    is_silent=None,
)


def _reconcile(console: Terminal) -> None:
    report_of_run = Report(_RUN.run_id, _RUN.mode, _RUN.state, _RUN.reason, _COUNTS, findings=3, calls=_RUN.calls)
    details = RunDetails(_RUN, [], list(_FINDINGS), len(_FINDINGS))
    print_report(report_of_run, details, 1.0, as_json=False, console=console)


def _explain(console: Terminal) -> None:
    entity = Entity("user", _AT, _AT, _AT, 42_000, _AT, None)
    moments = [
        Moment(_AT, "user insert", f"{USER} (delivery)", EVENT, None, None),
        Moment(_AT, "webhook", "user.created: created", EVENT, None, 2.8),
        Moment(_AT, "parked", f"{_TYPE}: refused: {_WHY}", EVENT, None, None),
        Moment(_AT, "reconcile", "user stale: its last change did not arrive, public_metadata", None, 42000, None),
    ]
    queued = QueuedEvent(_AT, "user.updated", EVENT, _AT, "the role may not log in")
    for line in (*report(USER, [entity], moments), *report_queued([queued, replace(queued, failed_at=None)])):
        console.say(line, indent=4)


def _doctor(console: Terminal) -> None:
    long = "a sentence about a deployment, of so many words that it takes more than a line of a terminal, " * 2
    found = [
        Result("stack", "what", [ok(long), warn(long, long)], 0.0),
        Result("supabase-settings", "what", [fail(f"{USER} {EVENT}", long)], 0.0),
        Result("token", "what", [skipped("no token was given")], 0.0),
    ]
    print_results(found, console)


def _dev(console: Terminal) -> None:
    logged = (
        f'{{"level":"INFO","message":"updated","timestamp":"2026-11-28 15:53:18,123+0000","svix_id":"{EVENT}",'
        f'"event_type":"user.updated","object_id":"{USER}"}}'
    )
    failed = logged.replace("INFO", "ERROR").replace('"updated', '"event parked').replace("}", f',"reason":"{_WHY}"}}')
    away = (
        f'{{"level":"ERROR","message":"not applied, SQS delivers again","reason":"x","svix_ids":["{EVENT}","msg_2"]}}'
    )
    for message in (logged, logged.replace('"updated', '"duplicate'), failed, away):
        for line in stream_lines("sync", message, {EVENT: Applied(0.4, ("first_name", "public_metadata"))}):
            # The local time of this machine.
            console.say(Text("15:53:18") + line[8:], indent=INDENT)


def _clerk(console: Terminal) -> None:
    user = {"id": USER, "name": "Ada Lovelace-Example", "email": "ada.lovelace@long-name.example.test", "banned": True}
    console.show(objects_list([user, {"id": "org_2abc", "name": "有限会社 Labs", "email": None, "banned": False}]))


def _compare(console: Terminal) -> None:
    compared = Comparison(
        name="users", table="public.profiles", objects=3, rows=4, unlinked=1, missing=1, unknown=1, deleted=0, kept=1,
        not_cleared=0, double=0, columns={"display_name": 2},
        samples={"missing": [Sample(USER, None, None)], "display_name": [Sample(USER, None, None)] * 2},
    )  # fmt: skip
    print_comparisons([compared], console, is_listed=False)


def _demo(console: Terminal) -> None:
    outcomes = Counter({"created": 100, "updated": 300, "unchanged": 9, "stale": 5, "deleted": 20, "deleted_before": 7})
    before, after = Difference(260, 3, 5, 7), Difference(258, 0, 0, 0)
    console.show(result_list(7, outcomes, before, after, sent=682, lost=21, users=258))


_SCREENS: Final[Mapping[str, Callable[[Terminal], None]]] = {
    "status": lambda console: console.show(*status_report(made_up_status())),
    "parked list": lambda console: console.show(parked_list(list(_parked()))),
    "reconcile": _reconcile,
    "reconcile runs": lambda console: console.show(runs_list([_RUN, replace(_RUN, run_id=7, reason=None)])),
    "reconcile show 42": lambda console: console.show(findings_list(_FINDINGS)),
    f"explain {USER}": _explain,
    "doctor": _doctor,
    "dev": _dev,
    "clerk list": _clerk,
    "adopt compare": _compare,
    "demo": _demo,
}


if __name__ == "__main__":
    SCREENS.mkdir(exist_ok=True)
    for each in WIDTHS:
        file_of(each).write_text(written(each))
