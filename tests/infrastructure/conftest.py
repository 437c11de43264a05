"""template.yaml with the default values of its parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infrastructure.template import Template


@pytest.fixture(scope="session")
def template(root: Path) -> Template:
    """The template, transformed once in each process; readers must not change it."""
    return Template(root)
