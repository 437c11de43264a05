"""Permissions, roles, waitlist entries and sessions: which of Clerk's fields become columns, and which stay out."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from clerk_supabase.model.changes import Upsert, changes_of
from clerk_supabase.model.clerk_object import Columns, timestamp
from clerk_supabase.model.events import parse_event, subject_of
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.access import objects

AT = 1_700_000_000_000
LATER = AT + 60_000
TIMES = {"created_at": AT, "updated_at": LATER}
ADA = samples.user("user_ada", created_at=AT, updated_at=AT)


def row(event_type: str, data: dict[str, Any]) -> Columns:
    """The columns of an event's object."""
    body = json.dumps(samples.event(event_type, data, timestamp=LATER)).encode()
    return cast("Upsert", changes_of(parse_event(body), LATER).main).content


def test_a_role_names_its_permissions_by_id_and_key_in_an_order_of_its_own() -> None:
    held = [objects.permission(f"perm_{key}", f"org:reports:{key}", **TIMES) for key in ("write", "read")]
    found = row("role.updated", objects.role("role_1", "editor", held, **TIMES))
    assert found["key"] == "org:editor"
    assert found["permission_ids"] == ["perm_read", "perm_write"]
    assert found["permissions"] == ["org:reports:read", "org:reports:write"]
    assert row("role.updated", objects.role("role_1", "editor", held[::-1], **TIMES)) == found


@pytest.mark.parametrize(
    ("changes", "active_until", "ends_at"),
    [
        ({}, LATER + 10, LATER + 10),
        ({"abandon_at": LATER + 5}, LATER + 5, LATER + 5),
        ({"status": "pending"}, None, LATER + 10),
        ({"status": "ended"}, None, LATER),
        ({"status": "of_next_year"}, None, LATER + 10),
        ({"expire_at": None, "abandon_at": None}, LATER, LATER),
        # Housekeeping would delete a session at once that ended years ago.
        ({"expire_at": AT - 10}, AT - 10, LATER),
        ({"abandon_at": AT - 20}, AT - 20, LATER),
    ],
)
def test_a_session_is_called_active_no_longer_than_clerk_lets_it_be_without_an_event(
    changes: dict[str, Any], active_until: int | None, ends_at: int
) -> None:
    sent = objects.session("sess_1", ADA, **TIMES, **({"expire_at": LATER + 10, "abandon_at": LATER + 20} | changes))
    found = row("session.created", sent)
    assert (found["active_until"], found["ends_at"]) == (timestamp(active_until), timestamp(ends_at))


def test_a_session_keeps_the_device_and_drops_its_address_and_place_and_the_person_behind_it() -> None:
    actor = {"sub": "support@example.test", "sid": "sess_support"}
    found = row("session.created", objects.session("sess_1", ADA, **TIMES, actor=actor))
    assert (found["device_type"], found["browser_name"], found["is_mobile"]) == ("Macintosh", "Firefox", False)
    assert found["is_impersonated"] is True
    told = json.dumps(found)
    assert not [each for each in ("192.0.2.7", "Bern", "CH", "140.0", "support", "client_", "Ada") if each in told]


@pytest.mark.parametrize("user", [ADA, None])
def test_a_session_brings_a_stub_of_its_user_whatever_it_tells_of_the_user(user: object) -> None:
    sent = objects.session("sess_1", ADA, **TIMES) | {"user": user}
    body = json.dumps(samples.event("session.created", sent, timestamp=AT))
    [parent] = cast("list[Upsert]", changes_of(parse_event(body.encode()), LATER).companions)
    assert (parent.kind, parent.id, parent.version, parent.content["first_name"]) == ("user", "user_ada", (0, 0), None)
    assert subject_of(body.encode()).user_id == "user_ada"


def test_an_unusable_session_names_its_user_by_the_user_in_it() -> None:
    body = json.dumps(samples.event("session.created", {"id": "sess_1", "user": ADA}, timestamp=AT))
    assert subject_of(body.encode()).user_id == "user_ada"


def test_a_waitlist_entry_keeps_nothing_of_the_invitation_which_has_a_secret_link() -> None:
    entry = objects.waitlist_entry("wle_1", "carol@example.test", **TIMES, status="invited")
    found = row("waitlistEntry.updated", entry | {"invitation": objects.invitation_from_waitlist(entry, LATER)})
    assert found == {
        "clerk_waitlist_entry_id": "wle_1",
        "email_address": "carol@example.test",
        "status": "invited",
        "is_locked": False,
        "created_at": timestamp(AT),
    }
