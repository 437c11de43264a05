"""The layer as `sam build` makes it: the same bytes every time, for the machine it is meant for, and small."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clerk_supabase_cli.tools import Tools

# https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html: e_machine, two bytes at offset 18.
AARCH64 = 183
LIMIT_BYTES = 60_000_000


def build(root: Path, folder: Path, platform: str) -> Path:
    """Builds from a scratch copy, as SAM does; returns what Lambda would mount at /opt."""
    folder.mkdir(exist_ok=True)
    source, layer = folder / "source", folder / "layer"
    shutil.copytree(root / "layers" / "shared", source)
    layer.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))} | {
        "ARTIFACTS_DIR": str(layer),
        "LAYER_PYTHON": sys.executable,
        "LAYER_PLATFORM": platform,
        "PATH": os.pathsep.join([str(Tools.of(root).uv.parent), os.environ["PATH"]]),
    }
    subprocess.run(["make", "build-SharedLayer"], cwd=source, env=environment, check=True, capture_output=True)
    return layer


def fingerprint(layer: Path) -> dict[str, str]:
    return {
        str(file.relative_to(layer)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(layer.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def for_arm(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(root, tmp_path_factory.mktemp("arm"), "aarch64-manylinux_2_28")


def test_two_builds_give_the_same_bytes(root: Path, for_arm: Path, tmp_path: Path) -> None:
    again = build(root, tmp_path, "aarch64-manylinux_2_28")
    assert fingerprint(again) == fingerprint(for_arm)


def test_libraries_are_for_the_platform_that_was_asked_for(for_arm: Path) -> None:
    """For another than this machine's; on this one's the deployed stack runs."""
    libraries = [file for file in for_arm.rglob("*.so*") if file.read_bytes()[:4] == b"\x7fELF"]
    assert {int.from_bytes(library.read_bytes()[18:20], "little") for library in libraries} == {AARCH64}


def test_every_module_is_compiled_and_does_not_name_the_machine_that_built_it(for_arm: Path) -> None:
    modules = list((for_arm / "python").rglob("*.py"))
    compiled = list((for_arm / "python").rglob("*.pyc"))
    assert len(modules) > 500
    assert len(compiled) == len(modules)
    # Unchecked: Lambda cannot write to /opt, and SAM sets every time stamp to 1980.
    assert {int.from_bytes(file.read_bytes()[4:8], "little") for file in compiled} == {0b01}
    assert not [file for file in compiled if str(for_arm.parent).encode() in file.read_bytes()]


def test_the_layer_is_small_and_holds_no_library_that_only_tests_need(for_arm: Path) -> None:
    assert sum(file.stat().st_size for file in for_arm.rglob("*") if file.is_file()) < LIMIT_BYTES
    packages = {path.name for path in (for_arm / "python").iterdir()}
    assert {"clerk_supabase", "jwt", "psycopg", "msgspec", "pydantic"} <= packages
    assert not {"svix", "moto", "pytest", "clerk_supabase_cli"} & packages


def test_a_wheel_whose_hash_is_not_the_locked_one_fails_the_build(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "checkout"
    shutil.copytree(root / "layers", broken / "layers")
    pins = broken / "layers" / "shared" / "requirements.txt"
    before, separator, after = pins.read_text().partition("msgspec==")
    pins.write_text(before + separator + re.sub(r"sha256:[0-9a-f]{4}", "sha256:0000", after))
    (broken / ".tools").symlink_to(root / ".tools")
    with pytest.raises(subprocess.CalledProcessError):
        build(broken, tmp_path / "build", "aarch64-manylinux_2_28")
