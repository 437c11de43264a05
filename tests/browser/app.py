"""The example of an app, built once and started, and people with a browser of their own each."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, expect

from clerk_supabase_cli.local.processes import Guard, last_lines
from clerk_supabase_cli.standin.frontend.visits import CODE
from tests.browser.pictures import take_pictures
from tests.kit.loopback import NO_TLS

PASSWORD: Final = "a-made-up-passphrase"
_SECONDS: Final = 60
# A page that is left aborts its requests. Clerk's components are not in the HTML of the server: React says so (error
# 418) if their scripts arrive before its own.
_HARMLESS: Final = ("net::ERR_ABORTED", "#418")
_PICTURE: Final = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@contextmanager
def running_app(folder: Path, origin: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Builds the app, which checks its types, and serves its pages at *origin* during the block."""
    environment = {**os.environ, **variables, "NODE_ENV": "production"}
    program = str(folder / "node_modules" / ".bin" / "next")
    built = subprocess.run([program, "build"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    port = origin.rpartition(":")[2]
    with Guard() as guard:
        log = guard.folder("clerk-supabase-app-") / "next.log"
        process = guard.start([program, "start", "-H", "localhost", "-p", port], log=log, env=environment, cwd=folder)
        deadline = time.monotonic() + _SECONDS
        while not _answers(origin):
            assert process.poll() is None, last_lines(log, 20)
            assert time.monotonic() < deadline, last_lines(log, 20)
            time.sleep(0.1)
        yield


def _answers(origin: str) -> bool:
    try:
        return httpx.get(origin, timeout=5, trust_env=False, verify=NO_TLS).is_success
    except httpx.HTTPError:
        return False


@dataclass
class Person:
    """A person with a browser."""

    page: Page
    origin: str
    name: str
    address: str
    pictures: Path | None = None
    """The folder for pictures of the pages."""
    troubles: list[str] = field(default_factory=list)
    """Errors of the console and of scripts."""

    def open(self, path: str) -> None:
        """Opens a page of the app."""
        self.page.goto(f"{self.origin}{path}")

    def sign_up(self) -> None:
        """Signs up on the page of the app, up to the first page after it."""
        first, _, last = self.name.partition(" ")
        self.open("/sign-up")
        self.page.get_by_label("First name").fill(first)
        self.page.get_by_label("Last name").fill(last)
        self.page.get_by_label("Email address").fill(self.address)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        button = self.page.get_by_role("button", name="Continue", exact=True)
        # White on white, if a colour of style.css bears the name of a variable of Clerk's.
        expect(button).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")
        button.click()
        self.page.get_by_label("Enter verification code").fill(CODE)
        self.page.wait_for_url("**/todos")

    def identify(self) -> None:
        """Enters the address on the page for signing in."""
        self.page.get_by_label("Email address").fill(self.address)
        self.page.get_by_role("button", name="Continue", exact=True).click()

    def sign_in(self) -> None:
        """Signs in with a code on the page of the app, up to the first page after it."""
        self.open("/sign-in")
        self.identify()
        self.page.get_by_label("Enter verification code").fill(CODE)
        self.page.wait_for_url("**/todos")

    def sign_out(self) -> None:
        """Signs out with Clerk's button."""
        self.page.get_by_role("button", name="Open user menu").click()
        self.page.locator(".cl-userButtonPopoverActionButton__signOut").click()
        self.page.get_by_role("link", name="Sign in").wait_for()

    def choose_organization(self, name: str) -> None:
        """Makes an organization active with Clerk's switcher, which then shows the page of the organization."""
        self.page.get_by_role("button", name="Open organization switcher").click()
        self.page.locator(".cl-organizationSwitcherPopoverCard").get_by_text(name).click()
        self.page.get_by_role("heading", name=name).wait_for()

    def take_picture(self, name: str, *, dark: bool = False, signed_in: bool = True) -> None:
        """Writes a picture of the page with Clerk's part of the header, if pictures are wanted."""
        if self.pictures is not None:
            menu, sign_up = self.page.get_by_role("button", name="Open user menu"), self.page.get_by_text("Sign up")
            expect(menu if signed_in else sign_up).to_be_visible()
            self.page.set_viewport_size({"width": 860, "height": 560})
            take_pictures(self.page, {"dark" if dark else "light": self.pictures / f"{name}.png"})

    def sees(self, text: str) -> bool:
        """Tells whether the page shows a text now."""
        return self.page.get_by_text(text).count() > 0


@contextmanager
def person(browser: Browser, origin: str, name: str, address: str, *, pictures: Path | None = None) -> Iterator[Person]:
    """Somebody who opens a browser; at the end, no page has had an error."""
    context: BrowserContext = browser.new_context(base_url=origin)
    context.set_default_timeout(_SECONDS * 1000)
    expect.set_options(timeout=_SECONDS * 1000)
    # The pictures of made-up people lie on a host that does not exist.
    context.route(
        "https://img.example.test/**", lambda route: route.fulfill(body=_PICTURE, content_type="image/svg+xml")
    )
    page = context.new_page()
    someone = Person(page, origin, name, address, pictures)
    page.on("console", lambda message: someone.troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: someone.troubles.append(str(error)))
    try:
        yield someone
    finally:
        context.close()
    assert [each for each in someone.troubles if not any(harmless in each for harmless in _HARMLESS)] == []
