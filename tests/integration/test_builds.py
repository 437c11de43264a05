"""The store of builds: one build for all processes with the same inputs, and none that is damaged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clerk_supabase_cli.local.build.builds import Build, fingerprint
from clerk_supabase_cli.local.build.sam_build import SamBuild
from clerk_supabase_cli.local.processes import CommandFailed, Guard
from clerk_supabase_cli.local.tools import Tools, lambda_architecture
from tests.kit.polling import eventually

# A program that builds, and writes a line into a file each time.
PROGRAM = """
import pathlib, sys, time
into, runs, go = map(pathlib.Path, sys.argv[1:4])
with runs.open("a") as file:
    file.write("run\\n")
(into / "half").write_text("of it")
while not go.exists():
    time.sleep(0.01)
(into / "layer").mkdir()
(into / "layer" / "module.py").write_text("A = 1\\n")
sys.exit(int(sys.argv[4]))
"""

# A process of its own, which makes the build and keeps it until it may end.
OTHER = """
import pathlib, sys
from clerk_supabase_cli.local.build.builds import Build
from clerk_supabase_cli.local.processes import Guard
store, log, *program = sys.argv[1:]
with Guard() as guard:
    start = lambda into: guard.start([program[0], "-c", program[1], str(into), *program[2:]], log=pathlib.Path(log))
    with Build(pathlib.Path(store), "name", start, guard=guard, log=pathlib.Path(log)) as build:
        build.begin()
        print("begun", flush=True)
        print((build.finish() / "layer" / "module.py").read_text(), flush=True)
        sys.stdin.read()
"""


class Builder:
    """A store, and a program that fills an entry as soon as it may end."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.go = folder / "go"
        self.go.touch()
        self.status = "0"
        self._runs = folder / "runs"
        self._log = folder / "log"

    @property
    def runs(self) -> int:
        """The number of times that the program has started."""
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0

    @contextmanager
    def build(self, name: str = "name") -> Iterator[Build]:
        """A build that has begun."""
        with ExitStack() as undo:
            guard = undo.enter_context(Guard())

            def start(into: Path) -> subprocess.Popen[bytes]:
                return guard.start([sys.executable, "-c", PROGRAM, str(into), *self._arguments], log=self._log)

            build = undo.enter_context(Build(self.store, name, start, guard=guard, log=self._log))
            build.begin()
            yield build

    @contextmanager
    def other_process(self) -> Iterator[subprocess.Popen[str]]:
        """Another process that needs the same build; it keeps the build until its input ends."""
        command = [sys.executable, "-c", OTHER, str(self.store), str(self._log), sys.executable, PROGRAM]
        with subprocess.Popen(
            [*command, *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield process
            if process.stdin and not process.stdin.closed:
                process.stdin.close()

    def made(self, name: str = "name") -> Path:
        """Makes an entry; returns its folder."""
        with self.build(name) as build:
            return build.finish()

    def folders(self) -> set[str]:
        """The names of the folders in the store."""
        return {each.name for each in self.store.iterdir() if each.is_dir()}

    @property
    def _arguments(self) -> list[str]:
        return [str(self._runs), str(self.go), self.status]


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_the_same_inputs_are_built_once_and_others_anew(builder: Builder) -> None:
    first, again, other = builder.made(), builder.made(), builder.made("other")
    assert first == again != other
    assert (builder.runs, (again / "layer" / "module.py").read_text()) == (2, "A = 1\n")


def test_two_processes_at_once_share_one_build_and_neither_sees_half_of_it(builder: Builder) -> None:
    builder.go.unlink()
    with builder.build() as build, builder.other_process() as other:
        eventually(lambda: list(builder.store.glob("*/half")), bool)
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        assert not (builder.store / "name").exists()
        builder.go.touch()
        assert (build.finish() / "layer" / "module.py").exists()
        assert other.stdout.readline() == "A = 1\n"
    assert builder.runs == 1


def test_whoever_waits_builds_if_the_build_of_the_other_fails(builder: Builder) -> None:
    builder.go.unlink()
    builder.status = "1"
    with builder.build() as failing:
        builder.status = "0"
        with builder.build() as build:
            builder.go.touch()
            with pytest.raises(CommandFailed):
                failing.finish()
            failing.__exit__()
            assert (build.finish() / "layer" / "module.py").exists()
    assert builder.runs == 2
    assert builder.folders() == {"name"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "layer" / "module.py").write_text("A = 2\n"),
        lambda entry: (entry / "layer" / "module.py").chmod(0o755),
        lambda entry: (entry / "layer" / "module.py").unlink(),
        lambda entry: (entry / "layer" / "added.py").touch(),
        lambda entry: (entry / "fingerprint").write_text(""),
        lambda entry: (entry / "lock").unlink(),
        lambda entry: shutil.rmtree(entry / "layer"),
    ],
    ids=["changed", "executable", "removed", "added", "no fingerprint", "no lock", "half removed"],
)
def test_a_damaged_entry_is_made_anew(builder: Builder, damage: Callable[[Path], object]) -> None:
    before = fingerprint(builder.made())
    damage(builder.made())
    assert (fingerprint(builder.made()), builder.runs) == (before, 2)


