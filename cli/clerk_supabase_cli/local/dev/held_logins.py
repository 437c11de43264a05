"""Sessions of the functions' roles that last as long as `dev`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from clerk_supabase_cli.operate.database import connect


@contextlib.contextmanager
def held_logins(*urls: str) -> Iterator[None]:
    """Stay logged in with these connection strings: `deploy` gives a role in use no new password.

    Between two events the functions of `dev` may have no session, and a new password would stop them. A session that
    the server ends is not opened again.
    """
    with contextlib.ExitStack() as held:
        for url in urls:
            held.callback(_close, connect(url, autocommit=True))
        yield


def _close(connection: psycopg.Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.close()
