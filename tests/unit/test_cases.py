"""Of the cases of a costly test, so many are tried that each value of each axis is."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.cases import EXHAUSTIVE, each_value, every, share

cases = st.lists(st.fixed_dictionaries({axis: st.integers(0, 4) for axis in "abc"}), max_size=30)


@given(cases)
def test_each_value_of_each_axis_is_tried_and_always_in_the_same_cases(given: list[dict[str, int]]) -> None:
    tried = each_value(given)
    assert tried == each_value(given) == sorted(set(tried))
    assert {pair for each in tried for pair in given[each].items()} == {pair for each in given for pair in each.items()}


def test_of_a_product_as_many_are_tried_as_the_longest_axis_has_values_and_the_shorter_ones_take_turns() -> None:
    product = [{"role": role, "shape": shape} for role, shape in itertools.product(range(6), range(2))]
    tried = [product[each] for each in each_value(product)]
    assert [each["role"] for each in tried] == [*range(6)]
    assert sorted(each["shape"] for each in tried) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_tests_in_a_row_share_the_values(parts: int) -> None:
    values = [*range(20)]
    for first in range(parts):
        shares = [share(values, number, parts) for number in range(first, first + parts)]
        assert sorted(itertools.chain(*shares)) == values
    assert every(values, 1, parts) == values


@pytest.mark.parametrize(("options", "tried"), [((), 3), ((EXHAUSTIVE,), 6)])
def test_the_option_tries_all_combinations(options: tuple[str, ...], tried: int, root: Path, tmp_path: Path) -> None:
    (tmp_path / "test_product.py").write_text(
        "import pytest\n"
        '@pytest.mark.each_value("a", "b")\n'
        '@pytest.mark.parametrize("a", [1, 2, 3])\n'
        '@pytest.mark.parametrize("b", [1, 2])\n'
        "def test_it(a, b): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", str(root / "pyproject.toml")]
    ended = subprocess.run([*command, str(tmp_path), *options], cwd=root, capture_output=True, text=True, check=True)
    assert f"{tried} passed" in ended.stdout
