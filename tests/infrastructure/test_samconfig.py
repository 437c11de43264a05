"""samconfig.toml: nothing is inherited there, so each environment has to say everything."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

Configuration = dict[str, Any]


@pytest.fixture(scope="module")
def configuration(root: Path) -> Configuration:
    return tomllib.loads((root / "samconfig.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def declared(root: Path) -> Configuration:
    """The template's parameters."""
    template: Configuration = yaml_parse((root / "template.yaml").read_text(encoding="utf-8"))
    found: Configuration = template["Parameters"]
    return found


def environments(configuration: Configuration) -> dict[str, Configuration]:
    return {name: value for name, value in configuration.items() if name != "version"}


def test_there_is_one_environment_for_dev_and_one_for_prod(configuration: Configuration) -> None:
    stages = {
        name: commands["deploy"]["parameters"]["parameter_overrides"]["Stage"]
        for name, commands in environments(configuration).items()
    }
    assert stages == {"default": "dev", "prod": "prod"}


def test_a_bare_deploy_cannot_touch_prod(configuration: Configuration) -> None:
    names = {
        name: commands["global"]["parameters"]["stack_name"] for name, commands in environments(configuration).items()
    }
    assert names["default"] != names["prod"]
    assert "dev" in names["default"]


@pytest.mark.parametrize("command", ["global", "build", "validate", "deploy"])
def test_each_environment_spells_out_the_same_settings(command: str, configuration: Configuration) -> None:
    spelled = [set(commands[command]["parameters"]) for commands in environments(configuration).values()]
    assert spelled[0]
    assert all(each == spelled[0] for each in spelled)


def test_each_environment_sets_the_same_parameters(configuration: Configuration, declared: Configuration) -> None:
    overrides = [
        commands["deploy"]["parameters"]["parameter_overrides"] for commands in environments(configuration).values()
    ]
    assert all(each.keys() == overrides[0].keys() for each in overrides)
    for each in overrides:
        assert each.keys() <= declared.keys()
        for name, value in each.items():
            assert value in declared[name].get("AllowedValues", [value])


def test_no_deployment_asks_a_question(configuration: Configuration) -> None:
    for commands in environments(configuration).values():
        assert commands["deploy"]["parameters"]["confirm_changeset"] is False


def test_prod_shifts_traffic_gradually(configuration: Configuration) -> None:
    deploy = configuration["prod"]["deploy"]["parameters"]
    assert deploy["parameter_overrides"]["GradualDeployment"] == "true"
    assert "disable_rollback" not in deploy


def test_prod_cannot_be_synced_past_its_deployment(configuration: Configuration) -> None:
    assert "sync" in configuration["default"]
    assert "sync" not in configuration["prod"]


def test_no_capability_beyond_unnamed_roles_is_given(configuration: Configuration) -> None:
    for commands in environments(configuration).values():
        assert commands["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM"


def test_no_account_and_no_secret_is_written_down(root: Path) -> None:
    text = (root / "samconfig.toml").read_text(encoding="utf-8")
    for forbidden in ("arn:", "whsec_", "postgresql://", "profile"):
        assert forbidden not in text


def test_templates_are_linted_whenever_they_are_validated(configuration: Configuration) -> None:
    for commands in environments(configuration).values():
        assert commands["validate"]["parameters"]["lint"] is True
