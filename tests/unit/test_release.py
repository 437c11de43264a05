"""`make release`: what it asks of a commit, and that the same commit gives the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tests.supply.release import artifacts, changelog, readiness
from tests.supply.release.__main__ import commands, may_replace
from tests.supply.release.archives import NotPlain, checksums, pack
from tests.supply.release.artifacts import Inputs
from tests.supply.release.template import APPLICATION, released

PAGE = "https://git.example/acme/sync"
HISTORY = """# Changelog

## 1.0.0 - 2026-11-29

### Added

- A thing, see [the guide](docs/deploy.md#update), [AWS](https://aws.example) and [above](#changelog).

## 0.9.0 - 2026-01-01

- Something older.
"""


# Archives


def tree(folder: Path, names: list[str]) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def test_an_archive_of_the_same_files_has_the_same_bytes_whatever_their_order_times_and_rights(tmp_path: Path) -> None:
    names = ["python/b.py", "python/a/c.py", "handler.py", "python/a.py"]
    first = tree(tmp_path / "first", names)
    second = tree(tmp_path / "another folder", names[::-1])
    os.utime(second / "handler.py", (1_000_000_000, 1_000_000_000))
    (second / "handler.py").chmod(0o600)
    (second / "python" / "empty").mkdir()
    for folder in (first, second):
        pack(folder, folder.with_suffix(".zip"))
    assert first.with_suffix(".zip").read_bytes() == second.with_suffix(".zip").read_bytes()
    with zipfile.ZipFile(first.with_suffix(".zip")) as archive:
        assert archive.namelist() == sorted(names)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_program_stays_a_program_and_a_link_is_packed_by_nobody(tmp_path: Path) -> None:
    folder = tree(tmp_path / "layer", ["bin/tool", "data"])
    (folder / "bin" / "tool").chmod(0o700)
    pack(folder, tmp_path / "layer.zip")
    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        assert [oct(entry.external_attr >> 16) for entry in archive.infolist()] == ["0o100755", "0o100644"]
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(NotPlain, match=r"^link is neither"):
        pack(folder, tmp_path / "layer.zip")


def test_the_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    tree(tmp_path, ["b.zip", "a.zip"])
    (tmp_path / "SHA256SUMS").write_text(checksums(tmp_path))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "a.zip: OK\nb.zip: OK\n"


# The changelog


def test_the_notes_are_the_section_of_the_version_and_its_links_lead_to_the_files_of_the_tag() -> None:
    assert changelog.notes(HISTORY, "1.0.0", PAGE) == (
        f"### Added\n\n- A thing, see [the guide]({PAGE}/blob/v1.0.0/docs/deploy.md#update), "
        "[AWS](https://aws.example) and [above](#changelog).\n"
    )
    with pytest.raises(ValueError, match=r"1\.1\.0"):
        changelog.notes(HISTORY, "1.1.0", PAGE)


def test_a_picture_of_the_readme_is_its_file_of_the_tag_and_no_page_about_the_file() -> None:
    """A host shows `blob` as a page with the file in it, which no browser takes as an image."""
    text = """![A [b]](docs/b.svg) and ![another](https://pictures.example/c.svg), see [b](docs/b.svg)
<source srcset="docs/dark.png"> <img src="docs/light.png" alt="src of a picture">
"""
    assert changelog.linked(text, PAGE, "1.0.0") == (
        f"![A [b]]({PAGE}/raw/v1.0.0/docs/b.svg) and ![another](https://pictures.example/c.svg), "
        f"see [b]({PAGE}/blob/v1.0.0/docs/b.svg)\n"
        f'<source srcset="{PAGE}/raw/v1.0.0/docs/dark.png"> '
        f'<img src="{PAGE}/raw/v1.0.0/docs/light.png" alt="src of a picture">\n'
    )


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (HISTORY.replace("1.0.0", "1.0.1"), "has no section `## 1.0.0 - <date>`"),
        (HISTORY.replace("2026-11-29", "soon"), "has no date"),
        (HISTORY.replace("2026-11-29", "20261129"), "has no date"),
        ("## 1.0.0 - 2026-11-29\n\n## 0.9.0 - 2026-01-01\n\n- Older.\n", "or no text"),
        (f"## Unreleased\n\n- New.\n\n{HISTORY}", "under `Unreleased`"),
    ],
)
def test_a_changelog_that_does_not_describe_the_version_is_named(history: str, said: str) -> None:
    [reason] = changelog.problems(history, "1.0.0")
    assert said in reason


def test_an_empty_section_for_changes_to_come_is_no_problem() -> None:
    assert changelog.problems(HISTORY.replace("## 1.0.0", "## Unreleased\n\n## 1.0.0"), "1.0.0") == []


# The template


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_template_of_a_release_is_the_projects_with_archives_and_one_architecture(
    architecture: str, root: Path
) -> None:
    source = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))
    text = released((root / "template.yaml").read_text(encoding="utf-8"), architecture, PAGE, "1.0.0")
    # CloudFormation reads neither.
    assert "<<:" not in text
    assert "&id0" not in text
    template = yaml_parse(text)
    archives = {
        each["Properties"].pop(place)
        for each in template["Resources"].values()
        for place in ("CodeUri", "ContentUri")
        if place in each["Properties"]
    }
    assert archives == {f"layer-{architecture}.zip"} | {
        f"function-{name}.zip" for name in ("ingest", "reconcile", "retry", "session", "sync")
    }
    assert template["Parameters"]["Architecture"]["AllowedValues"] == [architecture]
    application = template["Metadata"][APPLICATION]
    assert application["HomePageUrl"] == PAGE
    assert application["SourceCodeUrl"] == f"{PAGE}/tree/v1.0.0"
    assert (application["LicenseUrl"], application["ReadmeUrl"]) == ("LICENSE", "README.md")
    for each in source["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            each["Properties"].pop(place, None)
        if each["Type"] == "AWS::Serverless::LayerVersion":
            del each["Metadata"]
    assert template["Resources"] == source["Resources"]
    assert template["Outputs"] == source["Outputs"]


# Readiness


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that is ready for 1.0.0, with the files that decide it."""
    folder = tmp_path / "checkout"
    tree(folder, [*readiness.DOCUMENTS, "sql/released/1.0.0.json"])
    for package in ("cli", "layers/shared"):
        tree(folder, [f"{package}/pyproject.toml"])
        (folder / package / "pyproject.toml").write_text('[project]\nversion = "1.0.0"\n')
    (folder / "template.yaml").write_text(f'Metadata: {{{APPLICATION}: {{SemanticVersion: "1.0.0"}}}}\n')
    (folder / "CHANGELOG.md").write_text(HISTORY)
    (folder / ".gitignore").write_text(".tools/\n__pycache__/\n")
    readiness.git(folder, "init", "--quiet")
    commit(folder)
    return folder


@pytest.fixture
def whole(root: Path, checkout: Path) -> Path:
    """A checkout with all files of the project that a release holds."""
    for name in ("cli", "events/clerk", "functions", "layers", "LICENSE", "README.md", "requirements/cli.txt"):
        copy(root / name, checkout / name)
    for name in ("samconfig.toml", "sql", "template.yaml"):
        copy(root / name, checkout / name)
    (checkout / "CHANGELOG.md").write_text(HISTORY.replace("1.0.0", readiness.version_of(root)))
    commit(checkout)
    return checkout


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "ca"))
    else:
        shutil.copyfile(source, target)


