"""The cases of a costly test that are tried: all with --exhaustive, else so many that each value of each axis is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import pytest

Value = TypeVar("Value")

EXHAUSTIVE: Final = "--exhaustive"
MARK: Final = "each_value"


def each_value(cases: Sequence[Mapping[str, int]]) -> list[int]:
    """The positions of the cases to try, always the same ones: together they have each value of each axis.

    *cases*: each maps the name of an axis to the number of a value. Values that were tried less often come first, so
    that the second axis does not stay at its first value.
    """
    used: Counter[tuple[str, int]] = Counter()
    left = {position: set(case.items()) for position, case in enumerate(cases)}
    missing = set().union(*left.values())
    tried = []
    while missing:
        position = min(left, key=lambda each: (-len(left[each] & missing), sum(used[x] for x in left[each]), each))
        values = left.pop(position)
        missing -= values
        used.update(values)
        tried.append(position)
    return sorted(tried)


class Share(Protocol):
    """A choice among the values that a test tries in a loop."""

    def __call__(self, values: Sequence[Value], number: int, parts: int) -> list[Value]: ...


def share(values: Sequence[Value], number: int, parts: int) -> list[Value]:
    """The part of the values for the test of this number: *parts* tests in a row try each value once."""
    return [*values[number % parts :: parts]]


def every(values: Sequence[Value], number: int, parts: int) -> list[Value]:
    """All values, in the place of `share()`."""
    return [*values]


def left_out(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests that are not tried: of those with the mark `each_value`, all cases that `each_value()` leaves."""
    groups: defaultdict[Hashable, list[tuple[pytest.Item, dict[str, int]]]] = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker(MARK)
        if mark is not None and isinstance(item, pytest.Function):
            # All cases of a test share the objects that are their parameters.
            values = {axis: id(value) for axis, value in item.callspec.params.items()}
            case = {axis: values.pop(axis) for axis in mark.args}
            groups[item.path, item.originalname, tuple(sorted(values.items()))].append((item, case))
    found = []
    for group in groups.values():
        tried = set(each_value([case for _, case in group]))
        found += [item for position, (item, _) in enumerate(group) if position not in tried]
    return found
