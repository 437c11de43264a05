"""`python -m tests.kit.restored HANDLER FOLDER`: a function that starts, is kept as a snapshot, and restored twice.

Forks stand for the environments that Lambda restores. After the start, the process writes started.json and waits for
a line on standard input, while a test changes the world. Each restored environment answers event.json, and writes what
it answered, drew and kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import runpy
import sys
from pathlib import Path

from snapshot_restore_py import get_after_restore  # type: ignore[import-untyped]

RESTORED = ("first", "second")


def main(handler: str, folder: Path) -> None:
    """Starts the function, and restores it twice."""
    function = runpy.run_path(handler)["lambda_handler"]
    started = folder / "starting.json"
    started.write_text(json.dumps({"connections": _connections()}), encoding="utf-8")
    started.rename(folder / "started.json")
    sys.stdin.readline()
    event = json.loads((folder / "event.json").read_text(encoding="utf-8"))
    for name in RESTORED:
        if (child := os.fork()) == 0:
            # As Lambda's runtime for Python does it.
            for act, arguments, options in get_after_restore():
                act(*arguments, **options)
            told = {"drew": random.random(), "answer": function(event, None)}
            (folder / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"the {name} environment ended with {status}")


def _connections() -> list[str]:
    """The sockets of this process."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return [each for each in found if each.startswith("socket:")]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
