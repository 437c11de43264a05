"""Updates a running stack after a change of files: code with the next event, migrations at once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.operate.database import DatabaseFailed
from clerk_supabase_cli.operate.install.migrations import MigrationFailed, migrate
from clerk_supabase_cli.printing import printable
from clerk_supabase_cli.terminal import ASIDE, BAD, DOUBTFUL, Terminal

FUNCTIONS: Final = ("ingest", "sync", "retry", "reconcile", "session")
_PACKAGE: Final = Path("layers/shared/clerk_supabase")
_MIGRATIONS: Final = Path("sql/migrations")
# Files that need a new build and deployment.
_OF_THE_DEPLOYMENT: Final = tuple(
    map(Path, ("template.yaml", "layers/shared/requirements.txt", "layers/shared/pyproject.toml"))
)
_CHECK_SECONDS: Final = 60.0
INDENT: Final = 21
"""The columns of time and function before the words of a line."""
_LAYER: Final = "changed-code"

# Loads every handler as its function would, in one interpreter, so that the layer is read once; prints failures.
_LOAD: Final = """
import importlib.util, json, os, sys, traceback
task, failures = json.load(sys.stdin), {}
sys.path.insert(0, task["package"])
for name, function in task["functions"].items():
    os.environ.clear()
    os.environ.update(function["environment"])
    spec = importlib.util.spec_from_file_location("handler", function["file"])
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except BaseException:
        failures[name] = traceback.format_exc(limit=-1)
