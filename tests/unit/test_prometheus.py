"""`clerk-supabase status --prometheus`, read by the parser of Prometheus's own client."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from clerk_supabase_cli.operate.monitor.database_state import Reason
from clerk_supabase_cli.operate.monitor.prometheus import exposition
from clerk_supabase_cli.operate.monitor.status import Status
from tests.kit.screens import made_up_status

HOSTILE = 'x"} 1\n# HELP \\ \x1b[2J'


def samples(status: Status) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels; fails for a sample given twice."""
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(exposition(status) + "\n")
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_prometheus_reads_every_part_of_the_status() -> None:
    found = samples(made_up_status())
    assert found["clerk_supabase_healthy", frozenset()] == 0
    assert found["clerk_supabase_database_up", frozenset()] == 1
    assert ("clerk_supabase_database_unavailable_since_timestamp_seconds", frozenset()) in found
    assert found["clerk_supabase_queue_messages", frozenset({("queue", "sync"), ("state", "waiting")})] == 12345
    assert found["clerk_supabase_event_lag_seconds", frozenset({("span", "hour"), ("quantile", "0.99")})] == 12.5
    assert found["clerk_supabase_compared_age_seconds", frozenset({("kind", "user")})] == 101.7


def test_the_words_of_a_sender_stay_a_label() -> None:
    status = made_up_status()
    assert status.database is not None
    [reason] = status.database.reasons
    hostile: list[Reason] = [reason, replace(reason, event_type=HOSTILE)]
    found = samples(replace(status, database=replace(status.database, reasons=hostile)))
    assert len(found) == len(samples(status)) + 1


def test_a_database_that_does_not_answer_is_no_missing_health() -> None:
    found = samples(Status(None, None, {}, {"database": "down"}, is_unreachable=True))
    assert found == {("clerk_supabase_healthy", frozenset()): 0, ("clerk_supabase_database_up", frozenset()): 0}
