"""docs/what-is-mirrored.md: every type of Clerk's events and every field has a column or a reason."""

from __future__ import annotations

import json

from clerk_supabase_cli.event_types import CLERKS_TYPES
from tests.kit import mirrored
from tests.kit.clerk_schema import FAMILIES


def test_the_page_says_what_the_code_does() -> None:
    assert mirrored.PAGE.read_text(encoding="utf-8") == mirrored.document(), "out of date: make mirrored"


def test_each_of_clerks_46_event_types_becomes_a_row_or_has_a_reason_why_not() -> None:
    assert len(set(CLERKS_TYPES)) == 46
    assert mirrored.undecided_types() == []
    assert {name.partition(".")[0] for name in CLERKS_TYPES} == FAMILIES.keys()


def test_each_field_of_a_mirrored_object_has_a_column_or_a_reason() -> None:
    assert mirrored.undecided_fields() == []


def test_each_field_of_a_sample_is_on_the_page() -> None:
    files = sorted((mirrored.ROOT / "events" / "clerk").glob("*.json"))
    events = [json.loads(file.read_bytes()) for file in files]
    known = [event for event in events if event["type"] in CLERKS_TYPES]
    assert [found for event in known for found in mirrored.unknown_fields(event["type"], event["data"])] == []


def test_each_reason_is_of_a_field_that_exists() -> None:
    assert [name for name in mirrored.reasons() if not mirrored.is_described(name)] == []
