"""Counters are summed up until a handler ends; a command counts, too, and writes nothing."""

from __future__ import annotations

import json

import pytest

from clerk_supabase.telemetry import count, measured, metrics


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