def test_a_damaged_entry_in_use_is_neither_used_again_nor_changed(builder: Builder) -> None:
    with builder.build() as first:
        entry = first.finish()
        (entry / "layer" / "module.py").write_text("A = 2\n")
        with builder.build() as second:
            assert (second.finish() / "layer" / "module.py").read_text() == "A = 1\n"
        assert (entry / "layer" / "module.py").read_text() == "A = 2\n"


def test_three_entries_stay_and_those_in_use(builder: Builder) -> None:
    with builder.build("used") as used:
        used.finish()
        for name in ("a", "b", "c", "d"):
            builder.made(name)
        assert builder.folders() == {"used", "b", "c", "d"}


def test_a_process_that_is_killed_leaves_nothing_and_delays_nobody(builder: Builder) -> None:
    builder.go.unlink()
    with builder.other_process() as other:
        eventually(lambda: list(builder.store.glob("*/half")), bool)
        other.kill()
        other.wait()
    builder.go.touch()
    builder.made()
    eventually(
        lambda: [each.name for each in builder.store.iterdir() if each.is_dir()], lambda names: names == ["name"]
    )
    assert builder.runs == 2


def test_without_a_store_each_process_builds_for_itself(builder: Builder) -> None:
    builder.store.write_text("a file where the store would be")
    with builder.build() as build:
        assert (build.finish() / "layer" / "module.py").exists()
    assert builder.store.is_file()


# What the name of a build of SAM covers


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout with a file of each place that a build reads."""
    folder = tmp_path / "checkout"
    for name in (*FILES, "functions/ingest/__pycache__/handler.pyc", "sql/migrations/0001.sql"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text\n")
    return folder


FILES = (
    "template.yaml",
    "functions/ingest/handler.py",
    "layers/shared/Makefile",
    "layers/shared/arm64/Makefile",
    "layers/shared/requirements.txt",
    "layers/shared/pyproject.toml",
    "layers/shared/clerk_supabase/sync.py",
    "layers/shared/ca/root.crt",
)


@pytest.fixture
def tools(root: Path, tmp_path: Path) -> Tools:
    """The environments of uv and SAM as they are installed, where packages can be added."""
    found, folder = Tools.of(root), tmp_path / "tools"
    for program in (found.uv, found.sam):
        environment = program.parents[1]
        packages = [each.relative_to(environment) for each in environment.glob("lib/python*/site-packages/*.dist-info")]
        for package in packages:
            (folder / environment.name / package).mkdir(parents=True)
        (folder / environment.name / "bin").mkdir()
        (folder / environment.name / "bin" / program.name).symlink_to(program)
    return Tools(folder)


def name_of(
    checkout: Path, tools: Tools, copy: Path, architecture: str = lambda_architecture(), **variables: str
) -> str:
    environment = {"PATH": str(Path(sys.executable).parent), "LAYER_PLATFORM": "native", **variables}
    environment.setdefault("LAYER_PYTHON", sys.executable)
    return SamBuild.copied(checkout, copy, tools, environment, architecture).name()


def test_the_name_of_a_build_covers_each_of_its_inputs(checkout: Path, tools: Tools, tmp_path: Path) -> None:
    copies = iter(tmp_path / f"copy_{number}" for number in range(100))

    def name(architecture: str = "arm64", **variables: str) -> str:
        return name_of(checkout, tools, next(copies), architecture, **variables)

    before = name()
    names = {before}
    for file in FILES:
        (checkout / file).write_text("other\n")
        names.add(name())
        (checkout / file).write_text("text\n")
    assert name() == before
    (checkout / "layers" / "shared" / "clerk_supabase" / "added.py").touch()
    names.add(name())
    (checkout / "layers" / "shared" / "clerk_supabase" / "added.py").unlink()
    (checkout / "layers" / "shared" / "Makefile").chmod(0o755)
    names.add(name())
    (checkout / "layers" / "shared" / "Makefile").chmod(0o644)
    for variables in (
        {"LAYER_PLATFORM": "aarch64-manylinux_2_28"},
        {"LAYER_PYTHON": "2.7"},
        {"UV_PRERELEASE": "allow"},
    ):
        names.add(name(**variables))
    names.add(name("x86_64"))
    for program in (tools.sam, tools.uv):
        [packages, *_] = program.parents[1].glob("lib/python*/site-packages")
        installed = next(packages.glob("*.dist-info"))
        newer = installed.rename(installed.with_name(f"newer_{installed.name}"))
        names.add(name())
        newer.rename(installed)
    assert len(names) == 1 + len(FILES) + 2 + 3 + 1 + 2
    assert name() == before


def test_the_name_does_not_cover_what_no_build_reads(checkout: Path, tools: Tools, tmp_path: Path) -> None:
    before = name_of(checkout, tools, tmp_path / "before")
    (checkout / "functions" / "ingest" / "__pycache__" / "handler.pyc").write_text("other\n")
    (checkout / "sql" / "migrations" / "0001.sql").write_text("other\n")
    copy = tmp_path / "after"
    assert name_of(checkout, tools, copy, UV_CACHE_DIR=str(tmp_path), TMPDIR=str(tmp_path)) == before
    assert not list(copy.rglob("*.pyc"))
    assert not (copy / "sql").exists()
