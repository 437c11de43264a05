"""Subscriptions of the stand-in's instance: their webhooks, the tokens and the policies agree."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clerk_supabase.model.changes import Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.instance.beginning import ADA, LABS, begin
from clerk_supabase_cli.standin.instance.instance import Instance
from tests.kit.databases import Connection, Database, acting_as, rows, value
from tests.kit.parked import Command

KEY = "sk_live_standin"
FEATURES = ("dashboard", "reports", "search")


@pytest.fixture
def instance() -> Instance:
    """Six users, two organizations and four plans, without a subscription."""
    instance = Instance()
    begin(instance)
    return instance


@pytest.fixture
def command(instance: Instance, database: Database) -> Iterator[Command]:
    """The command, beside the API of the instance."""
    answers = Answers(instance.world, KEY, lock=instance.lock, seen=instance.seen)
    with ClerkApi(answers) as api:
        yield Command({"DATABASE_URL": database.url, "CLERK_API_URL": api.url, "CLERK_SECRET_KEY": KEY})


def features_in_mirror(admin: Connection) -> set[str]:
    """The features of LABS that policies grant to ADA, whose token names none."""
    with acting_as(admin, "authenticated", {"v": 2, "sub": ADA, "o": {"id": LABS}}):
        return {
            each
            for each in FEATURES
            if value(admin, "select clerk.requesting_user_subscribes_to_feature(%s)", f"org:{each}")
        }


def features_in_tokens(instance: Instance) -> set[str]:
    return {each.removeprefix("o:") for each in instance.entitled(LABS)[1]}


def apply(store: Store, event: dict[str, Any], number: int) -> None:
    read = parse_event(json.dumps(event).encode())
    store.apply([(changes_of(read, read.timestamp), Delivery(f"msg_{number}", read.type, read.timestamp))])


def test_a_subscriber_of_the_stand_in_passes_the_policies_of_the_mirror(
    instance: Instance, command: Command, store: Store, admin: Connection
) -> None:
    command.run("reconcile")
    sent: list[dict[str, Any]] = []
    instance.world.on_event = sent.append
    assert features_in_mirror(admin) == features_in_tokens(instance) == set()

    instance.entitle(LABS, features="reports")
    # In any order.
    for number, event in enumerate(reversed(sent)):
        apply(store, event, number)
    assert features_in_mirror(admin) == features_in_tokens(instance) == {"dashboard", "reports"}
    assert rows(admin, "select status from clerk.subscriptions") == [("active",)]
    assert rows(admin, "select status from clerk.payment_attempts") == [("paid",)]
    assert sorted(rows(admin, "select plan_slug, status from clerk.subscription_items")) == [
        ("free_org", "ended"),
        ("team", "active"),
    ]

    # These events get lost.
    instance.entitle(LABS)
    assert features_in_tokens(instance) == set()
    assert features_in_mirror(admin) == {"dashboard", "reports"}
    command.run("reconcile")
    assert features_in_mirror(admin) == set()


def test_a_changed_plan_reaches_the_mirror_by_a_comparison(
    instance: Instance, command: Command, admin: Connection
) -> None:
    instance.create_plan("gold", payer_type="org", features="reports,search")
    instance.entitle(LABS, features="search")
    command.run("reconcile")
    assert features_in_mirror(admin) == features_in_tokens(instance) == {"reports", "search"}
    # A plan has no time of its own: its answers are ordered by Clerk's `Date`, in seconds.
    time.sleep(1.1)
    instance.update_plan("gold", payer_type="org", features="dashboard")
    command.run("reconcile", "--quick")
    assert features_in_mirror(admin) == features_in_tokens(instance) == {"dashboard"}
