"""Checks of the flow of events: queues, alarms, parked events, and the results of the last comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clerk_supabase_cli.doctor.patient import Patient, Stack
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, skipped, warn
from clerk_supabase_cli.operate.monitor.database_state import read_database
from clerk_supabase_cli.operate.monitor.problems import database_problems, queue_problems, unfinished_problems
from clerk_supabase_cli.operate.queues import Queues, client, errors_explained
from clerk_supabase_cli.printing import how_long, printable

# CloudWatch decides about a new alarm within minutes.
_UNDECIDED: Final = timedelta(hours=2)
_RUNBOOK: Final = "docs/runbook.md#"
_RUNS: Final = """
    select distinct on (r.mode)
        r.mode, r.run_id, r.state, r.reason, r.finished_at, r.is_silent,
        r.state = 'running' and (r.lease_until < now() - interval '1 hour' or r.started_at < now() - interval '1 day'),
        (
            select max(c.finished_at) from clerk_sync.reconcile_runs as c
            where not c.is_dry_run and c.state = 'complete' and c.mode in (r.mode, 'full')
        )
    from clerk_sync.reconcile_runs as r
    where not r.is_dry_run
    order by r.mode, r.run_id desc
"""

# Since the newest full comparison that ended: an older comparison may have seen objects restored since.
_DELETED_HERE: Final = """
    select max(f.run_id), count(distinct (f.kind, f.entity_id))
    from clerk_sync.reconcile_findings as f
    where f.difference = 'deleted here' and f.run_id >= (
        select max(r.run_id) from clerk_sync.reconcile_runs as r
        where r.mode = 'full' and not r.is_dry_run and r.state <> 'running'
    )
