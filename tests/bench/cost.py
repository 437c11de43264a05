"""`make cost`: the charges of AWS, from measured.json, the template and a table of prices, for docs/cost.md.

No real bill: free tiers are left out, the waits of AWS are assumed, and every assumption is printed with the result.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

import click
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase_cli.project import find_root
from tests.bench.prices import ASSUMED, PRICES
from tests.supply.marked import written

DOCUMENT: Final = Path("docs/cost.md")
MEASURED: Final = Path("tests/bench/measured.json")
MILLION: Final = 1_000_000
_GB: Final = 1e9
_SECONDS_A_MONTH: Final = 30 * 86_400


Measured = Mapping[str, float]
Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Stack:
    """As much of the template and the code as costs something."""

    memory_mb: Mapping[str, int]
    batch_size: int
    queues_polled: int
    methods: int
    alarm_metrics: int
    own_metrics: int
    dashboards: int
    secrets: int
    full_runs: int
    quick_runs: int

    @classmethod
    def of(cls, root: Path) -> Stack:
        """The stack of the template with all its options."""
        text = (root / "template.yaml").read_text(encoding="utf-8")
        template = yaml_parse(text)
        usual = template["Globals"]["Function"]["MemorySize"]
        functions = _of_type(template, "AWS::Serverless::Function")
        events = [event for each in functions.values() for event in each["Events"].values()]
        queues = [event["Properties"] for event in events if event["Type"] == "SQS"]
        code = "".join(
            file.read_text(encoding="utf-8") for file in (root / "layers/shared/clerk_supabase").rglob("*.py")
        )
        return cls(
            memory_mb={name: each.get("MemorySize", usual) for name, each in functions.items()},
            batch_size=queues[0]["BatchSize"],
            queues_polled=len(queues),
            methods=len([event for event in events if event["Type"] == "Api"]),
            alarm_metrics=sum(
                len([one for one in each.get("Metrics", [{"MetricStat": {}}]) if "MetricStat" in one])
                for each in _of_type(template, "AWS::CloudWatch::Alarm").values()
            ),
            own_metrics=len(_own_metrics(code, text, list(_metrics_of(template)))),
            dashboards=len(_of_type(template, "AWS::CloudWatch::Dashboard")),
            secrets=len(_of_type(template, "AWS::SecretsManager::Secret")),
            full_runs=30,
            quick_runs=30 * 24 * 4,
        )


def _own_metrics(code: str, text: str, watched: Iterable[str]) -> set[tuple[str, str]]:
    """Names of metrics, each with the value of a dimension or none; CloudWatch charges for each.

    The dashboard, read as *text*, shows the metrics whose names or dimensions the code makes up. *watched*: names of
    the metrics in alarms.
    """
    counted = re.findall(r'\b(?:count|count_by|took)\(\s*"(\w+)"', code)
    shown = re.findall(r'"ClerkSupabaseSync", "(\w+)", "service", "[^"]+"(?:, "\w+", "(\w+)")?', text)
    return {(name, "") for name in (*counted, *watched)} | set(shown)


def _metrics_of(template: Mapping[str, Any]) -> Iterator[str]:
    """The names of our own metrics that alarms watch."""
    for alarm in _of_type(template, "AWS::CloudWatch::Alarm").values():
        of_several = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", ()) if "MetricStat" in each]
        for metric in (alarm, *of_several):
            if metric.get("Namespace") == "ClerkSupabaseSync":
                yield metric["MetricName"]


def _of_type(template: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in template["Resources"].items() if each["Type"] == kind}


def billed_ms(stack: Stack, function: str, cpu_ms: float, waited_ms: float) -> int:
    """Lambda rounds up to the millisecond."""
    share = min(1.0, stack.memory_mb[function] / ASSUMED["vcpu"].value)
    return ceil(cpu_ms * ASSUMED["architecture"].value / share + waited_ms)


def _gb_seconds(stack: Stack, function: str, milliseconds: float) -> float:
    return stack.memory_mb[function] / 1024 * milliseconds / 1000


def _cost(price: str, amount: float) -> float:
    return PRICES[price].dollars * amount


def per_million_events(stack: Stack, measured: Measured, batch: int, rate: float) -> dict[str, float]:
    """Dollars by purpose; *rate*: events a second."""
    invocations = 1 + 1 / batch
    ingest = billed_ms(stack, "IngestFunction", measured["ingest, CPU"], ASSUMED["send"].value)
    sync = billed_ms(
        stack,
        "SyncFunction",
        measured[f"sync, batch of {batch}, CPU"],
        measured[f"sync, batch of {batch}, waited for Postgres here"] + ASSUMED["round trip"].value,
    )
    logged = measured["ingest, log"] + measured[f"sync, batch of {batch}, log"] / batch
    chunks = ceil(measured["event, size"] / 65_536)
    return {
        "API Gateway": _cost("api", 1),
        "Lambda, requests": _cost("lambda requests", invocations),
        f"Lambda, ingest ({ingest} ms)": _cost("lambda time", MILLION * _gb_seconds(stack, "IngestFunction", ingest)),
        f"Lambda, sync ({sync} ms a batch)": _cost(
            "lambda time", MILLION / batch * _gb_seconds(stack, "SyncFunction", sync)
        ),
        "SQS: sent, received, deleted": _cost("sqs", chunks * (1 + 1 / batch) + 1 / batch),
        "logs": _cost("logs", MILLION * (logged + invocations * ASSUMED["platform"].value) / _GB),
        "traces": _cost("trace", _traced(rate) + _traced(rate / batch) / batch),
        "data to Supabase, outside of AWS": _cost(
            "out", MILLION * measured["event, size"] * ASSUMED["overhead"].value / _GB
        ),
    }


def _traced(per_second: float) -> float:
    """The share of requests recorded by X-Ray: the first of each second, and 5 % of the rest."""
    return min(1.0, (1 + 0.05 * max(0.0, per_second - 1)) / per_second)


def per_month(stack: Stack) -> dict[str, float]:
    """Dollars a month that do not depend on the traffic."""
    polls = stack.queues_polled * ASSUMED["pollers"].value * 3 * _SECONDS_A_MONTH / 60
    # Ingest reads one secret, sync and retry one, reconcile two, session two.
    reads = 7 * ASSUMED["environments"].value * _SECONDS_A_MONTH / 300
    return {
        f"alarms on {stack.alarm_metrics} metrics": _cost("alarm", stack.alarm_metrics),
        f"{stack.own_metrics} metrics of its own": _cost("metric", stack.own_metrics),
        f"detailed metrics of {stack.methods} API methods": _cost("metric", stack.methods * ASSUMED["detailed"].value),
        f"{stack.dashboards} dashboards": _cost("dashboard", stack.dashboards),
        f"{stack.secrets} secrets": _cost("secret", stack.secrets),
        "reading them": _cost("secret calls", reads / 10_000),
        f"asking {stack.queues_polled} empty queues": _cost("sqs", polls / MILLION),
    }


def per_million_users(stack: Stack, measured: Measured) -> dict[str, float]:
    """Dollars for reconciling: one full comparison, and a month of both kinds."""
    threads = ReconcileSettings().threads
    pages = measured["reconcile, requests"]
    waited = pages * ASSUMED["page"].value / threads
    run = billed_ms(stack, "ReconcileFunction", measured["reconcile, CPU of a user"] * MILLION / 1e3, waited)
    full = _cost("lambda time", _gb_seconds(stack, "ReconcileFunction", run))
    quick = _cost("lambda time", _gb_seconds(stack, "ReconcileFunction", ASSUMED["quick"].value * 1000))
    return {
        f"one full comparison ({run / 1000:.0f} s, {pages:,.0f} requests to Clerk)": full,
        f"{stack.full_runs} of them, a month": stack.full_runs * full,
        f"{stack.quick_runs:,} quick ones, a month": stack.quick_runs * quick,
    }


def tables(root: Path) -> dict[str, str]:
    """Each part of docs/cost.md by its name."""
    stack = Stack.of(root)
    results = json.loads((root / MEASURED).read_text(encoding="utf-8"))
    measured = {name: each["value"] for name, each in results.items()}
    slow = per_million_events(stack, measured, 1, ASSUMED["slow"].value)
    busy = per_million_events(stack, measured, stack.batch_size, ASSUMED["busy"].value)
    month = per_month(stack)
    users = per_million_users(stack, measured)
    return {
        "events": _table(("a million events", "slow traffic", "busy traffic"), _side_by_side(slow, busy)),
        "month": _table(("a month", "$"), [*_rows(month), _total(month)]),
        "users": _table(("a million users", "$"), [(name, f"{each:.3f}") for name, each in users.items()]),
        "measured": _table(
            ("measured", "value"), [(name, f"{each['value']:g} {each['unit']}") for name, each in results.items()]
        ),
        "assumed": "\n".join(f"- {each.value:g} {each.text}." for each in ASSUMED.values()),
        "prices": _table(
            ("price", "$", "for a", "as of"),
            [
                (each.name, f"{each.dollars:.10f}".rstrip("0").rstrip("."), each.unit, f"[{each.as_of}]({each.source})")
                for each in PRICES.values()
            ],
        ),
    }


def _side_by_side(slow: Mapping[str, float], busy: Mapping[str, float]) -> Rows:
    """The costs of two rates side by side: a name has both texts where the brackets of the names differ."""
    names = [
        one if one == other else f"{one.removesuffix(')')}, {other.partition('(')[2]}"
        for one, other in zip(slow, busy, strict=True)
    ]
    both = zip(names, _rows(slow), _rows(busy), strict=True)
    return [*((name, one[1], other[1]) for name, one, other in both), (*_total(slow), _total(busy)[1])]


def _rows(costs: Mapping[str, float]) -> Rows:
    return [(name, f"{each:.2f}") for name, each in costs.items()]


def _total(costs: Mapping[str, float]) -> tuple[str, ...]:
    return "**together**", f"**{sum(costs.values()):.2f}**"


def _table(head: tuple[str, ...], rows: Rows) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, tuple("---" for _ in head), *rows))


def document_with(root: Path) -> Iterator[str]:
    """The present text of docs/cost.md, and the text that it should have."""
    text = (root / DOCUMENT).read_text(encoding="utf-8")
    yield text
    for name, table in tables(root).items():
        text = written(text, name, table)
    yield text


@click.command()
@click.option("--write", "is_writing", is_flag=True, help=f"Write the tables of {DOCUMENT} anew.")
def main(is_writing: bool) -> None:
    """Prints the tables; fails when the document is behind."""
    root = find_root(Path(__file__).parent)
    for name, table in tables(root).items():
        click.echo(f"{name}\n\n{table}\n")
    is_text, should_be = document_with(root)
    if is_writing:
        (root / DOCUMENT).write_text(should_be, encoding="utf-8")
    elif is_text != should_be:
        click.echo(f"{DOCUMENT} is behind: run `make cost ARGS=--write`", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