def commit(folder: Path) -> None:
    readiness.git(folder, "add", "--all")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    readiness.git(folder, *who, "commit", "--quiet", "--message", "a commit")
    (folder / ".tools").mkdir(exist_ok=True)
    (folder / readiness.PASSED).write_text(f"{readiness.commit_of(folder)}\n")


def test_a_clean_tested_commit_with_a_dated_section_is_ready(checkout: Path) -> None:
    assert readiness.problems(checkout, "") == []


def test_a_change_that_is_in_no_commit_stops_the_release(checkout: Path) -> None:
    (checkout / "layers" / "shared" / "new.py").touch()
    (checkout / "LICENSE").write_text("another licence\n")
    assert readiness.problems(checkout, "") == [
        "the tree has changes that are in no commit: LICENSE, layers/shared/new.py"
    ]


def test_versions_that_differ_stop_the_release(checkout: Path) -> None:
    file = checkout / "template.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace('"1.0.0"', '"0.9.0"', 1), encoding="utf-8")
    commit(checkout)
    assert readiness.problems(checkout, "") == ["template.yaml says 0.9.0, and cli/pyproject.toml 1.0.0"]


def test_a_missing_document_stops_the_release(checkout: Path) -> None:
    (checkout / "docs" / "upgrade.md").unlink()
    commit(checkout)
    assert readiness.problems(checkout, "") == ["docs/upgrade.md is missing"]


