"""Executes each line of standard input with Supabase's Python client, and answers with a line."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

from postgrest.exceptions import APIError
from supabase import Client, ClientOptions, create_client


@cache
def connected(url: str, key: str, token: str) -> Client:
    """A client of somebody with a token of Clerk's, or of nobody."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return create_client(url, key, ClientOptions(headers=headers))


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """The rows, or the error's code and message."""
    client = connected(asked["url"], asked["key"], asked["token"])
    table = (client.schema(asked["schema"]) if asked["schema"] else client).table(asked["table"])
    match asked["verb"]:
        case "select":
            request: Any = table.select(asked["columns"])
        case "insert":
            request = table.insert(asked["values"])
        case "insert_once":
            request = table.upsert(asked["values"], on_conflict=asked["key_column"], ignore_duplicates=True)
        case "update":
            request = table.update(asked["values"])
        case "delete":
            request = table.delete()
    for column, value in asked["where"].items():
        request = request.eq(column, value)
    try:
        return {"rows": request.execute().data}
    except APIError as error:
        return {"code": error.code, "message": error.message}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)  # noqa: T201 - this is how it answers
