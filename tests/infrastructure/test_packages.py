"""The two packages: one list of dependencies, and one wheel with every file."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.deployment.build.source import source_of
from clerk_supabase_cli.project import workplace

BUILD = "import sys, wheels; print(getattr(wheels, sys.argv[1])(sys.argv[2]))"


def facts(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def built(folder: Path, hook: str, into: Path) -> Path:
    """The file that the backend of the command builds in a folder."""
    into.mkdir(exist_ok=True)
    environment = {"PYTHONPATH": str(folder / "backend"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", BUILD, hook, str(into)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return into / done.stdout.strip()


def test_the_command_installs_what_the_layer_needs(root: Path) -> None:
    assert set(facts(root / "layers" / "shared")["dependencies"]) <= set(facts(root / "cli")["dependencies"])


def test_a_wheel_holds_every_file_of_the_project_also_when_it_is_built_from_the_source_distribution(
    root: Path, tmp_path: Path
) -> None:
    wheel = built(root / "cli", "build_wheel", tmp_path / "from the checkout")
    source = built(root / "cli", "build_sdist", tmp_path)
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    again = built(tmp_path / source.name.removesuffix(".tar.gz"), "build_wheel", tmp_path / "from the source")
    assert again.read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        for start, inside in PACKED.items():
            if name.startswith(start):
                assert f"{inside}{name.removeprefix(start)}" in names
    assert not [name for name in names if "/ca/" in name or "__pycache__" in name or "/tests/" in name]


PACKED = {
    "cli/clerk_supabase_cli/": "clerk_supabase_cli/",
    "layers/shared/clerk_supabase/": "clerk_supabase/",
    **{
        name: f"clerk_supabase_cli/bundle/{name}"
        for name in ("events/clerk/", "functions/", "layers/", "sql/migrations/", "samconfig.toml", "template.yaml")
    },
}
"""The place in the wheel of each tracked file, by the beginning of its name."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of an installed package, and an empty current folder."""
    bundle = tmp_path / "site-packages" / "bundle"
    (bundle / "layers" / "shared").mkdir(parents=True)
    (bundle / "template.yaml").write_text("one version")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("clerk_supabase_cli.project._BUNDLE", bundle)
    return bundle


def test_an_installed_command_builds_in_the_current_folder_with_the_certificate_beside_stack_toml(
    installed: Path,
) -> None:
    certificate = Path("ca") / "supabase.crt"
    certificate.parent.mkdir()
    certificate.write_text("of Supabase")
    copy = source_of(installed)
    assert copy == Path.cwd() / ".aws-sam" / "package"
    assert (copy / "layers" / "shared" / "ca" / "supabase.crt").read_text() == "of Supabase"
    (copy / ".aws-sam").mkdir()

    # An update, with a certificate less.
    certificate.unlink()
    (installed / "template.yaml").write_text("the next version")
    assert source_of(installed) == copy
    assert (copy / "template.yaml").read_text() == "the next version"
    assert not list((copy / "layers" / "shared" / "ca").iterdir())
    assert (copy / ".aws-sam").is_dir()


def test_a_current_folder_that_takes_no_files_is_named(installed: Path) -> None:
    Path(".aws-sam").touch()
    with pytest.raises(Failure, match=r"^nothing was built: .*; run this in a folder that you may write$"):
        source_of(installed)


def test_a_current_folder_that_was_deleted_is_named(installed: Path) -> None:
    Path.cwd().rmdir()
    with pytest.raises(Failure, match=r"^the current folder cannot be used \(No such file or directory\)"):
        workplace(installed)
