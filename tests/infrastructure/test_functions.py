"""The functions and their shared layer, as CloudFormation creates them from template.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.infrastructure.template import FUNCTIONS, Template


def test_there_is_a_function_for_every_folder_of_functions(template: Template, root: Path) -> None:
    folders = {file.parent.name for file in root.glob("functions/*/handler.py")}
    assert {name.removesuffix("Function").lower() for name in FUNCTIONS} == folders
    assert sorted(template.of_type("AWS::Lambda::Function")) == FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_runs_its_handler_on_the_python_the_layer_is_built_for(
    function: str, template: Template, root: Path
) -> None:
    assert template[function]["Runtime"] == "python3.13"
    assert template[function]["Handler"] == "handler.lambda_handler"
    assert template.only("AWS::Lambda::LayerVersion")["CompatibleRuntimes"] == ["python3.13"]
    makefile = (root / "layers" / "shared" / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LAYER_PYTHON \?= 3\.13$", makefile, re.MULTILINE)
    folder = root / template.source["Resources"][function]["Properties"]["CodeUri"]
    assert (folder / "handler.py").is_file()


def test_everything_is_for_arm64_unless_told_otherwise(template: Template, root: Path) -> None:
    assert template.source["Parameters"]["Architecture"]["Default"] == "arm64"
    for function in FUNCTIONS:
        assert template[function]["Architectures"] == [{"Ref": "Architecture"}]
    assert template.only("AWS::Lambda::LayerVersion")["CompatibleArchitectures"] == [{"Ref": "Architecture"}]
    # Left out, SAM builds for x86_64 without a word.
    assert template.source["Resources"]["SharedLayer"]["Metadata"]["BuildArchitecture"] == "arm64"
    makefile = (root / "layers" / "shared" / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LAYER_PLATFORM \?= aarch64-", makefile, re.MULTILINE)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_gets_the_shared_layer_and_nothing_else(function: str, template: Template) -> None:
    [layer] = template.of_type("AWS::Lambda::LayerVersion")
    assert template[function]["Layers"] == [{"Ref": layer}]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_in_no_network_of_its_own_and_reaches_the_internet(function: str, template: Template) -> None:
    assert "VpcConfig" not in template[function]


def test_the_layer_is_built_by_its_makefile_from_hashed_pins(template: Template, root: Path) -> None:
    layer = template.source["Resources"]["SharedLayer"]
    assert layer["Metadata"]["BuildMethod"] == "makefile"
    folder = root / layer["Properties"]["ContentUri"]
    makefile = (folder / "Makefile").read_text(encoding="utf-8")
    assert "build-SharedLayer:" in makefile
    assert "--require-hashes" in makefile
    assert "unchecked-hash" in makefile


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_says_what_it_is_for(function: str, template: Template) -> None:
    assert template[function]["Description"]["Fn::Sub"]
