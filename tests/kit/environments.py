"""The environment of each function, as template.yaml sets it, for tests that run a function without a stack."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

_ROOT = Path(__file__).parents[2]


def environment_of(*functions: str, **given: str) -> dict[str, str]:
    """The variables of these functions with the default values of the parameters, and the *given* variables.

    A variable from the resources of a stack, such as the address of a queue, is missing unless it is *given*.
    """
    found = dict(given)
    for function in functions:
        for name, value in _variables(f"{function.title()}Function").items():
            found.setdefault(name, value)
    return found


@functools.cache
def _template() -> dict[str, Any]:
    template: dict[str, Any] = yaml_parse((_ROOT / "template.yaml").read_text(encoding="utf-8"))
    return template


def _variables(logical_id: str) -> dict[str, str]:
    template = _template()
    defaults = {name: str(each["Default"]) for name, each in template["Parameters"].items()}
    return {
        name: defaults[value["Ref"]]
        for name, value in template["Resources"][logical_id]["Properties"]["Environment"]["Variables"].items()
        if isinstance(value, dict) and value.get("Ref") in defaults
    }
