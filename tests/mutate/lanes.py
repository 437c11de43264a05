"""Copies of the checkout, in which tests run against one mutant at a time; the checkout itself is never touched."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NoReturn

import psycopg
import pytest
from psycopg import sql

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.objects.manifest import write_manifest
from tests.kit.objects import made_by_migrations
from tests.mutate.mutants import Mutant
from tests.mutate.prepared import Prepared
from tests.mutate.warm import Order, Warm, start

Verdict = Literal["noticed", "survived", "not valid", "timeout", "too slow", "not swapped"]
"""Timeout: the tests do not end with the mutant alone. Too slow: on this machine the tests always take too long."""

_OURS: Final = ("tests", "clerk_supabase", "clerk_supabase_cli", "functions")
# Loaded once; each test process begins as a copy of this one. No plugin of pytest's: it wants to load those itself.
_PRELOADED: Final = (
    *("psycopg", "psycopg_binary", "boto3", "moto", "moto.sqs.models", "moto.secretsmanager.models"),
    *("pydantic", "msgspec", "aws_lambda_powertools", "samtranslator.translator.transform", "click", "rich.console"),
    *("jwt", "urllib3", "yaml", "jsonschema", "cryptography.hazmat.primitives.asymmetric.rsa"),
)
_LEFT_OUT: Final = (
    ".git",
    ".venv",
    ".tools",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "node_modules",
)
# The lines that read the template: a mutant that fails there is no template.
_NOT_VALID: Final = re.compile(r"transform\(packaged|yaml_parse\(\(root")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a mutant."""

    verdict: Verdict
    by: str
    """The test that noticed the mutant."""
    seconds: float


