"""The page of `clerk-supabase console` in a real browser, beside the deployed stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.console.hub import LISTED
from clerk_supabase_cli.console.rendering import PANELS
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.operate.queues import OUTPUTS, Queues
from clerk_supabase_cli.standin.samples import new_user_id
from tests.browser.conftest import PageServer
from tests.browser.pictures import Scheme, take_pictures
from tests.kit.console import Visitor, opened
from tests.kit.parked import created, park

HOSTILE: Final = "<img src=x onerror='window.attacked = true'><script>window.attacked = true</script>"
REASON: Final = 'new row for relation "users" violates check constraint "users_username_check"'
READ: Final = "url => fetch(url, {credentials: 'include'}).then(answer => answer.text(), () => 'nothing')"
SEND: Final = """
    url => {
        const body = new URLSearchParams({token: 'x'})
        return fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body}).catch(() => 'nothing')
    }
"""
SECONDS: Final = 90
# The share of pixels of times, ids and plots, which differ from picture to picture.
TOLERATED: Final = 0.02
WIDE: Final[ViewportSize] = {"width": 1280, "height": 1000}
SMALL: Final[ViewportSize] = {"width": 1280, "height": 860}
TABLET: Final[ViewportSize] = {"width": 768, "height": 1024}
PHONE: Final[ViewportSize] = {"width": 390, "height": 800}

# An hour of a small app, then some events that have just been applied.
HOUR: Final = """
insert into clerk_sync.deliveries (svix_id, event_type, entity_id, outcome, applied_at, received_at, occurred_at)
select
    'msg_2' || substr(md5(n::text), 1, 24), told.event_type,
    told.prefix || '2' || substr(md5((case when told.is_new then n else n % 40 end)::text), 1, 24),
    told.outcomes[1 + n % cardinality(told.outcomes)]::clerk_sync.outcome,
    at, at - make_interval(secs => 0.1 + (n % 7) * 0.06),
    at - make_interval(secs => 0.3 + (n % 11) * 0.08 + case when n % 90 = 0 then 25 else 0 end)
from generate_series(1, 900) as n
inner join (
    values
    (0, 'user.updated', 'user_', false, array['updated', 'unchanged', 'updated', 'updated', 'stale']),
    (1, 'user.created', 'user_', true, array['created']),
    (2, 'organization.updated', 'org_', false, array['updated', 'unchanged'])
) as told (place, event_type, prefix, is_new, outcomes) on told.place = n % 3
cross join lateral (select now() - make_interval(secs => n * 3.9 + 20 * sin(n / 40.0))) as applied (at)
"""
MANY: Final = """
insert into clerk_sync.deliveries (svix_id, event_type, entity_id, outcome, received_at, occurred_at)
select 'msg_' || n, 'user.updated', 'user_' || n, 'updated', now(), now() from generate_series(1, 10000) as n
"""


@pytest.fixture(scope="module")
def axe(root: Path) -> str:
    """The source of the checker of accessibility."""
    return (root / ".tools" / "browser" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def console(stack: LocalStack) -> Iterator[Visitor]:
    """The page of the stack, which may write."""
    stack.reconcile()
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(HOUR)
    queues = Queues({name: stack.outputs[output] for name, output in OUTPUTS.items()})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.ministack.environment.items():
            patch.setenv(name, value)
        with opened(stack.database_url, queues) as visitor:
            yield visitor


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of the operator."""
    found = browser.new_context(viewport=WIDE)
    found.set_default_timeout(SECONDS * 1000)
    expect.set_options(timeout=SECONDS * 1000)
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext, console: Visitor) -> Iterator[Page]:
    """The console, opened by the printed address; at the end, the browser has complained of nothing."""
    troubles: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(console.address)
    expect(page.locator("#live-words")).to_have_text("live")
    yield page
    assert troubles == []


