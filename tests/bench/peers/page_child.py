"""`python -m tests.bench.peers.page_child`: a back-fill that gets page after page and upserts each user of a page."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from typing import Any, Final

import click
import psycopg

from tests.bench.peers.python_child import STATEMENTS, values_of

_PAGE: Final = 500
"""The largest page of Clerk's API."""


@click.command()
@click.option("--clerk", required=True)
@click.option("--key", required=True)
@click.option("--database", required=True)
@click.option("--users", required=True, type=int)
def main(*, clerk: str, key: str, database: str, users: int) -> None:
    """Prints the seconds this took as JSON."""
    upsert = re.sub(r"\$\d+", "%s", json.loads(STATEMENTS.read_text(encoding="utf-8"))["upsert"]).encode()
    headers = {"Authorization": f"Bearer {key}"}
    with psycopg.connect(database, autocommit=True) as connection:
        began = time.perf_counter()
        for offset in range(0, users, _PAGE):
            url = f"{clerk}/users?limit={_PAGE}&offset={offset}&order_by=%2Bcreated_at"
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:  # noqa: S310 - http
                page: list[dict[str, Any]] = json.load(answer)
            for user in page:
                connection.execute(upsert, values_of(user))
        seconds = time.perf_counter() - began
    json.dump({"seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