def test_a_version_whose_migrations_may_still_change_is_no_release(checkout: Path) -> None:
    (checkout / "sql" / "released" / "1.0.0.json").rename(checkout / "sql" / "released" / "0.9.0.json")
    commit(checkout)
    readiness.git(checkout, "tag", "v0.9.0")
    assert readiness.problems(checkout, "") == [
        "sql/released/1.0.0.json, the checksums of the migrations, is missing: run `make freeze`, and commit"
    ]


def test_a_commit_whose_tests_did_not_pass_is_no_release_unless_ci_passed_elsewhere(checkout: Path) -> None:
    tested = readiness.commit_of(checkout)
    (checkout / "more").touch()
    commit(checkout)
    now = readiness.commit_of(checkout)
    (checkout / readiness.PASSED).write_text(f"{tested}\n")
    [reason] = readiness.problems(checkout, "")
    assert reason.startswith(f"the tests passed on {tested[:12]}, and this is {now[:12]}: run .ci/run")
    assert readiness.problems(checkout, now[:7]) == []
    # Too short to name a commit.
    assert len(readiness.problems(checkout, now[:6])) == 1
    (checkout / readiness.PASSED).unlink()
    assert readiness.problems(checkout, "")[0].startswith("nothing says that the tests passed")


def test_the_tag_of_another_commit_is_never_moved(checkout: Path) -> None:
    readiness.git(checkout, "tag", "v1.0.0")
    assert readiness.problems(checkout, "") == []
    (checkout / "more").touch()
    commit(checkout)
    [reason] = readiness.problems(checkout, "")
    assert reason.startswith("v1.0.0 is the tag of another commit")


def test_an_earlier_release_without_its_tag_stops_the_release(checkout: Path) -> None:
    """The tests of the upgrade take the functions of an earlier release from its tag."""
    tree(checkout, ["sql/released/0.9.0.json"])
    commit(checkout)
    assert readiness.problems(checkout, "") == [
        (
            "v0.9.0 is no tag of this repository, so the upgrade from 0.9.0 was not tested with its functions: "
            "git fetch --tags, and run .ci/run again"
        )
    ]
    readiness.git(checkout, "tag", "v0.9.0")
    assert readiness.problems(checkout, "") == []


def test_a_layer_for_another_python_is_not_released() -> None:
    assert readiness.wrong_python("3.13.5") == []
    assert readiness.wrong_python("3.12.1") == ["the layer is for Python 3.13, and LAYER_PYTHON names a Python 3.12.1"]


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://git.example/acme/sync.git", PAGE),
        ("https://token@git.example/acme/sync", PAGE),
        ("git@git.example:acme/sync.git", PAGE),
        ("ssh://git@git.example/acme/sync", PAGE),
        ("/srv/sync", ""),
    ],
)
def test_the_page_of_the_project_is_that_of_its_remote(remote: str, page: str) -> None:
    assert readiness.page_of(remote) == page


def test_a_folder_that_holds_something_else_is_never_replaced(tmp_path: Path) -> None:
    assert may_replace(tmp_path / "missing")
    assert may_replace(tmp_path)
    (tmp_path / "thesis.txt").touch()
    assert not may_replace(tmp_path)
    assert not may_replace(tmp_path / "thesis.txt")
    (tmp_path / "SHA256SUMS").touch()
    assert may_replace(tmp_path)


# All of it


def test_the_same_commit_gives_the_same_bytes_in_another_folder(whole: Path, tmp_path: Path) -> None:
    """With small layers; tests/stacks/test_layer.py builds the real ones."""
    clone = tmp_path / "a clone in another place"
    readiness.git(tmp_path, "clone", "--quiet", str(whole), str(clone))
    # What git ignores, and another time.
    for stray in ("functions/sync/__pycache__/handler.pyc", "cli/clerk_supabase_cli/__pycache__/main.pyc"):
        tree(clone, [stray])
    os.utime(clone / "functions" / "sync" / "handler.py", (1_000_000_000, 1_000_000_000))
    made = [released_from(each, tmp_path / f"made of {each.name}") for each in (whole, clone)]
    names = [sorted(file.name for file in folder.iterdir()) for folder in made]
    assert names[0] == names[1]
    different = [name for name in names[0] if (made[0] / name).read_bytes() != (made[1] / name).read_bytes()]
    assert different == []
    version = readiness.version_of(whole)
    wheel = f"clerk_supabase_cli-{version}-py3-none-any.whl"
    assert {"SHA256SUMS", "NOTES.md", "template-arm64.yaml", wheel} <= set(names[0])
    readme = (made[0] / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"""[("](?:docs|sql|examples)/|\]\([A-Z]+\.md""", readme) == []
    for file in made[0].iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    assert json.loads((made[0] / "inputs.json").read_text())["commit"] == readiness.commit_of(whole)
    inputs = Inputs(readiness.commit_of(whole), version, PAGE, "3.13.0", "0.0")
    printed = list(commands(inputs, made[0]))
    assert printed[0] == f'git tag -s v{version} -m "{version}" {readiness.commit_of(whole)}'
    assert f"uv publish {wheel}" in printed


