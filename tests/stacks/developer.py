"""A developer with two terminals: `clerk-supabase dev` runs in the first, and the second takes commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg

from clerk_supabase_cli.local.dev.running import RunningStack, running_stack
from clerk_supabase_cli.local.processes import Guard
from clerk_supabase_cli.local.tools import TOOLS_VARIABLE, Tools
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from tests.kit.polling import eventually

COMMAND = Path(sys.executable).with_name("clerk-supabase")
# Another `dev` may run beside the tests, such as that of `make sam-local`.
FREE_PORTS = ("--port=0", "--clerk-port=0", "--frontend-port=0")
ADA = "user_2Sample000000000000000000A"


@dataclass(frozen=True)
class Developer:
    """A developer with two terminals: `dev` runs in the first, and the second takes commands."""

    checkout: Path
    process: subprocess.Popen[bytes]
    screen: Path
    database_url: str

    def sees(self, wanted: str, *, seconds: float = 90) -> str:
        """Waits until a line matches; returns the line."""

        def line() -> str:
            return next((line for line in self.screen.read_text().splitlines() if re.search(wanted, line)), "")

        return eventually(line, bool, seconds=seconds)

    def types(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return clerk_supabase(self.checkout, *arguments)

    def in_a_shell(self, typed: str) -> subprocess.CompletedProcess[str]:
        """Types a line into a shell that has .local/env, the URL of the developer's database, and nothing else."""
        return subprocess.run(
            ["bash", "-c", f"source .local/env && {typed}"],
            cwd=self.checkout,
            env={"PATH": os.defpath, "DATABASE_URL": self.database_url, CHECKOUT_VARIABLE: str(self.checkout)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def edits(self, path: str, change: Callable[[str], str]) -> None:
        file = self.checkout / path
        file.write_text(change(file.read_text()))

    def invokes(self, function: str, event: bytes) -> None:
        functions = self.client("lambda")
        answer = functions.invoke(FunctionName=f"clerk-supabase-sync-dev-{function}", Qualifier="live", Payload=event)
        assert "FunctionError" not in answer, answer["Payload"].read()

    @property
    def stack(self) -> RunningStack:
        return running_stack(self.checkout)

    def client(self, service: str) -> Any:
        aws = self.stack.aws
        return boto3.client(  # type: ignore[call-overload]  # the name of the service is no literal
            service,
            endpoint_url=aws["AWS_ENDPOINT_URL"],
            aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
            region_name=aws["AWS_REGION"],
        )

    def names(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as database:
            query = "select first_name, last_name from clerk.users where clerk_id = %s"
            return database.execute(query, [ADA]).fetchall()


def clerk_supabase(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=os.environ | {CHECKOUT_VARIABLE: str(folder)} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def copied(root: Path, copy: Path) -> Path:
    """A copy of the files that `dev` deploys and watches, which a test may edit."""
    for folder in ("functions", "layers", "sql", "events"):
        shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "template.yaml", copy)
    return copy


@contextmanager
def typing_dev(root: Path, checkout: Path, screen: Path, database_url: str, *options: str) -> Iterator[Developer]:
    """Runs `dev` in a checkout with the tools of *root*, and waits until it is ready."""
    environment = os.environ | {
        TOOLS_VARIABLE: str(Tools.of(root).folder),
        CHECKOUT_VARIABLE: str(checkout),
        "PYTHONUNBUFFERED": "1",
    }
    with Guard() as guard:
        process = guard.start([str(COMMAND), "dev", *options, *FREE_PORTS], log=screen, env=environment, cwd=checkout)
        developer = Developer(checkout, process, screen, database_url)
        developer.sees("^ready, ", seconds=240)
        yield developer
