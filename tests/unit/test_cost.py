"""docs/cost.md follows from the measured figures, the template and the prices, and the arithmetic is right."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import cost
from tests.bench.prices import ASSUMED, PRICES
from tests.bench.results import Result, write

STACK = cost.Stack(
    memory_mb={"IngestFunction": 512, "SyncFunction": 512, "ReconcileFunction": 1024},
    batch_size=10,
    queues_polled=3,
    methods=1,
    alarm_metrics=10,
    own_metrics=20,
    dashboards=1,
    secrets=2,
    full_runs=30,
    quick_runs=2880,
)
MEASURED = {
    "event, size": 100_000.0,
    "ingest, CPU": 1.0,
    "ingest, log": 300.0,
    "sync, batch of 10, CPU": 2.0,
    "sync, batch of 10, waited for Postgres here": 3.0,
    "sync, batch of 10, log": 1_000.0,
    "reconcile, CPU of a user": 10.0,
    "reconcile, requests": 2_000.0,
}


def test_the_document_says_what_follows_from_the_figures(root: Path) -> None:
    is_text, should_be = cost.document_with(root)
    assert is_text == should_be, "run `make cost ARGS=--write`"


def test_the_readme_names_the_prices_of_the_document(root: Path) -> None:
    totals = re.findall(r"\*\*([\d.]+)\*\*", (root / cost.DOCUMENT).read_text(encoding="utf-8"))
    slow, busy, month = (round(float(total)) for total in totals)
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    assert f"about ${month} a month for AWS without any traffic, and ${busy} to ${slow} for a million events" in readme


def test_a_million_events_cost_what_each_service_charges_for_them() -> None:
    lines = cost.per_million_events(STACK, MEASURED, batch=10, rate=100)
    assert lines == pytest.approx(
        {
            "API Gateway": 3.5,
            "Lambda, requests": 0.2 * 1.1,
            # 10 ms for SQS and 1 ms of a whole processor, of which 512 MB are 0.289: 13.5, billed as 14.
            "Lambda, ingest (14 ms)": 1e6 * 0.5 * 0.014 * 0.0000133334,
            "Lambda, sync (15 ms a batch)": 1e5 * 0.5 * 0.015 * 0.0000133334,
            # 100 kB are two chunks: sent alone, received in tens; deleted in tens.
            "SQS: sent, received, deleted": 0.4 * (2 + 0.2 + 0.1),
            "logs": 0.5 * (300 + 100 + 1.1 * 700) * 1e6 / 1e9,
            "traces": 5 * ((1 + 0.05 * 99) / 100 + (1 + 0.05 * 9) / 10 / 10),
            "data to Supabase, outside of AWS": 0.09 * 100_000 * 1.2 * 1e6 / 1e9,
        }
    )


def test_slow_traffic_is_traced_whole() -> None:
    assert cost.per_million_events(STACK, MEASURED | one_by_one(), batch=1, rate=0.4)["traces"] == pytest.approx(10.0)


def one_by_one() -> dict[str, float]:
    return {name.replace("of 10", "of 1"): value for name, value in MEASURED.items() if "of 10" in name}


def test_a_function_with_more_memory_than_a_processor_needs_gets_no_faster() -> None:
    whole = replace(STACK, memory_mb={"IngestFunction": 3_538})
    assert cost.billed_ms(whole, "IngestFunction", 100, 0) == 100
    assert cost.billed_ms(STACK, "IngestFunction", 100, 0) == 346


def test_a_stack_that_idles_costs_its_alarms_metrics_secrets_and_polling() -> None:
    assert list(cost.per_month(STACK).values()) == pytest.approx(
        [1.0, 6.0, 1.5, 3.0, 0.8, 0.05 * 7 * 3 * 8_640 / 10_000, 0.4 * 3 * 5 * 3 * 43_200 / 1e6]
    )


def test_reconcile_waits_for_clerk_with_all_its_threads_at_once() -> None:
    full, nightly, _ = cost.per_million_users(STACK, MEASURED).values()
    seconds = 2_000 * 0.5 / 8 + 10 * 1_769 / 1_024
    assert full == pytest.approx(seconds * 0.0000133334, rel=1e-3)
    assert nightly == pytest.approx(30 * full)


def test_the_stack_is_the_templates(root: Path) -> None:
    stack = cost.Stack.of(root)
    assert stack.memory_mb["IngestFunction"] == 512
    assert stack.memory_mb["ReconcileFunction"] == 1024
    assert (stack.batch_size, stack.queues_polled, stack.methods, stack.secrets) == (10, 3, 3, 4)
    assert stack.alarm_metrics > 20
    assert stack.own_metrics > 20


def test_every_price_and_every_assumption_is_printed(root: Path) -> None:
    text = (root / cost.DOCUMENT).read_text(encoding="utf-8")
    for price in PRICES.values():
        assert price.source.startswith("https://")
        assert f"| {price.name} |" in text
    for assumed in ASSUMED.values():
        assert assumed.text in text


def test_the_figures_of_bench_are_written_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write([Result("event, size", "", "", 4123.96, "bytes")], file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"event, size": {"value": 4124.0, "unit": "bytes"}}
