"""The pages of the example as each identity of docs/rights.md: a page shows the rows that the matrix allows."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from clerk_supabase_cli.local.stack import LocalStack
from tests.browser.app import Person, person
from tests.browser.test_app import known, wait_until

_TEAM: Final = "Example Labs"
_CLOSED: Final = re.compile("You have no access|Email address|You work alone at the moment")
_VERDICTS: Final = {"banned": {"banned": True}, "deprovisioned": {"deprovisioned": True}}
_ROLES: Final = {"member": "org:member", "admin": "org:admin", "banned": "org:admin", "deprovisioned": "org:admin"}


@pytest.fixture(scope="module")
def rights(root: Path) -> Mapping[str, Mapping[str, str]]:
    """The rights of docs/rights.md, by table and identity."""
    lines = (root / "docs" / "rights.md").read_text(encoding="utf-8").splitlines()
    heads = [line.split("|")[2:-1] for line in lines if line.startswith("| | no role |")]
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| `clerk.")]
    names = [name.strip() for name in heads[0]]
    return {row[0].strip(" `"): dict(zip(names, map(str.strip, row[1:]), strict=True)) for row in rows}


@contextmanager
def opened(browser: Browser, origin: str, identity: str, team: str, stack: LocalStack) -> Iterator[Person]:
    """A browser in which somebody with this identity has signed in."""
    address = f"{identity}.{secrets.token_hex(4)}@example.test"
    with person(browser, origin, f"Ida {identity.title()}", address) as someone:
        if identity == "stranger":
            # No webhook about the user has arrived.
            someone.sign_up()
        elif identity != "anon":
            user_id = known(stack, someone)
            if identity in _ROLES:
                stack.instance.add_member(team, user_id, role=_ROLES[identity])
            someone.sign_in()
            if identity in _ROLES:
                someone.choose_organization(_TEAM)
            if identity in _VERDICTS:
                # Clerk ends the session too, which its script notices while a page is open.
                someone.page.goto("about:blank")
                stack.instance.update_user(user_id, **_VERDICTS[identity])
                wait_until(stack, user_id, identity)
        yield someone
        # The browser writes each answer that lets nobody in into the console.
        someone.troubles[:] = [each for each in someone.troubles if "status of 40" not in each]


@pytest.mark.parametrize("identity", ["anon", "stranger", "owner", "member", "admin", "banned", "deprovisioned"])
def test_each_identity_sees_on_the_pages_what_the_matrix_of_rights_says(
    browser: Browser, app: str, stack: LocalStack, rights: Mapping[str, Mapping[str, str]], identity: str
) -> None:
    # The page shows the first fifty by their first name, and other tests have signed up a hundred people named Ada.
    somebody = stack.instance.create_user(first_name="Aaron", last_name=secrets.token_hex(4))
    team = stack.instance.create_organization(_TEAM, created_by=somebody["id"])["id"]

    def readable(table: str) -> int:
        # The first request of a stranger makes the row: from then on the stranger is an owner.
        found = rights[table]["owner" if identity == "stranger" else identity]
        return 1 if re.search("read (own|organization's|everybody's)", found) else 0

    with opened(browser, app, identity, team, stack) as someone:
        for path, title, table in (
            ("/todos", f"To-dos of {someone.name}", "clerk.users"),
            ("/profiles", "People", "clerk.users_public"),
            ("/organization", _TEAM, "clerk.organizations"),
        ):
            someone.open(path)
            heading = someone.page.get_by_role("heading", name=title, exact=True)
            # Only a page that is there shows what it does not show.
            expect(heading.or_(someone.page.get_by_text(_CLOSED))).to_be_visible()
            expect(heading).to_have_count(readable(table))
            if path == "/profiles":
                expect(someone.page.get_by_text(somebody["last_name"])).to_have_count(readable(table))
        members = someone.page.get_by_role("list").get_by_text(somebody["last_name"])
        expect(members).to_have_count(readable("clerk.organization_memberships"))
