"""Counters are summed up until a handler ends; a command counts, too, and writes nothing."""

from __future__ import annotations

import json

import pytest

from clerk_supabase.telemetry import count, count_by, measured, metrics
from clerk_supabase.version import VERSION


def test_a_command_counts_as_often_as_it_likes_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "namespace", None)
    monkeypatch.setattr(metrics.provider, "namespace", None)
    for _ in range(1_000):
        count("FieldsDropped", 2)
    assert metrics.metric_set["FieldsDropped"]["Value"] == [2_000]
    assert capsys.readouterr().out == ""


def test_a_function_writes_the_sum_once(capsys: pytest.CaptureFixture[str]) -> None:
    @measured
    def handler(event: object, context: object) -> dict[str, object]:
        for _ in range(1_000):
            count("Rejected")
        return {}

    handler({}, None)
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["Rejected"] == [1_000]


def test_a_line_of_metrics_names_the_version_and_gets_no_dimension_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    @measured
    def handler(event: object, context: object) -> dict[str, object]:
        count("Rejected")
        count_by("Rejected", "reason", "signature")
        return {}

    handler({}, None)
    handler({}, None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["version"] for line in lines] == [VERSION] * 4
    named = [each["Dimensions"] for line in lines for each in line["_aws"]["CloudWatchMetrics"]]
    assert "version" not in str(named)