"""


def stack(patient: Patient) -> Iterator[Finding]:
    """Checks that the stack exists, and that the settings of its functions can be read."""
    found, functions = patient.stack(), patient.functions()
    yield ok(f"{found.name} is deployed{' to an emulated AWS' if found.is_emulated else ''}")
    if functions.reconcile is None:
        yield warn(
            "nothing compares Clerk with Postgres: a webhook that never arrives stays lost",
            f"deploy with UseClerkApi=true, then: clerk-supabase setup --store-secrets {found.name}",
        )


def queues(patient: Patient) -> Iterator[Finding]:
    """Checks the number and age of waiting messages, and the dead-letter queue."""
    found = patient.stack()
    depths = found.queues.depths()
    problems = list(queue_problems(depths))
    for problem in problems:
        yield fail(problem, "clerk-supabase status, and the log of sync: aws logs tail /aws/lambda/<stack>-sync")
    failed_runs = _failed_runs(found)
    if failed_runs:
        yield warn(f"failed comparisons for a person to look at: {failed_runs}", f"{_RUNBOOK}failedrunsalarm")
    if not problems and not failed_runs:
        waiting = sum(depth.total for depth in depths.values())
        yield ok(f"{waiting} events on their way, no dead letters")


def parked(patient: Patient) -> Iterator[Finding]:
    """Checks for parked events, and for deletes that are applied in parts."""
    with patient.database():
        found = read_database(patient.named.database_url)
    problems = list(database_problems(found))
    for problem in problems:
        yield fail(problem, f"clerk-supabase parked list; {_RUNBOOK}parkedalarm")
    for problem in unfinished_problems(found.unfinished):
        yield warn(problem, "sync and each run of reconcile go on; the log of sync says what refuses it, if so")
    if not problems:
        yield ok("no event waits for a person")


def _failed_runs(found: Stack) -> int:
    if not (url := found.outputs.get("FailedRunsQueueUrl")):
        return 0
    return Queues({"sync": url}).depths()["sync"].total


def alarms(patient: Patient) -> Iterator[Finding]:
    """Checks that every alarm of the stack exists, is armed, has a subscriber, and does not ring."""
    found = patient.stack()
    by_name = _alarm_names(found)
    with errors_explained():
        pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNames=list(by_name))
        there = [each for page in pages for each in page["MetricAlarms"]]
    named = {by_name[each["AlarmName"]]: each for each in there}
    problems = [*_ringing(named), *_unarmed(named), *_nobody_hears(named)]
    if lost := sorted(set(by_name.values()) - set(named)):
        problems.append(fail(f"gone from CloudWatch: {', '.join(lost)}", "they were deleted by hand: sam deploy"))
    yield from problems
    if not problems:
        yield ok(f"all {len(named)} are armed, and none rings")


def _alarm_names(found: Stack) -> dict[str, str]:
    """The name in the template of every alarm, by its name in CloudWatch."""
    with errors_explained():
        pages = client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=found.name)
        return {
            each["PhysicalResourceId"]: each["LogicalResourceId"]
            for page in pages
            for each in page["StackResourceSummaries"]
            if each["ResourceType"] == "AWS::CloudWatch::Alarm"
        }


def _ringing(alarms: Mapping[str, Any]) -> Iterator[Finding]:
    for name in _where(alarms, lambda alarm: alarm["StateValue"] == "ALARM"):
        yield fail(f"{name} rings: {alarms[name].get('AlarmDescription', '')}", f"{_RUNBOOK}{name.lower()}")
    since = datetime.now(UTC) - _UNDECIDED
    undecided = _where(
        alarms,
        lambda alarm: alarm["StateValue"] == "INSUFFICIENT_DATA" and alarm["StateUpdatedTimestamp"] < since,
    )
    if undecided:
        yield warn(
            f"CloudWatch has not been able to judge {', '.join(undecided)} for {how_long(_UNDECIDED.total_seconds())}",
            "do their metrics still exist under these names? sam deploy",
        )


def _unarmed(alarms: Mapping[str, Any]) -> Iterator[Finding]:
    if off := _where(alarms, lambda alarm: not alarm["ActionsEnabled"]):
        yield fail(f"switched off: {', '.join(off)}", "aws cloudwatch enable-alarm-actions --alarm-names ...")
    if mute := _where(alarms, lambda alarm: not alarm["AlarmActions"]):
        which = "no alarm has a topic" if len(mute) == len(alarms) else f"without a topic: {', '.join(mute)}"
        yield warn(which, "set AlarmTopicArn to an SNS topic with a subscription")


def _nobody_hears(alarms: Mapping[str, Any]) -> Iterator[Finding]:
    topics = {action for alarm in alarms.values() for action in alarm["AlarmActions"] if ":sns:" in action}
    with errors_explained():
        for topic in sorted(topics):
            found = client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
            if not any(each["SubscriptionArn"].startswith("arn:") for each in found):
                yield warn(
                    f"the topic {topic.rpartition(':')[2]} has no confirmed subscription",
                    "aws sns subscribe --topic-arn ... --protocol email --notification-endpoint ...",
                )


def _where(alarms: Mapping[str, Any], condition: Any) -> Sequence[str]:
    return sorted(name for name, alarm in alarms.items() if condition(alarm))


def reconcile(patient: Patient) -> Iterator[Finding]:
    """Checks the results and the times of the last comparisons."""
    with patient.database() as connection:
        runs = {row[0]: row[1:] for row in connection.execute(_RUNS)}
        [(deleted_here_by, deleted_here)] = connection.execute(_DELETED_HERE)
    if "full" not in runs:
        yield warn(
            "Clerk and Postgres were never compared", "clerk-supabase reconcile; it also adds the users from before"
        )
        return
    if deleted_here:
        yield fail(
            f"objects that Clerk has, and that were deleted here: {deleted_here}",
            f"clerk-supabase reconcile show {deleted_here_by} --difference 'deleted here'; {_RUNBOOK}deletedherealarm",
        )
    parameters = patient.stack().parameters if patient.has_stack else {}
    yield from _of_mode("full", runs["full"], _limit(parameters, "Full", "Hours", 3600))
    if "quick" in runs:
        yield from _of_mode("quick", runs["quick"], _limit(parameters, "Quick", "Minutes", 60))
    elif parameters.get("QuickReconcileState") == "DISABLED":
        yield skipped("quick: its schedule is switched off")
    else:
        yield warn("quick: never run", "is QuickReconcileState ENABLED? clerk-supabase reconcile --quick")


def _limit(parameters: Mapping[str, str], mode: str, unit: str, seconds: int) -> float | None:
    """Seconds after which a run is overdue; None without a schedule, or without a named stack."""
    overdue = parameters.get(f"{mode}ReconcileOverdue{unit}", "")
    is_on = parameters.get(f"{mode}ReconcileState") == "ENABLED"
    return float(overdue) * seconds if is_on and overdue else None


def _of_mode(mode: str, run: Sequence[Any], limit: float | None) -> Iterator[Finding]:
    run_id, state, reason, _, is_silent, is_cut_off, last_complete = run
    because = f": {printable(reason)}" if reason else ""
    show = f"clerk-supabase reconcile show {run_id}"
    age = None if last_complete is None else (datetime.now(UTC) - last_complete).total_seconds()
    if state == "stopped":
        yield fail(
            f"{mode}: run {run_id} was stopped by the brake{because}",
            f"{show}; then reconcile --allow-deletes N, if Clerk is right; {_RUNBOOK}brakealarm",
        )
    elif state == "failed":
        yield fail(f"{mode}: run {run_id} failed{because}", show)
    elif state == "incomplete" or is_cut_off:
        yield warn(f"{mode}: run {run_id} did not finish{because}", f"{show}; the next run compares the rest")
    else:
        ago = "" if age is None else f"; the last that was complete ended {how_long(age)} ago"
        yield ok(f"{mode}: run {run_id} is {state}{ago}{because}")
    if is_silent:
        yield fail(
            f"{mode}: Clerk has newer changes than the newest webhook",
            f"is the endpoint disabled in Clerk's dashboard? {_RUNBOOK}silencealarm",
        )
    if limit is not None and (age is None or age > limit):
        yield fail(
            f"{mode}: none was complete for {how_long(limit)}",
            f"is its schedule on? clerk-supabase reconcile runs; {_RUNBOOK}{mode}reconcileoverduealarm",
        )