def test_a_commit_during_the_build_is_neither_built_nor_tagged(checkout: Path, tmp_path: Path) -> None:
    output = tmp_path / "made"
    tree(output, ["clerk_supabase_cli-1.0.0-py3-none-any.whl"])
    tested = readiness.commit_of(checkout)
    (checkout / "later").touch()
    commit(checkout)
    artifacts.export(checkout, tested, tmp_path / "source")
    assert (tmp_path / "source" / "LICENSE").is_file()
    assert not (tmp_path / "source" / "later").exists()
    inputs = Inputs(tested, "1.0.0", PAGE, "3.13.0", "0.0")
    assert next(commands(inputs, output)) == f'git tag -s v1.0.0 -m "1.0.0" {tested}'


ENDLESS = """#!/bin/sh
echo $$ >"$TMPDIR/../running"
exec sleep 600
"""
BUILDS = """
import sys
from pathlib import Path
from clerk_supabase_cli.operate.deployment.build.programs import Programs
from tests.supply.release.__main__ import build
from tests.supply.release.artifacts import Inputs
from tests.supply.release.readiness import commit_of

root, endless, output = map(Path, sys.argv[1:])
inputs = Inputs(commit_of(root), "1.0.0", "https://git.example/acme/sync", "3.13.0", "0.0")
build(root, Programs(endless, endless, Path(sys.executable)), inputs, output)
"""


@pytest.mark.parametrize("ended", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_build_that_is_killed_leaves_no_file_and_no_process_and_the_earlier_release(
    ended: signal.Signals, whole: Path, root: Path, tmp_path: Path
) -> None:
    scratch, endless, output = tmp_path / "scratch", tmp_path / "bin" / "uv", tmp_path / "dist" / "1.0.0"
    tree(scratch.parent, ["bin/uv", "dist/1.0.0/SHA256SUMS", "dist/1.0.0/layer-arm64.zip"])
    scratch.mkdir()
    endless.write_text(ENDLESS)
    endless.chmod(0o755)
    command = [sys.executable, "-c", BUILDS, str(whole), str(endless), str(output)]
    building = subprocess.Popen(command, cwd=root, env=os.environ | {"TMPDIR": str(scratch)})
    running = tmp_path / "running"
    try:
        assert becomes_true(lambda: running.is_file() and running.read_text().endswith("\n"))
        assert list(scratch.iterdir()) != []
    finally:
        building.send_signal(ended)
        building.wait()
    pid = int(running.read_text())
    assert becomes_true(lambda: list(scratch.iterdir()) == [] and not Path("/proc", str(pid)).exists())
    assert becomes_true(lambda: list(output.parent.iterdir()) == [output])
    assert sorted(each.name for each in output.iterdir()) == ["SHA256SUMS", "layer-arm64.zip"]


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Tells whether a condition becomes true within a minute."""
    deadline = time.monotonic() + 60
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def released_from(checkout: Path, output: Path) -> Path:
    """The files of a release of this checkout, with layers of one file."""
    source = output.with_name(f"{output.name}, source")
    artifacts.export(checkout, readiness.commit_of(checkout), source)
    layers = {}
    for architecture in artifacts.ARCHITECTURES:
        layers[architecture] = tree(output.with_name(f"{output.name}, {architecture}"), ["python/module.py"])
    output.mkdir()
    inputs = Inputs(readiness.commit_of(checkout), readiness.version_of(checkout), PAGE, "3.13.0", "0.0")
    artifacts.write(source, layers, inputs, output)
    return output
