"""The example of an app in a real browser: Clerk's own scripts, PostgREST, and the deployed functions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from clerk_supabase_cli.local.stack import LocalStack
from tests.browser.app import Person, person


def rows_of(stack: LocalStack, address: str) -> list[tuple[str, bool]]:
    """The id of the user with this address, and whether any webhook has been applied to the row."""
    with psycopg.connect(stack.database_url) as database:
        query = """
            select u.clerk_id, exists (select from clerk_sync.deliveries as d where d.entity_id = u.clerk_id)
            from clerk.users as u where u.email = %s
        """
        return database.execute(query, [address]).fetchall()


@pytest.fixture
def ada(browser: Browser, app: str) -> Iterator[Person]:
    with person(browser, app, "Ada Lovelace", f"ada.{secrets.token_hex(4)}@example.test") as someone:
        yield someone


@pytest.fixture
def grace(browser: Browser, app: str) -> Iterator[Person]:
    with person(browser, app, "Grace Hopper", f"grace.{secrets.token_hex(4)}@example.test") as someone:
        yield someone


def test_two_people_sign_up_and_each_sees_only_their_own(stack: LocalStack, ada: Person, grace: Person) -> None:
    ada.sign_up()
    # The name comes from the row, and the webhook with the row takes ten seconds.
    expect(ada.page.get_by_role("heading", name="To-dos of Ada Lovelace")).to_be_visible()
