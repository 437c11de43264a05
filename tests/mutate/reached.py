"""A record of the tests that run each line of Python and each function of SQL, made once by running all tests."""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

RECORDED: Final = ("layers/shared/clerk_supabase/", "functions/")
_NAME: Final = "__mutate_reached__"


@dataclass
class Recorder:
    """The lines that were run since the last `take()`."""

    lines: set[str] = field(default_factory=set)

    def take(self) -> list[str]:
        lines, self.lines = sorted(self.lines), set()
        return lines

    def install(self, root: Path) -> None:
        """Record the modules of *root* that are imported from now on."""
        recorder = self

        def reached(key: str) -> None:
            recorder.lines.add(key)

        setattr(builtins, _NAME, reached)
        original = importlib.machinery.SourceFileLoader.source_to_code

        def source_to_code(self: Any, data: Any, path: Any, *, _optimize: int = -1) -> Any:
            place = Path(str(path))
            file = place.relative_to(root).as_posix() if place.is_relative_to(root) else ""
            if file.startswith(RECORDED):
                text = bytes(data).decode() if not isinstance(data, str) else data
                return compile(recording(text, file), str(path), "exec", dont_inherit=True)
            return original(self, data, path, _optimize=_optimize)

        importlib.machinery.SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign]


def recording(text: str, file: str) -> ast.Module:
    """The module with a record before each statement of each function."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            _record(node, file)
    return ast.fix_missing_locations(tree)


def _record(node: ast.AST, file: str) -> None:
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        found = getattr(node, name, None)
        if not isinstance(found, list):
            continue
        if name in ("handlers", "cases"):
            for each in found:
                _record(each, file)
            continue
        body: list[ast.stmt] = []
        for each in found:
            is_said = isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
            if not is_said:
                call = ast.Call(ast.Name(_NAME, ast.Load()), [ast.Constant(f"{file}:{each.lineno}")], [])
                body.append(ast.copy_location(ast.Expr(call), each))
            body.append(each)
            if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                _record(each, file)
        setattr(node, name, body)


def statement_around(text: str, line: int) -> int:
    """The first line of the innermost statement that holds a line."""
    found = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            found = max(found, node.lineno)
    return found


class Reached:
    """The record of all tests."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.by_key: dict[str, list[str]] = defaultdict(list)
        self.during_import: set[str] = set()
        self.files: set[str] = set()
        """The files that were recorded; their other tests fail or take too long."""

    def add(self, test: str, seconds: float, keys: Iterable[str]) -> None:
        self.seconds[test] = seconds
        for key in keys:
            self.by_key[key].append(test)

    @cached_property
    def breadth(self) -> Counter[str]:
        """The number of lines and functions that each test runs."""
        return Counter(test for tests in self.by_key.values() for test in tests)

    def of_file(self, file: str) -> list[str]:
        """The tests of a file, in their order."""
        return [test for test in self.seconds if test.startswith(f"{file}::")]

    def write(self, path: Path) -> None:
        facts = {"seconds": self.seconds, "by_key": self.by_key}
        sets = {"during_import": sorted(self.during_import), "files": sorted(self.files)}
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(facts | sets))
        unfinished.rename(path)

    @classmethod
    def read(cls, path: Path) -> Reached:
        self = cls()
        read = json.loads(path.read_text())
        self.seconds, self.during_import, self.files = read["seconds"], set(read["during_import"]), set(read["files"])
        self.by_key.update(read["by_key"])
        return self
