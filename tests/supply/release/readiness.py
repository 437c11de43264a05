"""The conditions for a release: a clean commit of one version that is described, and whose tests passed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tests.supply.release import changelog
from tests.supply.release.template import APPLICATION

PASSED: Final = Path(".tools/passed")
"""The file into which `.ci/run` writes the commit that it tested, when everything passed."""
FROZEN: Final = Path("sql", "released")
"""The folder with the checksums of the migrations of each release, which `make freeze` writes."""
DOCUMENTS: Final = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md"),
    *("docs/adopt.md", "docs/deploy.md", "docs/operate.md", "docs/release.md", "docs/upgrade.md"),
)
_SHORTEST: Final = 7
"""Digits of a commit that name it."""
PYTHON: Final = "3.13"
"""The Python of the functions: the layer holds bytecode and libraries for it alone."""


def version_of(root: Path) -> str:
    """The version of the command."""
    project: dict[str, Any] = tomllib.loads((root / "cli" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version: str = project["version"]
    return version


def problems(root: Path, passed: str) -> list[str]:
    """The reasons against a release of this checkout. *passed*: the commit that CI tested elsewhere."""
    version = version_of(root)
    return [
        *_unclean(root),
        *_other_versions(root, version),
        *changelog.problems((root / "CHANGELOG.md").read_text(encoding="utf-8"), version),
        *(f"{name} is missing" for name in DOCUMENTS if not (root / name).is_file()),
        *_not_frozen(root, version),
        *_untested(root, passed),
        *_tagged(root, version),
        *_earlier_without_tag(root, version),
    ]


def wrong_python(version: str) -> list[str]:
    """The reason against the Python that would compile the layer, whose version this is."""
    fits = version.split(".")[:2] == PYTHON.split(".")
    return [] if fits else [f"the layer is for Python {PYTHON}, and LAYER_PYTHON names a Python {version}"]


def commit_of(root: Path) -> str:
    """The commit of a checkout."""
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *arguments: str) -> str:
    """The output of a command of git."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n")


def page_of(address: str) -> str:
    """The page of a repository by the address of a remote; empty for a folder of this machine."""
    found = re.fullmatch(r"(?:https://(?:[^@/]+@)?|ssh://git@|git@)([a-z0-9.-]+)[:/](.+?)(?:\.git)?/?", address)
    return f"https://{found[1]}/{found[2]}" if found else ""


def _unclean(root: Path) -> Iterator[str]:
    if changed := git(root, "status", "--porcelain").splitlines():
        yield f"the tree has changes that are in no commit: {', '.join(line[3:] for line in changed[:5])}"


def _other_versions(root: Path, version: str) -> Iterator[str]:
    layer = tomllib.loads((root / "layers" / "shared" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    application = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))["Metadata"][APPLICATION]
    found = {"layers/shared/pyproject.toml": layer["version"], "template.yaml": application["SemanticVersion"]}
    yield from (
        f"{name} says {other}, and cli/pyproject.toml {version}" for name, other in found.items() if other != version
    )
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"{version} is no version of a release, such as 1.0.0"


def _not_frozen(root: Path, version: str) -> Iterator[str]:
    if not (root / FROZEN / f"{version}.json").is_file():
        yield f"{FROZEN}/{version}.json, the checksums of the migrations, is missing: run `make freeze`, and commit"


def _untested(root: Path, passed: str) -> Iterator[str]:
    commit = commit_of(root)
    file = root / PASSED
    known = passed or (file.read_text(encoding="utf-8").strip() if file.is_file() else "")
    if not (len(known) >= _SHORTEST and commit.startswith(known)):
        what = f"the tests passed on {known[:12]}" if known else "nothing says that the tests passed"
        advice = f"run .ci/run, or if CI passed elsewhere: make release PASSED={commit[:12]}"
        yield f"{what}, and this is {commit[:12]}: {advice}"


def _tagged(root: Path, version: str) -> Iterator[str]:
    tagged = git(
        root,
        "tag",
        "--list",
        f"v{version}",
        "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)",
    )
    if tagged and tagged != commit_of(root):
        yield f"v{version} is the tag of another commit, {tagged[:12]}: a released version never changes"


def _earlier_without_tag(root: Path, version: str) -> Iterator[str]:
    """The tests of the upgrade take the functions of an earlier release from its tag, and else the present ones."""
    for earlier in sorted(file.stem for file in (root / FROZEN).glob("*.json")):
        if earlier != version and not git(root, "tag", "--list", f"v{earlier}"):
            yield (
                f"v{earlier} is no tag of this repository, so the upgrade from {earlier} was not tested with its "
                "functions: git fetch --tags, and run .ci/run again"
            )
