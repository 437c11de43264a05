"""`python -m tests.bench.invocations_child HANDLER FOLDER`: one function, called with one event after the other."""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from pathlib import Path

import click

_WARM = 20


@click.command()
@click.argument("handler", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def main(handler: str, folder: Path) -> None:
    """Reads events.json from the folder, writes told.json into the folder."""
    events = json.loads((folder / "events.json").read_text(encoding="utf-8"))
    function = runpy.run_path(handler)["lambda_handler"]
    cpu_seconds: list[float] = []
    waited_seconds: list[float] = []
    log_before = 0
    for number, event in enumerate(events):
        if number == _WARM:
            log_before = _length_of_log()
        started, cpu_started = time.perf_counter(), time.process_time()
        answer = function(event, None)
        cpu, seconds = time.process_time() - cpu_started, time.perf_counter() - started
        if answer.get("statusCode", 202) != 202 or answer.get("batchItemFailures"):
            raise RuntimeError(f"not applied: {answer}")
        if number >= _WARM:
            cpu_seconds.append(cpu)
            waited_seconds.append(max(0.0, seconds - cpu))
    told = {
        "cpu_seconds": cpu_seconds,
        "waited_seconds": waited_seconds,
        "log_bytes": _length_of_log() - log_before,
    }
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def _length_of_log() -> int:
    sys.stdout.flush()
    return os.fstat(sys.stdout.fileno()).st_size


if __name__ == "__main__":
    main()
