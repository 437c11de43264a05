"""A stand-in for AWS's base image of Lambda for Python, made of files of this machine, without a pull of an image.

The image has everything that `sam local` and Lambda need: a shell with a few commands, Python, and the runtime client
(awslambdaric) that AWS's own image starts. The runtime interface emulator comes from the SAM CLI, the layer from `sam
build`. The stand-in differs from the real image in its Python, which is this machine's, and in its system libraries.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Commands of SAM's recipe in the image (`mv`, `chmod`, `cp`, `rm` in a shell), and of the runtime's start (`env`).
_COMMANDS: Final = ("sh", "mv", "chmod", "cp", "rm", "env")
# Libraries of glibc and the compiler that wheels may need, and no command above.
_LIBRARIES: Final = (
    *(
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
        "libutil.so.1",
        "libresolv.so.2",
        "libgcc_s.so.1",
        "libstdc++.so.6",
    ),
    *("libnss_files.so.2", "libnss_dns.so.2"),
)
_WITHOUT: Final = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"}
)
_BOOTSTRAP: Final = """#!/bin/sh
export AWS_EXECUTION_ENV=AWS_Lambda_python3.13
export PYTHONPATH=/opt/python:/var/runtime
exec {python} -m awslambdaric "$_HANDLER"
"""
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    # As on Amazon Linux: a name may have several lines in /etc/hosts.
    "etc/host.conf": "multi on\n",
}


@dataclass(frozen=True)
class Interpreter:
    """The Python of an environment, and its path."""

    executable: Path
    """The file itself, not a link to it."""
    standard_library: Path
    packages: Path
    """The environment's site-packages."""

    @classmethod
    def of(cls, environment: Path) -> Interpreter:
        """The Python of a virtual environment."""
        ask = "import json, sys, sysconfig as s; p = s.get_path; print(json.dumps([p('stdlib'), p('purelib')]))"
        executable = environment / "bin" / "python"
        answer = subprocess.run([executable, "-I", "-c", ask], capture_output=True, check=True, text=True)
        standard_library, packages = json.loads(answer.stdout)
        return cls(executable.resolve(), Path(standard_library), Path(packages))


def import_base_image(environment: Path, name: str, docker_host: str) -> None:
    """Gives the engine the image under *name*; *environment* is the environment that holds awslambdaric."""
    interpreter = Interpreter.of(environment)
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as image:
            _fill(image, interpreter)
        file.seek(0)
        subprocess.run(
            ["docker", "import", "--change", "WORKDIR /var/task", "-", name],
            env={**os.environ, "DOCKER_HOST": docker_host},
            stdin=file,
            stdout=subprocess.DEVNULL,
            check=True,
        )


def _fill(image: tarfile.TarFile, interpreter: Interpreter) -> None:
    commands = [Path(found) for name in _COMMANDS if (found := shutil.which(name))]
    library = interpreter.standard_library
    modules = sorted(library.glob("lib-dynload/*.so"))
    image.add(library, arcname=_inside(library), filter=_only_what_runs)
    for package in sorted(interpreter.packages.iterdir()):
        image.add(package, arcname=f"var/runtime/{package.name}", filter=_only_what_runs)
    programs = [interpreter.executable, *commands]
    wanted = {*programs, *_shared_libraries([*programs, *modules])}
    folders = {library.parent for library in wanted if library.name == "libc.so.6"}
    wanted |= {folder / name for folder in folders for name in _LIBRARIES if (folder / name).exists()}
    for path in sorted(wanted):
        image.add(path.resolve(), arcname=_inside(path))
    for command in commands:
        if command.parent != Path("/bin"):
            _link(image, f"bin/{command.name}", str(command))
    _link(image, "var/lang/bin/python3", str(interpreter.executable))
    _write(image, "var/runtime/bootstrap", _BOOTSTRAP.format(python=interpreter.executable), mode=0o755)
    for name, text in _FILES.items():
        _write(image, name, text)
    for name in ("tmp", "opt", "var/task", "root"):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o777
        image.addfile(entry)


def _shared_libraries(programs: Iterable[Path]) -> Iterator[Path]:
    for program in programs:
        if "_tkinter" in program.name:
            continue
        answer = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for path in re.findall(r"(/\S+) \(0x", answer.stdout):
            yield Path(path)


def _only_what_runs(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _WITHOUT & set(Path(entry.name).parts[-1:]) or entry.name.endswith(".a") else entry


def _inside(path: Path) -> str:
    return str(path).lstrip("/")


def _link(image: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    image.addfile(entry)


def _write(image: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text.encode()), mode
    image.addfile(entry, io.BytesIO(text.encode()))
