"""The functions and their shared layer, as CloudFormation creates them from template.yaml."""

from __future__ import annotations

import os
import re
import subprocess
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
    # SAM tells a makefile nothing of the parameter, but looks for the makefile in another folder.
    assert template.source["Resources"]["SharedLayer"]["Metadata"] == {
        "BuildMethod": "makefile",
        "BuildArchitecture": {"Ref": "Architecture"},
        "ContextPath": {"Fn::Sub": "layers/shared/${Architecture}"},
    }


@pytest.mark.parametrize(
    ("architecture", "platform", "builds_for"),
    [
        ("arm64", "", "aarch64-manylinux_2_28"),
        ("x86_64", "", "x86_64-manylinux_2_28"),
        ("arm64", "aarch64-apple-darwin", "aarch64-apple-darwin"),
        ("x86_64", "native", "native"),
        ("arm64", "x86_64-manylinux_2_28", None),
        ("x86_64", "aarch64-manylinux_2_28", None),
    ],
)
def test_the_layer_is_built_for_the_architecture_of_the_functions_or_not_at_all(
    architecture: str, platform: str, builds_for: str | None, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "uv").write_text(f'#!/bin/sh\ntest "$1" = python && echo python3.13 || echo {tmp_path}\n')
    (tmp_path / "uv").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ARTIFACTS_DIR": str(tmp_path)}
    # As `sam build`, which runs the makefile of ContextPath in the folder of the layer.
    made = subprocess.run(
        ["make", "--makefile", f"{architecture}/Makefile", "prerequisites", "--print-data-base"],
        cwd=root / "layers" / "shared",
        env=environment | ({"LAYER_PLATFORM": platform} if platform else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if builds_for is None:
        assert made.returncode != 0
        assert f"LAYER_PLATFORM is {platform}, which does not fit the parameter Architecture" in made.stderr
    else:
        assert made.returncode == 0
        [said] = re.findall(r"^LAYER_PLATFORM (?:\?=|=|:=) (.+)$", made.stdout, re.MULTILINE)
        assert said.replace("$(LAYER_PROCESSOR)", builds_for.partition("-")[0]) == builds_for


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
