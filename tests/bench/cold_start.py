"""Seconds from the start of a process to the first answer of a function: interpreter, imports, clients."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.tools import Tools
from tests.bench.results import Result, cost
from tests.kit.environments import environment_of

_TURNS: Final = 15
_SETTINGS: Final = environment_of(
    *("ingest", "retry"),
    AWS_DEFAULT_REGION="eu-central-1",
    WEBHOOK_SECRET_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook",
    SYNC_QUEUE_URL="https://sqs.example.test/sync",
    PARKED_QUEUE_URL="https://sqs.example.test/parked",
    DATABASE_SECRET_ARN="arn:aws:secretsmanager:eu-central-1:123456789012:secret:database",
)
# Ends as soon as the function could answer: nobody waits for the work of an interpreter at its end.
_START: Final = "import sys, os, importlib; importlib.import_module(sys.argv[1]); os._exit(0)"


def measure(root: Path) -> Iterator[Result]:
    """Ingest and retry with their layer, and a handler that imports everything, with the same libraries, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layer = _build_layer(root, folder)
        everything = _add_svix(root, layer, folder)
        # Functions ship without bytecode; only the layer has it.
        ours = _copy(root / "functions" / "ingest" / "handler.py", folder / "ours")
        retry = _copy(root / "functions" / "retry" / "handler.py", folder / "retry")
        theirs = _copy(Path(__file__).with_name("everything_handler.py"), folder / "theirs")
        times = [
            (
                _start("everything_handler", theirs, everything),
                _start("handler", ours, layer),
                _start("handler", retry, layer),
            )
            for _ in range(_TURNS)
        ]
    baseline, ingest, with_database = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    yield cost(
        "cold start of ingest, .pyc shipped (median)",
        "svix, pydantic, most of Powertools",
        baseline,
        ingest,
        at_most=0.5,
    )
    # As that of sync, with libpq and pydantic besides.
    yield cost("cold start of retry", "ingest", ingest, with_database)


def _start(handler: str, *places: Path) -> float:
    """Seconds until the first answer."""
    environment = _SETTINGS | {"PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
    started = time.perf_counter()
    # Without `site`, so that nothing is found but what the function brings.
    subprocess.run([sys.executable, "-S", "-c", _START, handler], env=environment, check=True)
    return time.perf_counter() - started


def _build_layer(root: Path, folder: Path) -> Path:
    """Builds the layer as `sam build` does, for the interpreter of this process."""
    source = shutil.copytree(root / "layers" / "shared", folder / "source")
    settings = [f"ARTIFACTS_DIR={folder / 'layer'}", f"LAYER_PYTHON={sys.executable}", "LAYER_PLATFORM=native"]
    _run(root, ["make", "--silent", "--directory", str(source), "build-SharedLayer", *settings])
    return folder / "layer" / "python"


def _add_svix(root: Path, layer: Path, folder: Path) -> Path:
    """A copy of the layer with svix added, in the version of the tests, compiled in the same way."""
    site = shutil.copytree(layer, folder / "everything")
    pins = root / "requirements" / "dev.txt"
    where = ["--target", str(site), "--python", sys.executable]
    _run(root, ["uv", "pip", "install", "--quiet", *where, "--constraints", str(pins), "svix"])
    compiler = [sys.executable, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]
    _run(root, [*compiler, str(site)])
    return site


def _run(root: Path, command: list[str]) -> None:
    uv = Tools.of(root).uv
    foreign = ("MAKE", "MFLAGS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["PATH"] = f"{uv.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    subprocess.run(command, env=environment, check=True)


def _copy(handler: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(handler, folder)
    return folder
