"""The folders of the code: few modules in each, so that a reader finds the right one."""

from __future__ import annotations

import pytest

from tests.kit.documents import ROOT


@pytest.mark.parametrize(("package", "most"), [("layers/shared/clerk_supabase", 14), ("cli/clerk_supabase_cli", 16)])
def test_no_folder_has_more_modules_than_its_limit(package: str, most: int) -> None:
    modules = [file.relative_to(ROOT) for file in (ROOT / package).rglob("*.py") if file.name != "__init__.py"]
    folders = {file.parent: sum(each.parent == file.parent for each in modules) for file in modules}
    assert folders
    assert {str(folder): number for folder, number in folders.items() if number > most} == {}


@pytest.mark.parametrize("package", ["layers/shared/clerk_supabase", "cli/clerk_supabase_cli"])
def test_an_import_of_a_folder_runs_no_code(package: str) -> None:
    beginnings = list((ROOT / package).rglob("__init__.py"))
    assert beginnings
    assert [str(file.relative_to(ROOT)) for file in beginnings if file.read_bytes()] == []
