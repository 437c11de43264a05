"""A copy of the checkout to type the commands of docs/develop.md in, beside `clerk-supabase dev`, with an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clerk_supabase_cli.local.dev.running import RunningStack, running_stack
from clerk_supabase_cli.local.processes import Guard, last_lines
from clerk_supabase_cli.local.tools import lambda_architecture
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from tests.kit.polling import eventually
from tests.sam_local.base_image import import_base_image
from tests.sam_local.engine import NoEngine, container_engine

IMAGE = f"public.ecr.aws/lambda/python:3.13-{lambda_architecture()}"
IS_INTEL = lambda_architecture() == "x86_64"
# Settings of the caller for AWS and SAM.
FOREIGN = ("AWS_", "SAM_", "LAYER_", "DATABASE_URL", "CLERK_")


@dataclass(frozen=True)
class Terminal:
    """A terminal for the commands of docs/develop.md."""

    folder: Path
    environment: Mapping[str, str]
    document: str

    def command(self, part: str) -> str:
        """The document's command that contains *part*, as typed on this machine."""
        block = next(
            each for each in re.findall(r"```sh\n(.*?)```", self.document, re.DOTALL) if "sam local invoke" in each
        )
        lines = [line.partition("   # ")[0] for line in block.replace("\\\n", "").splitlines()]
        found: str
        [found] = [line for line in lines if part in line]
        if IS_INTEL:
            found = re.sub(
                r"\bsam (build|local start-api|local invoke \w+)", r"\g<0> --config-file events/x86_64.toml", found
            )
        return found

    def with_keys(self, command: str) -> str:
        """The command in a shell that knows the keys of the stack."""
        return f"{self.command('.local/env')}\n{command}"

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", self.with_keys(command)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    @property
    def stack(self) -> RunningStack:
        return running_stack(self.folder)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.database_url) as database:
            return database.execute(query.encode(), parameters).fetchall()


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """An engine's address. On a machine without an engine no test of this tier runs, and the output says so."""
    try:
        with container_engine() as host:
            yield host
    except NoEngine as reason:
        pytest.exit(f"SAM LOCAL WAS NOT TESTED: {reason}", returncode=0)


@pytest.fixture(scope="session")
def terminal(engine: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = _copy(root, tmp_path_factory.mktemp("checkout"))
    scratch = tmp_path_factory.mktemp("scratch")
    tools = root / ".tools"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    search_path = [tools / "sam" / "bin", tools / "uv" / "bin", *os.environ["PATH"].split(os.pathsep)]
    environment = inherited | {
        "PATH": os.pathsep.join(map(str, search_path)),
        "DOCKER_HOST": engine,
        # Its .venv is the checkout's, whose code this is.
        CHECKOUT_VARIABLE: str(folder),
        "SAM_CLI_TELEMETRY": "0",
        "SAM_LAYER_CACHE_BASEDIR": str(scratch),
        # The image is made here, and has this machine's Python.
        "LAYER_PYTHON": str(tools / "lambda" / "bin" / "python"),
    }
    terminal = Terminal(folder, environment, (root / "docs" / "develop.md").read_text())
    with Guard() as guard:
        logs = guard.folder("sam-local-logs-")
        build = guard.start(
            ["bash", "-c", terminal.command("sam build")], log=logs / "build", env=environment, cwd=folder
        )
        dev = guard.start(
            [str(folder / ".venv" / "bin" / "clerk-supabase"), "dev", "--containers"],
            log=logs / "dev",
            env=environment | {"PYTHONUNBUFFERED": "1"},
            cwd=folder,
        )
        import_base_image(tools / "lambda", IMAGE, engine)
        guard.finish(build, log=logs / "build")

        def is_ready() -> str:
            assert dev.poll() is None, last_lines(logs / "dev", 30)
            return (logs / "dev").read_text()

        eventually(is_ready, lambda said: "\nready, " in said, seconds=150)
        yield terminal


def _copy(root: Path, folder: Path) -> Path:
    for name in ("functions", "layers", "sql", "events"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "template.yaml", folder)
    for name in ("samconfig.toml", "events/x86_64.toml"):
        # The one difference: an image that was made here is nowhere to be pulled from.
        text = (root / name).read_text()
        (folder / name).write_text(re.sub(r"(\[default\.local_\w+\.parameters\])", r"\1\nskip_pull_image = true", text))
    for name in (".venv", ".tools"):
        (folder / name).symlink_to(root / name)
    return folder
