"""Supabase's API for a database on this machine: PostgREST and a stand-in for Storage, behind one address."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.error import URLError

import psycopg
from jwt.utils import base64url_encode
from psycopg import sql

from clerk_supabase_cli.local.app.gateway import Gateway
from clerk_supabase_cli.local.app.storage.api import Storage
from clerk_supabase_cli.local.app.storage.callers import Callers
from clerk_supabase_cli.local.processes import Guard, LocalStackError, free_port, last_lines
from clerk_supabase_cli.standin.token_mint import LOCAL_JWT_SECRET

AUTHENTICATOR: Final = "authenticator"
_PATIENCE_SECONDS: Final = 30


class RestFailed(LocalStackError):
    """PostgREST did not start."""


class SupabaseApi:
    """The API during the `with` block."""

    def __init__(
        self,
        program: Path,
        database_url: str,
        keys: Sequence[Mapping[str, Any]],
        *,
        port: int = 0,
        connections: int = 10,
        schemas: str = "public,clerk",
    ) -> None:
        """*database_url*: as `authenticator`; *keys*: the keys (JWK) whose tokens are accepted."""
        self._program = program
        self._settings = {
            "PGRST_DB_URI": database_url,
            "PGRST_DB_SCHEMAS": schemas,
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_POOL": str(connections),
            "PGRST_JWT_SECRET": json.dumps({"keys": [dict(key) for key in keys]}),
            "PGRST_SERVER_HOST": "127.0.0.1",
        }
        self._callers = Callers(database_url, keys)
        self._port = port
        self._guard = Guard()

    @property
    def url(self) -> str:
        """The address for Supabase's clients."""
        return self._gateway.url

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._guard)
            storage = Storage(self._callers, self._guard.folder("clerk-supabase-files-"))
            self._gateway = undo.enter_context(Gateway(self._port, self._start(), storage))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _start(self) -> int:
        """Starts PostgREST and waits until it has read the schema; returns its port. Raises RestFailed."""
        port, admin_port = free_port(), free_port()
        ports = {"PGRST_SERVER_PORT": str(port), "PGRST_ADMIN_SERVER_PORT": str(admin_port)}
        log = self._guard.folder("clerk-supabase-postgrest-") / "postgrest.log"
        process = self._guard.start([str(self._program)], log=log, env=self._settings | ports)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _is_ready(admin_port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RestFailed(f"PostgREST did not start; last lines of its log:\n{last_lines(log, 20)}")
            time.sleep(0.02)
        return port


def _is_ready(admin_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/ready", timeout=5):
            return True
    except (URLError, ConnectionError, TimeoutError):
        return False


def create_authenticator(owner: psycopg.Connection, password: str) -> None:
    """Creates the login role of PostgREST, whose only right is to become one of the API's roles."""
    name = sql.Identifier(AUTHENTICATOR)
    owner.execute(sql.SQL("create role {} login noinherit password {}").format(name, sql.Literal(password)))
    owner.execute(sql.SQL("grant anon, authenticated, service_role to {}").format(name))


def project_secret() -> Mapping[str, str]:
    """The JWT secret of the project, as a key (JWK): Supabase gives PostgREST this key beside those of Clerk."""
    return {"kty": "oct", "alg": "HS256", "k": base64url_encode(LOCAL_JWT_SECRET.encode()).decode()}
