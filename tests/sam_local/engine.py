"""A container engine: the engine of this machine, or one of our own as long as the tests last."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clerk_supabase_cli.local.processes import Guard, last_lines
from tests.kit.polling import eventually

_START_SECONDS: Final = 60.0
# The right to mount and to make namespaces, without which no engine runs. See capabilities(7).
_CAP_SYS_ADMIN: Final = 1 << 21


class NoEngine(Exception):
    """No container engine is possible on this machine."""


class EngineFailed(Exception):
    """An engine is possible, and has a fault."""


@contextlib.contextmanager
def container_engine() -> Iterator[str]:
    """The address of an engine (DOCKER_HOST). Raises NoEngine and EngineFailed."""
    if _answers(os.environ.get("DOCKER_HOST", "")):
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    if reason := _why_none_can_be_had():
        raise NoEngine(reason)
    daemon = shutil.which("dockerd", path=_search_path())
    if daemon is None:
        raise EngineFailed("there is no container engine: install one, for example `apt-get install docker.io`")
    with Guard() as guard:
        # A short path: that of a socket has a limit of 108 bytes.
        folder = guard.folder("engine-")
        host = f"unix://{folder}/docker.sock"
        bridge_was_there = _has_bridge()
        process = guard.start(
            [
                daemon,
                f"--host={host}",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/exec",
                f"--pidfile={folder}/pid",
                # Containers reach this machine, and it them, without any rule in its firewall.
                "--iptables=false",
                "--ip6tables=false",
                "--ip-masq=false",
            ],
            log=folder / "log",
            env={**os.environ, "PATH": _search_path()},
            # On SIGTERM it ends its containers and gives back its mounts.
            last_signal=signal.SIGTERM,
        )
        try:
            _wait_for(host, process, folder / "log")
            yield host
        finally:
            guard.end(process, signal.SIGTERM, grace=30)
            if not bridge_was_there:
                subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)


def _why_none_can_be_had() -> str:
    if sys.platform != "linux":
        return f"no engine answers, and on {sys.platform} none can be started from here: start Docker Desktop"
    if os.geteuid() != 0:
        return "no engine answers, and only root may start one"
    if not _capabilities() & _CAP_SYS_ADMIN:
        return "no engine answers, and this root may not start one: it lacks CAP_SYS_ADMIN (an unprivileged container?)"
    if shutil.which("dockerd", path=_search_path()) is None and shutil.which("apt-get") is None:
        return "no engine answers, there is no dockerd and no apt-get to install one"
    return ""


def _capabilities() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _answers(host: str) -> bool:
    environment = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    try:
        answer = subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def _has_bridge() -> bool:
    return Path("/sys/class/net/docker0").exists()


def _wait_for(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def has_ended_or_answers() -> bool:
        return process.poll() is not None or _answers(host)

    with contextlib.suppress(AssertionError):
        eventually(has_ended_or_answers, bool, seconds=_START_SECONDS)
    if process.poll() is not None or not _answers(host):
        raise EngineFailed(f"dockerd did not start; the end of its log:\n{last_lines(log, 30)}")
