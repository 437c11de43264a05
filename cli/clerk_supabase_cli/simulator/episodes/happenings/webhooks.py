"""Steps on the way from Clerk to the tables: webhooks arrive, late or never, and an operator moves messages."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from clerk_supabase.aws.queue import Queue
from clerk_supabase.model.envelope import ParkedEvent
from clerk_supabase_cli.operate import parked
from clerk_supabase_cli.simulator.episodes.outcomes import Outcomes
from clerk_supabase_cli.simulator.episodes.stage import Stage


def arrive(stage: Stage, chance: Random, *, lost: float = 0.0) -> None:
    """Waiting webhooks arrive in any order, some twice, some late; the share `lost` never arrives."""
    late = chance.choice((0.0, 0.0, 0.5))
    due, stage.late = [*stage.untold(), *stage.late], []
    if stage.delayed and chance.random() < 0.4:
        due, stage.delayed = [*due, *stage.delayed], []
    envelopes = [each for each in due for _ in range(chance.choice((1, 1, 2))) if chance.random() >= lost]
    if chance.random() < 0.5:
        chance.shuffle(envelopes)
    stage.late = [each for each in envelopes if chance.random() < late]
    stage.send(each for each in envelopes if each not in stage.late)
    _drain(stage, chance.random() < 0.15)


def redeliveries(stage: Stage, chance: Random) -> None:
    """Time passes, and SQS delivers the messages in the queues again."""
    stage.pass_time(chance.choice((180, 180, 900)))
    _drain(stage, chance.random() < 0.15)


def _drain(stage: Stage, forgets: bool) -> None:
    outcomes = Outcomes(stage)
    staying = stage.work_off(forgets=forgets)
    if not stage.is_alone:
        return
    stage.wrong += outcomes.untrue()
    related = rows_in_trouble(stage)
    for envelope, why in staying:
        if not any(each.encode() in envelope.body for each in related):
            stage.wrong.append(f"{envelope.svix_id} is held up by another: {why}")


def rows_in_trouble(stage: Stage) -> set[str]:
    """Ids of the rows under a rule or lock, and of their parents and children."""
    troubled = stage.rules.ids()
    found = set(troubled)
    for place, row in stage.snapshot().rows.items():
        if place[1] in troubled:
            # A payer is a user or an organization: one of the two columns is null.
            found |= {row[key] for key in ("clerk_org_id", "clerk_user_id") if row.get(key) is not None}
        elif troubled & {row.get("clerk_org_id"), row.get("clerk_user_id")}:
            found.add(place[1])
    return found


def moved_by_hand(stage: Stage, chance: Random) -> None:
    """The operator moves a message into the parked queue, and types its attributes."""
    due, stage.late = [*stage.untold(), *stage.late], []
    if due:
        moved = due.pop(chance.randrange(len(due)))
        envelope = replace(moved, attempts=chance.choice((3, 10**8, 2**31, 10**14)))
        Queue(stage.sqs.client, "parked").park(ParkedEvent(envelope, "exhausted", "moved by hand"))
        stage.rules.has_ever_refused = True
    stage.send(due)
    _drain(stage, forgets=False)


def no_webhooks(stage: Stage, _: Random) -> None:
    """The endpoint is switched off: the waiting webhooks are lost."""
    stage.untold()
    stage.late = []


def replay(stage: Stage, _: Random) -> None:
    """The operator sends parked events again."""
    parked.replay(stage.admin, stage.sync_queue, parked.Selection(states=("parked",)))
    stage.work_off()
