"""The modules of the functions, run as a cold start of Lambda runs them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.kit.environments import environment_of


def started(root: Path, function: str, **given: str) -> dict[str, Any]:
    """Runs the module again, as a cold start does, with the variables of the template and the *given* ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_of(function, **given).items():
            patch.setenv(name, value)
        return runpy.run_path(str(root / "functions" / function / "handler.py"))
