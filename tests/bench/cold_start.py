"""Cold starts of the functions: interpreter, imports, clients, the secret, and for ingest the first event."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign
from tests.bench.aws import aws
from tests.bench.results import Result
from tests.bench.turns import Turns, cost
from tests.kit.environments import environment_of

_TURNS: Final = 15
_FUNCTIONS: Final = ("ingest", "sync", "retry", "session", "reconcile")
_SECRETS: Final = {
    f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}": value
    for name, value in (
        ("webhook", generate_secret()),
        ("database", "postgresql://clerk_sync_worker:test@127.0.0.1/postgres"),
        ("clerk", "sk_test_benchmark"),
    )
}
_WEBHOOK, _DATABASE, _CLERK = _SECRETS
_SETTINGS: Final = environment_of(
    *_FUNCTIONS,
    WEBHOOK_SECRET_ARN=_WEBHOOK,
    SYNC_QUEUE_URL="https://sqs.example.test/sync",
    PARKED_QUEUE_URL="https://sqs.example.test/parked",
    DATABASE_SECRET_ARN=_DATABASE,
    SESSION_DATABASE_SECRET_ARN=_DATABASE,
    CLERK_SECRET_KEY_ARN=_CLERK,
    CLERK_PUBLISHABLE_KEY="pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA==",
)
# Ends at once: nobody waits for the work of an interpreter at its end.
_START: Final = """
import importlib, json, os, sys
handler = importlib.import_module(sys.argv[1])
if len(sys.argv) == 3:
    answer = handler.lambda_handler(json.loads(open(sys.argv[2], encoding="utf-8").read()), None)
    assert answer["statusCode"] == 202, answer
os._exit(0)
"""


# A line of `-X importtime`: the microseconds of the module alone, and of the name its first part.
_IMPORTED: Final = re.compile(r"import time: +(\d+) \| +\d+ \| +([a-zA-Z_0-9]+)[\w.]*")


def measure(root: Path) -> Iterator[Result]:
    """All functions with their layer, and a handler that imports everything, with the same libraries, in turns."""
    with tempfile.TemporaryDirectory() as name, aws(_SECRETS) as made:
        folder = Path(name)
        environment = made.environment | _SETTINGS
        layer = _build_layer(root, folder)
        everything = _add_svix(root, layer, folder)
        # Functions ship without bytecode; only the layer has it.
        theirs = _copy(Path(__file__).with_name("everything_handler.py"), folder / "theirs")
        ours = {name: _copy(root / "functions" / name / "handler.py", folder / name) for name in _FUNCTIONS}
        event = folder / "event.json"
        by_function = {name: Turns() for name in _FUNCTIONS}

        def take(turns: Turns) -> None:
            for _ in range(_TURNS):
                # Signed for each turn: a signature is refused after five minutes.
                event.write_text(json.dumps(_sign_up(_SECRETS[_WEBHOOK])), encoding="utf-8")
                baseline = _start(environment, [theirs, everything], "everything_handler", event)
                turns.add(baseline, _start(environment, [ours["ingest"], layer], "handler", event))
                for name, place in ours.items():
                    by_function[name].add(baseline, _start(environment, [place, layer], "handler"))

        yield cost(
            "cold start of ingest to the end of its first event, CPU",
            "svix, pydantic, most of Powertools",
            take,
            at_most=0.25,
        )
        for function, turns in by_function.items():
            row = cost(f"cold start of {function} without an event, CPU", "the same baseline", turns.copy_into)
            yield replace(row, details=(f"imports: {_imports(environment, [ours[function], layer])}",))


def _imports(environment: Mapping[str, str], places: Sequence[Path]) -> str:
    """The packages that a handler imports, each with the milliseconds that its own modules take."""
    paths = {"PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-X", "importtime", "-c", "import handler, os; os._exit(0)"]
    told = subprocess.run(command, env={**environment, **paths}, check=True, capture_output=True, text=True).stderr
    milliseconds: dict[str, float] = {}
    for line in told.splitlines():
        if found := _IMPORTED.fullmatch(line):
            package = "standard library" if found[2] in sys.stdlib_module_names else found[2]
            milliseconds[package] = milliseconds.get(package, 0.0) + int(found[1]) / 1e3
    largest = sorted(milliseconds.items(), key=lambda each: -each[1])
    return ", ".join(f"{package} {taken:.0f} ms" for package, taken in largest if taken >= 1)


def _sign_up(secret: str) -> dict[str, Any]:
    now = time.time_ns() // 1_000_000
    user = samples.user("user_1", created_at=now, updated_at=now)
    return api_gateway_event(sign(samples.event("user.created", user, timestamp=now), secret))


def _start(environment: Mapping[str, str], places: Sequence[Path], *arguments: str | Path) -> float:
    """Seconds of the processor until the function could answer, or until it has answered the event."""
    paths = {"PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
    # Without `site`, so that nothing is found but what the function brings.
    command = [sys.executable, "-S", "-c", _START, *map(str, arguments)]
    process = subprocess.Popen(command, env={**environment, **paths}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    # The process is known to be over; Popen would wait for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def _build_layer(root: Path, folder: Path) -> Path:
    """Builds the layer as `sam build` does, for the interpreter of this process."""
    source = shutil.copytree(root / "layers" / "shared", folder / "source")
    settings = [f"ARTIFACTS_DIR={folder / 'layer'}", f"LAYER_PYTHON={sys.executable}", "LAYER_PLATFORM=native"]
    _run(root, ["make", "--silent", "--directory", str(source), "build-SharedLayer", *settings])
    return folder / "layer" / "python"


def _add_svix(root: Path, layer: Path, folder: Path) -> Path:
    """A copy of the layer with svix added, in the version of the tests, compiled in the same way.

    Without awscrt, which boto3 would import, and which a handler with boto3 does not bring.
    """
    site = shutil.copytree(layer, folder / "everything", ignore=shutil.ignore_patterns("awscrt*", "_awscrt*"))
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