def preload() -> None:
    """Load the modules that every test process would load."""
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class _FirstExample:
    """A plugin that stops property tests at the first failing example: a smaller example notices nothing more."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Run after conftest.py, with its settings, and before any test is read."""
        # No sooner: pytest wants to load it by itself.
        from hypothesis import Phase, settings  # noqa: PLC0415

        settings.register_profile("first", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("first")


class Lane:
    """One copy, and at most one process that runs tests in it."""

    def __init__(self, root: Path, folder: Path, postgres: EmbeddedPostgres | None = None) -> None:
        """Make a lane. *postgres*: a server in which migrations are tried; only mutants of migrations need a server."""
        self._root = root
        self._folder = folder
        self._postgres = postgres
        self._log = folder.with_suffix(".log")
        # A change within a second must look newer to the cache of compiled files.
        self._moment = int(time.time()) - 1_000_000
        shutil.copytree(root, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=True)
        for name in (".venv", ".tools"):
            if (root / name).exists():
                (folder / name).symlink_to(root / name)

    def run(self, mutant: Mutant | None, tests: Sequence[str], seconds: float, without: Sequence[str] = ()) -> Outcome:
        """Run tests until the first fails; without a mutant, as the code is."""
        started = time.monotonic()
        with self.changed(mutant):
            if mutant is not None and mutant.file.endswith(".sql") and not self.list_objects():
                return Outcome("not valid", "", time.monotonic() - started)
            status = self._wait(self._fork([*tests, *(f"--deselect={each}" for each in without)]), seconds)
        took = time.monotonic() - started
        said = self._log.read_text(encoding="utf-8", errors="replace")
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
        by = failed[1] if failed else ""
        if status is None:
            return Outcome("timeout", by, took)
        if status == pytest.ExitCode.OK:
            return Outcome("survived", "", took)
        if status == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RuntimeError(f"no test was found in {tests}")
        is_python = mutant is None or mutant.file.endswith(".py")
        # Where no test is named, pytest itself failed; only Python can do that to it.
        is_noticed = is_python or (by != "" and not _NOT_VALID.search(said))
        return Outcome("noticed" if is_noticed else "not valid", by, took)

    @contextlib.contextmanager
    def changed(self, mutant: Mutant | None) -> Iterator[Path]:
        """The copy with the mutant in it, as long as the `with` block."""
        if mutant is None:
            yield self._folder
            return
        path = self._folder / mutant.file
        objects = self._folder / "sql" / "objects.json"
        before = {each: each.read_text(encoding="utf-8") for each in (path, objects) if each.exists()}
        self._write(path, mutant.applied(before[path]))
        try:
            yield self._folder
        finally:
            for each, text in before.items():
                if each.read_text(encoding="utf-8") != text:
                    self._write(each, text)

    def list_objects(self) -> bool:
        """Write the list of objects, as `make objects` does; false when Postgres refuses the migrations.

        Without the list `migrate` would refuse every changed migration, and no test would run.
        """
        assert self._postgres is not None
        name = f"objects_{self._folder.parent.name.replace('-', '_')}"
        url = self._postgres.create_database(name)
        try:
            write_manifest(self._folder, made_by_migrations(self._folder, url))
        except (Failure, psycopg.Error):
            return False
        finally:
            self._postgres.drop_database(name)
            _drop_roles(self._postgres)
        return True

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        self._moment += 10
        os.utime(path, (self._moment, self._moment))

    def _fork(self, tests: Sequence[str]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            self._become_pytest(tests)
        return child

    def _become_pytest(self, tests: Sequence[str]) -> NoReturn:
        status = 70
        try:
            os.setsid()
            self.enter()
            options = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider"]
            status = pytest.main([*options, *tests], plugins=[_FirstExample()])
            sys.stdout.flush()
        finally:
            os._exit(status)

    def enter(self) -> None:
        """Let this process import the copy, and write to its log."""
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self._folder)
        paths = [str(self._folder / each) for each in ("", "layers/shared", "cli")]
        sys.path[:] = paths + [each for each in sys.path if not self._is_of_checkout(each)]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
            del sys.modules[name]

    def warm(self, prepared: Prepared, *, is_recording: bool = False) -> Warm:
        """Start the process that has collected the tests."""
        return start(self.enter, self._folder, self._log, prepared, is_recording=is_recording)

    def run_warm(self, warm: Warm, mutant: Mutant | None, order: Order) -> Outcome:
        """Run tests until the first fails, in a copy of the warm process; verdict `not swapped`: nothing was run."""
        started = time.monotonic()
        with self.changed(mutant):
            if mutant is not None and order.swap is not None:
                path, name, changed = order.swap
                order = replace(order, swap=(str(self._folder / path), name, changed))
            answer = warm.run(order)
        return Outcome(answer["verdict"], answer["by"], time.monotonic() - started)

    def _is_of_checkout(self, path: str) -> bool:
        return path in ("", ".") or (
            Path(path).resolve().is_relative_to(self._root) and ".venv" not in Path(path).parts
        )

    @staticmethod
    def _wait(child: int, seconds: float) -> int | None:
        """The exit status of the tests; None when they took too long and were ended."""
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    child = 0
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.02)
        finally:
            if child:
                # Its servers end themselves when it is gone.
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return None


def _drop_roles(postgres: EmbeddedPostgres) -> None:
    """Leave no role to the next mutant: the first migration of a server makes them."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        roles = connection.execute("select rolname from pg_roles where oid >= 16384").fetchall()
        for (role,) in roles:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@contextlib.contextmanager
def lane(root: Path, postgres: EmbeddedPostgres | None = None) -> Iterator[Lane]:
    """A copy that exists as long as the `with` block."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        # Servers of the tests run as another user.
        Path(folder).chmod(0o755)
        yield Lane(root, Path(folder) / "checkout", postgres)


@dataclass(frozen=True, slots=True)
class Seat:
    """A lane, and the process that has collected the tests of its copy."""

    lane: Lane
    warm: Warm


@contextlib.contextmanager
def seat(root: Path, prepared: Prepared, *, is_recording: bool) -> Iterator[Seat]:
    """A seat that exists as long as the `with` block."""
    with lane(root) as one:
        warm = one.warm(prepared, is_recording=is_recording)
        try:
            yield Seat(one, warm)
        finally:
            warm.close()
