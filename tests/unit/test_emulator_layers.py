"""The layer of the emulator's functions is extracted once, and the code of a function each time."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase_cli.local.emulator.layers import extracting_once

LAYER = {"python/module.py": "A = 1\n", "python/data": "x" * 1_000_000, "ca/root.crt": "ca\n"}


@pytest.fixture(autouse=True)
def _copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own for what is shared."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def archive(file: Path, content: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as written:
        for name, text in content.items():
            written.writestr(name, text)
    return file


def extracted(file: Path, folder: Path) -> list[str]:
    """Extracts as MiniStack does; returns the names that it checks."""
    folder.mkdir()
    namespace: Any = extracting_once()
    with namespace.ZipFile(file) as opened:
        names: list[str] = opened.namelist()
        opened.extractall(folder)
    return names


def content(folder: Path) -> dict[str, str]:
    names = [each for name in folder.iterdir() for each in (name.rglob("*") if name.is_dir() else [name])]
    return {str(each.relative_to(folder)): each.read_text() for each in names if each.is_file()}


def test_two_functions_have_the_same_layer_from_one_copy(tmp_path: Path) -> None:
    file = archive(tmp_path / "layer.zip", LAYER)
    checked = extracted(file, tmp_path / "one")
    extracted(file, tmp_path / "two")
    assert checked == list(LAYER), "every name is checked before anything is extracted"
    assert content(tmp_path / "one") == content(tmp_path / "two") == LAYER
    assert (tmp_path / "one" / "python").samefile(tmp_path / "two" / "python")


def test_another_layer_has_a_copy_of_its_own(tmp_path: Path) -> None:
    extracted(archive(tmp_path / "layer.zip", LAYER), tmp_path / "one")
    changed = LAYER | {"python/module.py": "A = 2\n"}
    extracted(archive(tmp_path / "layer.zip", changed), tmp_path / "two")
    assert (content(tmp_path / "one"), content(tmp_path / "two")) == (LAYER, changed)


def test_the_code_of_a_function_is_not_shared(tmp_path: Path) -> None:
    file = archive(tmp_path / "code.zip", {"handler.py": "B = 1\n"})
    for name in ("one", "two"):
        assert extracted(file, tmp_path / name) == ["handler.py"]
        assert not (tmp_path / name / "handler.py").is_symlink()


def test_an_archive_that_cannot_be_read_is_not_remembered(tmp_path: Path) -> None:
    file = archive(tmp_path / "layer.zip", LAYER | {"python/module.py": "B" * 99})
    file.write_bytes(file.read_bytes().replace(b"B" * 99, b"C" * 99))
    for name in ("one", "two"):
        with pytest.raises(zipfile.BadZipFile):
            extracted(file, tmp_path / name)
    assert not list(tmp_path.glob("ministack-layer-*"))
