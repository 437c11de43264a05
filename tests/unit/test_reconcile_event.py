"""The fields of the reconcile function's event, and the values that it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.reconcile.request import Request, request_of


def test_the_schedules_say_only_the_mode() -> None:
    assert request_of({"mode": "full"}) == Request("full", dry_run=False, versions_only=False, allow_deletes=None)
    assert request_of({"mode": "quick"}) == Request("quick")


def test_the_event_may_hold_every_other_option_of_a_run() -> None:
    event = {"mode": "full", "dry_run": True, "versions_only": True, "allow_deletes": 12}
    assert request_of(event) == Request("full", dry_run=True, versions_only=True, allow_deletes=12)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({}, "mode"),
        ({"mode": "ful"}, "ful"),
        ({"mode": "full", "dryrun": True}, "dryrun"),
        ({"mode": "full", "dry_run": "false"}, "dry_run"),
        ({"mode": "full", "allow_deletes": "all"}, "allow_deletes"),
        ({"source": "aws.scheduler", "mode": "full"}, "source"),
    ],
)
def test_a_mistyped_option_is_refused_instead_of_starting_a_real_run(event: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        request_of(event)


def test_the_event_for_sam_local_repairs_nothing(root: Path) -> None:
    event = json.loads((root / "events" / "reconcile.json").read_text(encoding="utf-8"))
    assert request_of(event) == Request("full", dry_run=True)
