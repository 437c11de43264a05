"""template.yaml with the values it has by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infrastructure.template import Template


@pytest.fixture(scope="session")
def template(root: Path) -> Template:
    """Transformed once in each process; who reads it changes nothing in it."""
    return Template(root)
