"""The recorded commands: each story runs the real programs, in a terminal of its own."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.dev.running import NotRunning, RunningStack, running_stack
from clerk_supabase_cli.local.processes import free_port
from tests.pictures.casts import Cast
from tests.pictures.recording import CommandFailed, Recorder, hiding

# The traffic of the demo is the same for each run with a seed.
SEED: Final = 7
PORTS: Final = {"--port": 4566, "--clerk-port": 4567, "--frontend-port": 4568}
MARY: Final = "user_2Mary0000000000000000000"
HEDY: Final = "user_2Hedy0000000000000000000"
_SECONDS: Final = 180
# Keys, and folders of this machine. Replaced while a program prints, so that lines fold as with the replacement.
_HIDDEN: Final = (
    (r"whsec_[\w+/=]+", "whsec_********"),
    (r"sk_(test|live)_\w+", r"sk_\1_********"),
    (r"(postgres://|postgresql://)[^@\s]*@", r"\1********@"),
    (r"token=[\w-]+", "token=********"),
    (r"(access key +)\w+", r"\1********"),
    (r"/\S*/clerk-supabase-logs-\w+", "the folder clerk-supabase-logs"),
)
# Whatever differs between two runs of the same code: times, ids, durations, ports, and the numbers of the demo that say
# which of two workers was faster.
_VARYING: Final = (
    r"\b(msg|org|orgmem|req)_\w+",
    r"\d{4}-\d\d-\d\d",
    r"[\d-]+:[\d-]{2}:[\d-]{2}[.\d]*",
    r"[\d.]+ (?:ms|s|min)\b",
    r"(?<=:)\d{4,5}\b",
    r"(?<=execute-api/)\w+",
    r"(?:applied \(.*\)|stale \(.*\)|duplicates|deleted|of users deleted before) +\d+",
)


def tells_the_same(one: Cast, other: Cast) -> bool:
    """Tells whether two recordings end with the same words, but for times and ids; events may come in another order."""
    return _essence(one) == _essence(other)


def _essence(cast: Cast) -> list[str]:
    [*_, last] = cast.frames()
    return sorted(hiding([(pattern, " ") for pattern in _VARYING])(last.text).split())


def record_demo(root: Path) -> Cast:
    """`make demo`, whose traffic follows from a seed."""
    title = "make demo: the stack is deployed on this machine, webhooks get lost, and reconcile ends with no difference"
    recorder = Recorder(title, 80, 30, folder=root, hide=hiding(_HIDDEN))
    recorder.type(f'make demo ARGS="--seed {SEED}"')
    recorder.run("make", "--no-print-directory", "demo", f"ARGS=--seed {SEED}")
    return recorder.cast


@contextmanager
def recorded_dev(root: Path) -> Iterator[tuple[Recorder, RunningStack]]:
    """`make dev`, from its start on; the recording goes on during the block. Raises CommandFailed."""
    check_that_no_dev_runs(root)
    ports = {option: free_port() for option in PORTS}
    title = "make dev: the stack starts on this machine, and each event is shown with its result"
    shown = [(rf":{ports[option]}\b", f":{usual}") for option, usual in PORTS.items()]
    recorder = Recorder(title, 100, 36, folder=root, hide=hiding([*_HIDDEN, *shown]))
    recorder.type("make dev")
    arguments = " ".join(f"{option} {port}" for option, port in ports.items())
    with recorder.running("make", "--no-print-directory", "dev", f"ARGS={arguments}") as process:
        _wait(recorder, r"sync +unchanged", lambda: process.poll() is None)
        yield recorder, running_stack(root)


def check_that_no_dev_runs(root: Path) -> None:
    """Raises CommandFailed while `make dev` of this checkout runs, whose keys another one would replace."""
    try:
        running_stack(root)
    except NotRunning:
        return
    raise CommandFailed("`make dev` of this checkout runs: end it with Ctrl-C, then run `make pictures` again")


def record_explain(root: Path, stack: RunningStack) -> Cast:
    """A sign-up whose webhook is lost, the comparison that repairs it, and the timeline of the user."""
    title = "A webhook is lost: reconcile finds and repairs the missing row, and explain tells the history of the user"
    recorder = Recorder(title, 100, 42, folder=root, hide=hiding(_HIDDEN))
    for command in (
        f"clerk-supabase clerk user create --id {HEDY} --first-name Hedy --lose",
        "clerk-supabase reconcile",
        f"clerk-supabase explain {HEDY}",
    ):
        recorder.type(command)
        recorder.run(f"{root}/.venv/bin/clerk-supabase", *command.split()[1:], environment=stack.variables)
        recorder.pause()
    return recorder.cast


def play(root: Path, stack: RunningStack, dev: Recorder) -> None:
    """Gives the terminal of `make dev` something to show: a user signs up, changes, is banned, and is deleted."""
    environment = {"PATH": "/usr/bin:/bin", **stack.variables}
    for command in (
        ("create", "--id", MARY, "--first-name", "Mary"),
        ("update", MARY, "--set", 'last_name="Shelley"'),
        ("ban", MARY),
        ("delete", MARY),
    ):
        program = [f"{root}/.venv/bin/clerk-supabase", "clerk", "user", *command]
        subprocess.run(program, env=environment, check=True, capture_output=True)
        time.sleep(1)
    _wait(dev, r"sync +deleted")


def _wait(recorder: Recorder, pattern: str, is_running: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + _SECONDS
    while not re.search(pattern, recorder.text):
        if not is_running() or time.monotonic() > deadline:
            raise CommandFailed(f"the terminal never showed {pattern}:\n{recorder.text}")
        time.sleep(0.2)
