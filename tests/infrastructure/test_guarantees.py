"""docs/guarantees.md: every guarantee of the README, with tests that prove it."""

from __future__ import annotations

import re

import pytest

from tests.kit.documents import ROOT, names_of_tests, table_of

GUARANTEES = table_of(ROOT / "docs" / "guarantees.md", "The guarantees and their proofs")


def test_the_readme_promises_what_is_proven_and_nothing_else() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## What it guarantees\n")[2].partition("\n## ")[0]
    promised = re.findall(r"^\d+\. \*\*(.+?)\*\*", section, re.MULTILINE)
    assert promised
    assert [guarantee for guarantee, _ in GUARANTEES] == promised


@pytest.mark.parametrize(("guarantee", "proof"), GUARANTEES)
def test_the_tests_that_prove_a_guarantee_exist(guarantee: str, proof: str) -> None:
    named = re.findall(r"`(test_\w+)`", proof)
    assert named
    assert set(named) <= names_of_tests().keys()