print(json.dumps(failures))
"""

Fingerprints = Mapping[Path, tuple[int, int]]


class Reloader:
    """Watches a checkout and keeps a stack up to date."""

    def __init__(
        self, root: Path, stack: LocalStack, console: Terminal, *, known: Fingerprints, database_url: str | None
    ) -> None:
        """*known*: `fingerprints` from before the build of the stack. *database_url*: the database for new migrations;
        None: only print a hint about new migrations."""
        self._root = root
        self._stack = stack
        self._console = console
        self._database_url = database_url
        self._known = known
        self._lambda = stack.ministack.client("lambda")
        self._names = function_names(stack)
        # A later layer hides the files of an earlier layer: the new layer replaces the package of the deployed layer.
        self._code_layer = ""
        self._outdated: dict[str, str] = {}
        # Functions that could not be loaded are still to be updated once their code loads.
        self._pending: set[Path] = set()

    def look(self) -> None:
        """Applies the changes since the last look; prints the result, or the reason for a failure."""
        now = fingerprints(self._root)
        changed = {path for path in self._known.keys() | now.keys() if self._known.get(path) != now.get(path)}
        self._known = now
        if not changed:
            return
        for path in sorted(changed & set(_OF_THE_DEPLOYMENT)):
            self._say(f"{path} changed: end dev and start it again to deploy that", DOUBTFUL)
        if migrations := sorted(path for path in changed if path.is_relative_to(_MIGRATIONS)):
            self._bring_in_migrations(migrations)
        if code := {path for path in changed if path.suffix == ".py"}:
            self._bring_in_code(self._pending | code)

    # Code

    def _bring_in_code(self, changed: set[Path]) -> None:
        began = time.monotonic()
        in_layer = any(path.is_relative_to(_PACKAGE) for path in changed)
        functions = [name for name in self._names if in_layer or any(path.parts[1] == name for path in changed)]
        self._pending = changed
        try:
            if problems := self._problems(functions):
                for name, text in problems.items():
                    self._say(f"{name} would not load; the previous code stays in use:\n{text.rstrip()}", BAD)
                return
            if in_layer:
                self._publish_layer()
            for name in functions:
                self._replace(name, new_layer=in_layer)
        except (BotoCoreError, ClientError, OSError) as error:
            # Perhaps a file was removed again: the rest follows with the next change.
            self._say(f"not reloaded: {error}", BAD)
            return
        self._pending = set()
        what = ", ".join(sorted(path.name if in_layer else str(path) for path in changed))
        self._say(f"{what}: {', '.join(functions)} in {time.monotonic() - began:.1f} s, from the next event on", ASIDE)

    def _problems(self, names: Iterable[str]) -> dict[str, str]:
        """The error at the load of each function, by its name."""
        account = self._stack.ministack.environment
        functions = {
            name: {
                "file": str(self._root / "functions" / name / "handler.py"),
                "environment": self._configuration(name)["Environment"]["Variables"] | account,
            }
            for name in names
        }
        try:
            answer = subprocess.run(
                [sys.executable, "-I", "-c", _LOAD],
                input=json.dumps({"package": str(self._root / _PACKAGE.parent), "functions": functions}),
                capture_output=True,
                text=True,
                check=True,
                timeout=_CHECK_SECONDS,
            )
        except (subprocess.SubprocessError, OSError) as error:
            return dict.fromkeys(functions, str(error))
        failures: dict[str, str] = json.loads(answer.stdout)
        return _grouped(failures)

    def _configuration(self, name: str) -> Any:
        return self._lambda.get_function_configuration(FunctionName=self._names[name], Qualifier="live")

    def _publish_layer(self) -> None:
        files = sorted((self._root / _PACKAGE).rglob("*.py"))
        package = self._root / _PACKAGE.parent
        archive = _zipped({f"python/{file.relative_to(package)}": file for file in files})
        answer = self._lambda.publish_layer_version(LayerName=_LAYER, Content={"ZipFile": archive})
        self._code_layer = answer["LayerVersionArn"]

    def _replace(self, name: str, *, new_layer: bool) -> None:
        """Makes a version of the function with the changes, and points its alias there."""
        function = self._names[name]
        before = self._configuration(name)
        if new_layer:
            layers = [layer["Arn"] for layer in before["Layers"] if f":layer:{_LAYER}:" not in layer["Arn"]]
            self._lambda.update_function_configuration(FunctionName=function, Layers=[*layers, self._code_layer])
        folder = self._root / "functions" / name
        code = _zipped({str(file.relative_to(folder)): file for file in sorted(folder.rglob("*.py"))})
        self._lambda.update_function_code(FunctionName=function, ZipFile=code)
        version = self._lambda.publish_version(FunctionName=function)["Version"]
        self._lambda.update_alias(FunctionName=function, Name="live", FunctionVersion=version)
        # The last version may still be at work; an older version only keeps a process.
        if outdated := self._outdated.pop(name, None):
            self._lambda.delete_function(FunctionName=function, Qualifier=outdated)
        self._outdated[name] = before["Version"]

    # Migrations

    def _bring_in_migrations(self, changed: list[Path]) -> None:
        names = ", ".join(path.name for path in changed)
        if self._database_url is None:
            self._say(f"{names}: apply it with `clerk-supabase migrate --database-url ...` when it is ready", DOUBTFUL)
            return
        try:
            applied = list(migrate(self._database_url, self._root))
        except (MigrationFailed, DatabaseFailed, psycopg.Error, OSError) as error:
            self._say(f"{error}; here, ending dev and starting it again makes a new database", BAD)
            return
        self._say(f"applied {', '.join(applied)}" if applied else f"{names}: nothing to apply", ASIDE)

    def _say(self, text: str, style: str) -> None:
        first, *others = printable_lines(text)
        self._console.say(f"{time.strftime('%H:%M:%S'):<10}{'reload':<11}{first}", style, indent=INDENT)
        for line in others:
            self._console.say(f"{'':<{INDENT}}{line}", style, indent=INDENT)


def fingerprints(root: Path) -> Fingerprints:
    """The files of the checkout that matter to a stack, each with a fingerprint that changes with every write."""
    files = [
        *(root / _PACKAGE).rglob("*.py"),
        *(root / "functions").glob("*/**/*.py"),
        *(root / _MIGRATIONS).glob("*.sql"),
        *(root / path for path in _OF_THE_DEPLOYMENT),
    ]
    return {file.relative_to(root): found for file in files if (found := _fingerprint(file))}


def function_names(stack: LocalStack) -> dict[str, str]:
    """The physical names of the deployed functions, by the names of their folders."""
    functions = stack.ministack.client("lambda").list_functions()["Functions"]
    deployed = {function["FunctionName"] for function in functions}
    names = {name: f"{stack.name}-{name}" for name in FUNCTIONS}
    return {name: physical for name, physical in names.items() if physical in deployed}


def printable_lines(text: str) -> list[str]:
    """The lines of a foreign text, each fit for a terminal."""
    return [printable(line) for line in text.splitlines()] or [""]


def _grouped(failures: Mapping[str, str]) -> dict[str, str]:
    """Joins equal errors of several functions: a fault in the layer fails in each function."""
    by_reason: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name, text in failures.items():
        reason = (text.strip().splitlines() or ["no reason given"])[-1]
        by_reason.setdefault(reason, []).append(name)
        texts.setdefault(reason, text or reason)
    return {", ".join(names): texts[reason] for reason, names in by_reason.items()}


def _fingerprint(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _zipped(files: Mapping[str, Path]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, file in files.items():
            target.writestr(name, file.read_bytes())
    return archive.getvalue()
