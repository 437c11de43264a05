"""pgbouncer in transaction mode, a stand-in for the pooler in front of every database of Supabase."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from clerk_supabase_cli.local.processes import Guard, free_port, is_taken, last_lines
from tests.kit.polling import eventually

_PATIENCE_SECONDS = 20


class PoolerMissing(Exception):
    """pgbouncer is missing, and a test that needs pgbouncer must not pass without it."""


@contextmanager
def pooling(
    postgres_port: int, passwords: Mapping[str, str], *, connections: int, query_timeout: int = 0
) -> Iterator[int]:
    """The port of a pooler for each database of a server, for the roles whose passwords are given.

    *connections*: the number kept for each role and database. The next client gets the connection of the last.
    *query_timeout*: seconds after which a statement is ended; 0: never.
    """
    port = free_port()
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with Guard() as guard:
        folder = guard.folder("clerk-supabase-pgbouncer-")
        log, settings, users = (folder / name for name in ("pgbouncer.log", "pgbouncer.ini", "users.txt"))
        users.write_text("".join(f'"{role}" "{password}"\n' for role, password in passwords.items()))
        settings.write_text(
            f"""
[databases]
* = host=127.0.0.1 port={postgres_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
query_timeout = {query_timeout}
; Defaults that would make a test wait: 15 and 120 seconds.
server_login_retry = 1
query_wait_timeout = 5
"""
        )
        if account is not None:
            # It refuses to run as root.
            for path in (folder, settings, users):
                os.chown(path, account.pw_uid, account.pw_gid)
        process = guard.start([_program(), str(settings)], log=log, account=account, cwd=folder)

        def ready() -> bool:
            assert process.poll() is None, last_lines(log, 20)
            return is_taken(port)

        eventually(ready, bool, seconds=_PATIENCE_SECONDS)
        yield port
        # There is nothing to save, and pgbouncer before 1.23 has no handler for SIGQUIT: a job in the background of a
        # shell, such as a job of .ci/run, ignores SIGQUIT, and pgbouncer inherits that.
        guard.end(process, signal.SIGKILL)


def _program() -> str:
    # Debian keeps it where only root looks for programs.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise PoolerMissing("pgbouncer is missing: install it (Debian, Ubuntu: apt install pgbouncer)")
    return found
