"""Back-fills of an empty table in turns: ours, page by page with an upsert for each user, Stripe's engine, and COPY."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import psycopg

from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase_cli.local.clerk_process import RunningApi, running
from clerk_supabase_cli.local.processes import Guard
from tests.bench.results import Result
from tests.bench.turns import Turns, cost, gain
from tests.kit.databases import Database

if TYPE_CHECKING:
    from tests.bench.peers.measure import Bench

_PAGE: Final = 100
"""The largest page of Stripe's API."""


def measure(bench: Bench, users: int) -> Iterator[Result]:
    """`users`: how many users, or customers of the same length, come into an empty table."""
    with Guard() as guard, running(guard, "--users", str(users)) as api, _stripe_api(users) as port:
        pages = _PageAndUpsert(bench, api, users)
        yield gain(
            f"back-fill of {users:,} users, by the clock", "page and upsert, Python",
            _turns(bench, pages.seconds, lambda: _ours(bench, api)), at_least=10, of=users,
        )  # fmt: skip
        stripe = bench.node("stripe.mjs", "back-fill", secret="whsec_bench", port=port)
        yield gain(
            f"back-fill of {users:,} users, by the clock", "Stripe's sync engine, customers",
            _turns(bench, lambda: stripe.turn(str(users)).seconds, lambda: _ours(bench, api)), of=users,
        )  # fmt: skip
        filled = bench.made.take()
        _reconcile(api, filled)
        copied = _Copy(filled)
        yield cost(
            f"back-fill of {users:,} users, by the clock", "COPY into one table with the same indexes",
            _turns(bench, copied.seconds, lambda: _ours(bench, api)), of=users,
        )  # fmt: skip


def customer(customer_id: str, revision: int) -> dict[str, Any]:
    """A customer of Stripe's whose JSON is about as long as a user of Clerk's."""
    return {
        "id": customer_id,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": 1_750_000_000,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": f"revision {revision}",
        "discount": None,
        "email": f"{customer_id}@example.test",
        "invoice_prefix": "ABC",
        "livemode": False,
        "metadata": {f"key_{number}": "of a customer " * 25 for number in range(9)},
        "name": "Ada Example",
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
    }


def _turns(bench: Bench, one: Callable[[], float], other: Callable[[], float]) -> Callable[[Turns], None]:
    def take(turns: Turns) -> None:
        for _ in range(max(1, bench.turns // 2)):
            turns.add(one(), other())

    return take


def _ours(bench: Bench, api: RunningApi) -> float:
    database = bench.made.take()
    seconds = _reconcile(api, database)
    bench.made.give_back(database)
    return seconds


def _reconcile(api: RunningApi, database: Database) -> float:
    threads = str(ReconcileSettings().threads)
    options = ["--clerk", api.url, "--database", database.worker_url, "--threads", threads]
    return _child("tests.bench.reconcile_child", *options)


def _child(module: str, *options: str) -> float:
    printed = subprocess.run([sys.executable, "-m", module, *options], check=True, capture_output=True).stdout
    seconds: float = json.loads(printed)["seconds"]
    return seconds


class _PageAndUpsert:
    """The loop of most guides: a page of the list, then an upsert for each user of the page."""

    def __init__(self, bench: Bench, api: RunningApi, users: int) -> None:
        self._url = bench.database(0.0, ours=False)
        self._api = api
        self._users = users

    def seconds(self) -> float:
        with psycopg.connect(self._url, autocommit=True) as admin:
            admin.execute("truncate pasted.users")
        options = ["--clerk", self._api.url, "--key", self._api.key, "--database", self._url, "--users", self._users]
        return _child("tests.bench.peers.page_child", *map(str, options))


class _Copy:
    """The limit: rows that are there already, into one table, without triggers."""

    def __init__(self, filled: Database) -> None:
        self._url = filled.url
        with filled.connect() as admin:
            admin.execute("create schema bench")
            admin.execute("create table bench.users (like clerk.users including all) with (fillfactor = 85)")
            with admin.cursor().copy("copy clerk.users to stdout (format binary)") as copy:
                self._rows = b"".join(bytes(part) for part in copy)

    def seconds(self) -> float:
        with closing(psycopg.connect(self._url, autocommit=True)) as admin:
            admin.execute("truncate bench.users")
            began = perf_counter()
            with admin.cursor().copy("copy bench.users from stdin (format binary)") as copy:
                copy.write(self._rows)
            return perf_counter() - began


@contextmanager
def _stripe_api(customers: int) -> Iterator[int]:
    """The port of a list of customers, as Stripe's API pages it."""
    listed = [customer(f"cus_{number:014}", 0) for number in range(customers)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            after = asked.get("starting_after", [""])[0]
            begin = int(after.removeprefix("cus_")) + 1 if after else 0
            end = begin + int(asked.get("limit", [_PAGE])[0])
            page = {"object": "list", "data": listed[begin:end], "has_more": end < customers, "url": "/v1/customers"}
            content = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class calls it so
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