def violations(page: Page, axe: str) -> list[str]:
    """The faults that the checker finds in the page, in light and in dark."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(axe)
        result: Mapping[str, Any] = page.evaluate("axe.run()")
        found += [f"{scheme}: {each['id']} {each['nodes'][0]['html']}" for each in result["violations"]]
    return found


def stored(stack: LocalStack, svix_id: str, user_id: str, reason: str) -> None:
    """Parks the event of a new user."""
    with closing(Store(Fixed(f"{stack.database_url}?sslmode=disable"))) as store:
        park(store, svix_id, created(user_id), reason=reason)


@pytest.mark.pictures
def test_the_page_is_live_and_a_replay_of_a_parked_event_becomes_a_row(
    page: Page, stack: LocalStack, console: Visitor, root: Path, pictures: Path | None
) -> None:
    expect(page.locator('[data-panel="plots"]').get_by_text("events in the last hour")).to_be_visible()
    if pictures is not None:
        expect(page.locator('[data-panel="verdict"]').get_by_text("Postgres is true to Clerk")).to_be_visible()
        page.set_viewport_size(SMALL)
        folder = root / "docs" / "pictures"
        files: Mapping[Scheme, Path] = {"light": folder / "console-light.png", "dark": folder / "console-dark.png"}
        take_pictures(page, files, tolerated=TOLERATED)
        page.set_viewport_size(WIDE)

    user_id = new_user_id()
    stored(stack, "msg_2Replay", user_id, REASON)
    expect(page.locator("#rows").get_by_text(user_id)).to_be_visible()
    for name in PANELS:
        assert page.locator(f'[data-panel="{name}"]').inner_text().strip(), name
    parked = page.locator('[data-panel="parked"]')
    replay = parked.locator("details", has_text="Replay msg_2Replay")
    replay.locator("summary").click()
    replay.get_by_role("button", name="Replay now").click()

    expect(page.get_by_text("msg_2Replay was sent to the queue again")).to_be_visible()
    row = page.locator("#rows tr", has_text=user_id).filter(has_text="created")
    expect(row.first).to_be_visible()
    expect(parked.get_by_text("msg_2Replay")).to_have_count(0)
    row.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name=f"Timeline of {user_id}")).to_be_visible()
    expect(page.get_by_text("replayed", exact=True)).to_be_visible()


def test_texts_of_the_database_run_nothing_and_every_page_is_accessible(
    page: Page, stack: LocalStack, console: Visitor, axe: str
) -> None:
    stored(stack, HOSTILE, new_user_id(), HOSTILE)
    parked = page.locator('[data-panel="parked"]')
    expect(parked.get_by_text("window.attacked").first).to_be_visible()
    page.get_by_role("button", name="Ask the doctor").click()
    doctor = page.locator('[data-panel="doctor"]')
    doctor.get_by_text("database", exact=True).wait_for(state="attached")
    doctor.locator("summary").first.wait_for()
    assert violations(page, axe) == []
    page.set_viewport_size(PHONE)
    assert violations(page, axe) == []
    for size in (PHONE, TABLET):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]

    parked.get_by_role("link", name="onerror").first.click()
    page.get_by_role("button", name="Show the body").click()
    expect(page.locator("pre")).to_contain_text("user.created")
    assert violations(page, axe) == []
    page.goto(f"{console.page}run?id=1")
    assert violations(page, axe) == []
    assert page.evaluate("window.attacked") is None


def test_a_page_of_another_port_reads_nothing_and_sends_no_form(
    page: Page, context: BrowserContext, console: Visitor
) -> None:
    """To the browser, such a page is of the same site, and a cookie is not kept from other ports."""
    with PageServer("<p>foreign</p>") as server:
        foreign = context.new_page()
        answers: list[int] = []
        foreign.on("response", lambda answer: answers.append(answer.status))
        foreign.goto(f"http://127.0.0.1:{server.port}/")
        answers.clear()
        assert foreign.evaluate(READ, console.page) == "nothing"
        foreign.evaluate(SEND, f"{console.page}doctor")
        foreign.evaluate("url => { location = url }", console.page)
        expect(foreign.get_by_text("Another page has sent this request")).to_be_visible()
        assert set(answers) == {403}


def test_ten_thousand_events_leave_a_short_list(page: Page, stack: LocalStack) -> None:
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute(MANY)
    expect(page.locator("#rows").get_by_text("user_10000", exact=True)).to_be_visible()
    assert page.locator("#rows tr").count() <= LISTED
    assert page.locator("*").count() < 4_000
