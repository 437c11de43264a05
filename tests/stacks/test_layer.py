"""The layer as `sam build` makes it: the same bytes every time, for the right machine, and small. And in a release."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import botocore
import pytest
from packaging.utils import canonicalize_name

from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.operate.deployment.build.layer import check_architecture
from clerk_supabase_cli.operate.deployment.build.programs import Programs
from tests.supply.licenses import DOCUMENT, PINS, pinned
from tests.supply.release.__main__ import build as build_release
from tests.supply.release.artifacts import Inputs
from tests.supply.release.readiness import git, version_of

# https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html: e_machine, two bytes at offset 18.
AARCH64 = 183
LIMIT_BYTES = 75_000_000


def build(root: Path, folder: Path, platform: str) -> Path:
    """Builds from a scratch copy, as SAM does; returns the folder that Lambda would mount at /opt."""
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


@pytest.fixture(scope="module")
def release(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `make release`, built from a clone in another folder, whose changelog is that of a release."""
    folder = tmp_path_factory.mktemp("release")
    clone, tools = folder / "clone", Tools.of(root)
    git(root, "clone", "--quiet", str(root), str(clone))
    (clone / ".tools").symlink_to(tools.folder)
    (clone / "CHANGELOG.md").write_text(f"## {version_of(clone)} - 2026-11-29\n\n- A thing.\n", encoding="utf-8")
    git(
        clone, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--all", "--message=released"
    )
    python = Path(sys.executable)
    inputs = Inputs.of(clone, "https://git.example/acme/sync", python)
    build_release(clone, Programs(tools.sam, tools.uv, python), inputs, folder / "made")
    return folder / "made"


def test_two_builds_give_the_same_bytes(release: Path, for_arm: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(release / "layer-arm64.zip") as archive:
        archive.extractall(tmp_path)
    assert fingerprint(tmp_path) == fingerprint(for_arm)


def test_a_release_holds_what_the_stack_and_the_command_need(release: Path, tmp_path: Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (release / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in release.iterdir()
        if file.name != "SHA256SUMS"
    }
    [wheel] = release.glob("clerk_supabase_cli-*.whl")
    assert {"layer-x86_64.cdx.json", "constraints.txt", "LICENSE", "NOTES.md", wheel.name} <= sums.keys()
    for architecture in ("arm64", "x86_64"):
        template = (release / f"template-{architecture}.yaml").read_text(encoding="utf-8")
        named = re.findall(r"(?:Code|Content)Uri: (\S+)", template) + re.findall(
            r"(?:License|Readme)Url: (\S+)", template
        )
        assert len(named) == 8
        assert [name for name in named if name not in sums] == []
        layer = tmp_path / architecture
        with zipfile.ZipFile(release / f"layer-{architecture}.zip") as archive:
            archive.extractall(layer)
        check_architecture(layer, architecture)
        assert not [name for name in ("ca", "tests", "bin") if (layer / name).exists()]
    with zipfile.ZipFile(release / "function-ingest.zip") as archive:
        assert archive.namelist() == ["handler.py"]


def test_libraries_are_for_the_platform_that_was_asked_for(for_arm: Path) -> None:
    """For another platform than this machine's; the deployed stack runs with this machine's."""
    libraries = [file for file in for_arm.rglob("*.so*") if file.read_bytes()[:4] == b"\x7fELF"]
    assert {int.from_bytes(library.read_bytes()[18:20], "little") for library in libraries} == {AARCH64}
    # As `deploy` checks before a deployment.
    check_architecture(for_arm, "arm64")


def test_every_module_is_compiled_and_does_not_name_the_machine_that_built_it(for_arm: Path) -> None:
    modules = list((for_arm / "python").rglob("*.py"))
    compiled = list((for_arm / "python").rglob("*.pyc"))
    assert len(modules) > 500
    assert len(compiled) == len(modules)
    # Unchecked: Lambda cannot write to /opt, and SAM sets every time stamp to 1980.
    assert {int.from_bytes(file.read_bytes()[4:8], "little") for file in compiled} == {0b01}
    assert not [file for file in compiled if str(for_arm.parent).encode() in file.read_bytes()]


def test_the_list_of_endpoints_is_that_of_botocore_for_the_services_that_the_layer_keeps(for_arm: Path) -> None:
    """Each cold start parses the list, of which other services take 98 %."""
    data = for_arm / "python" / "botocore" / "data"
    services = {folder.name for folder in data.iterdir() if folder.is_dir()}
    assert services == {"secretsmanager", "sqs", "sts"}
    whole = json.loads(Path(botocore.__file__).with_name("data").joinpath("endpoints.json").read_bytes())
    for partition in whole["partitions"]:
        partition["services"] = {name: each for name, each in partition["services"].items() if name in services}
    assert json.loads((data / "endpoints.json").read_bytes()) == whole


def test_layer_and_function_are_small_together(root: Path, for_arm: Path) -> None:
    largest = max(size(folder) for folder in (root / "functions").iterdir() if folder.is_dir())
    assert size(for_arm) + largest < LIMIT_BYTES


def size(folder: Path) -> int:
    """Bytes, unzipped."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_the_layer_holds_no_library_that_only_tests_need(for_arm: Path) -> None:
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


def test_the_bill_of_materials_lists_what_lies_in_the_layer_and_nothing_else(root: Path, release: Path) -> None:
    bill = release / "layer-arm64.cdx.json"
    written = json.loads(bill.read_text(encoding="utf-8"))
    assert (written["bomFormat"], written["specVersion"]) == ("CycloneDX", "1.6")
    assert written["metadata"]["component"]["name"] == "clerk-supabase-layer"
    pins = (root / PINS).read_text(encoding="utf-8")
    assert {each["purl"] for each in written["components"]} == {
        f"pkg:pypi/{canonicalize_name(each.name)}@{next(iter(each.specifier)).version}" for each in pinned(pins)
    }
    assert [each["name"] for each in written["components"] if not each.get("licenses")] == []
    assert str(release.parent.parent) not in bill.read_text(encoding="utf-8")


def test_every_package_of_others_ships_with_its_licence(for_arm: Path) -> None:
    without = {
        information.name.partition("-")[0]
        for information in (for_arm / "python").glob("*.dist-info")
        if not [file for file in information.rglob("*") if file.name.upper().startswith("LICENSE")]
    }
    assert without == {"clerk_supabase_layer"}


def test_the_libraries_in_the_wheels_are_those_whose_licences_are_listed(root: Path, for_arm: Path) -> None:
    bundled = {file.name.partition("-")[0] for file in (for_arm / "python").glob("*.libs/*")}
    listed = re.findall(r"`(lib\w+)`", (root / DOCUMENT).read_text(encoding="utf-8"))
    assert bundled == set(listed)
