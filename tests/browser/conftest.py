"""The deployed bundle, and a browser with addresses of hosts given by the test."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
from playwright.sync_api import Browser, sync_playwright

from clerk_supabase_cli.local.app.app import tables_served, variables_of
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.local.stack import APP_ORIGIN, LocalStack
from clerk_supabase_cli.standin.instance.webhooks import DeliveryFaults
from tests.browser.app import Person, person, running_app

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
NOT_INSTALLED = f"none of {', '.join(PROGRAMS)} is installed (Debian: apt install chromium)"
DELAY_SECONDS = 10
_SECONDS = 120

Browse = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option of `make pictures`."""
    parser.addoption("--pictures", action="store_true", help="run the tests that take pictures, and take them")


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of the tests that take pictures."""
    config.addinivalue_line("markers", "pictures: takes pictures of pages, with --pictures")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests that take pictures, if pictures are wanted; the console first, before the others send events."""
    if config.getoption("--pictures"):
        taking = [each for each in items if each.get_closest_marker("pictures")]
        items[:] = sorted(taking, key=lambda each: each.path.name != "test_console.py")


@pytest.fixture(scope="session")
def origin() -> str:
    """The origin of the example's pages."""
    return f"http://localhost:{free_port()}"


@pytest.fixture(scope="session")
def stack(root: Path, origin: str) -> Iterator[LocalStack]:
    """The real template, deployed with the real SAM CLI; Clerk's webhooks take ten seconds."""
    origins = f"{APP_ORIGIN},{origin}"
    with LocalStack(root, parameters={"SessionAllowedOrigins": origins, "AuthorizedParties": origins}) as deployed:
        deployed.instance.webhooks.deliver_to(deployed.webhook_url, deployed.webhook_secret)
        assert deployed.frontend.pages is not None
        # A slow machine may need more than a minute from one page to the next.
        deployed.frontend.pages.lifetime = 600
        deployed.frontend.pages.people.faults = DeliveryFaults(delay=DELAY_SECONDS)
        yield deployed


@pytest.fixture(scope="session")
def app(root: Path, stack: LocalStack, origin: str) -> Iterator[str]:
    """The origin of the example, whose pages run against the stack."""
    folder = root / "examples" / "nextjs"
    with tables_served(folder, stack, root) as api, running_app(folder, origin, variables_of(stack, api)):
        yield origin


@pytest.fixture(scope="session")
def browser(program: str) -> Iterator[Browser]:
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def program() -> str:
    found = installed_browser()
    assert found, NOT_INSTALLED
    return found


def installed_browser() -> str | None:
    """The path of the browser, if there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="session")
def pictures(root: Path, request: pytest.FixtureRequest) -> Path | None:
    """The folder for pictures of the pages, if they are wanted."""
    return root / "examples" / "nextjs" / "pictures" if request.config.getoption("--pictures") else None


@pytest.fixture
def ada(browser: Browser, app: str, pictures: Path | None) -> Iterator[Person]:
    """Somebody whom no other test knows."""
    address = f"ada.{secrets.token_hex(4)}@example.test"
    with person(browser, app, "Ada Lovelace", address, pictures=pictures) as someone:
        yield someone


@pytest.fixture
def grace(browser: Browser, app: str, pictures: Path | None) -> Iterator[Person]:
    """Another person."""
    address = f"grace.{secrets.token_hex(4)}@example.test"
    with person(browser, app, "Grace Hopper", address, pictures=pictures) as someone:
        yield someone


@pytest.fixture
def browse(program: str, tmp_path: Path) -> Browse:
    """Opens a page and returns the HTML of the page after all its scripts."""

    def open_page(url: str, names: Mapping[str, str]) -> str:
        """Opens a page. *names*: addresses for hosts that the browser would ask a name server for."""
        rules = ",".join(f"MAP {name} {place}" for name, place in names.items())
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--host-resolver-rules={rules}",
            "--virtual-time-budget=600000",
            "--dump-dom",
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout

    return open_page


class PageServer:
    """A foreign web server on this machine: answers every request with the same page, and records the request."""

    def __init__(self, page: str, headers: Mapping[str, str] | None = None) -> None:
        self.page = page.encode()
        self.headers = headers or {}
        self.requests: list[str] = []
        """Methods and paths."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        here = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                here.requests.append(f"{self.command} {self.path}")
                self.send_response(200)
                for name, value in here.headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(here.page)))
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(here.page)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                """Nothing."""

        return Handler
