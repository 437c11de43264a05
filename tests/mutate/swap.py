"""Puts a changed function into modules that are already imported."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

from tests.mutate.mutants import Mutant

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_around(text: str, mutant: Mutant) -> str | None:
    """The name of the outermost function whose body holds the mutant; None for code that runs during the import."""
    for names, node in _functions(ast.parse(text), ()):
        if node.body[0].lineno <= mutant.line <= (node.end_lineno or 0) and _is_in_body(node, mutant, text):
            return ".".join((*names, node.name))
    return None


def swap(path: Path, name: str, changed: str) -> bool:
    """Give each function of the module at *path* with this name its code from the changed text.

    False where no such function is loaded, or where the two differ in the variables of outer functions.
    """
    codes = [code for code in _codes(compile(changed, str(path), "exec")) if code.co_qualname == name]
    # A collection of tests hides its objects from the search for garbage.
    gc.unfreeze()
    loaded = [
        each
        for each in gc.get_objects()
        if isinstance(each, FunctionType)
        and each.__code__.co_filename == str(path)
        and each.__code__.co_qualname == name
    ]
    by_line = {code.co_firstlineno: code for code in codes}
    if not loaded or any(_other(each, by_line) for each in loaded):
        return False
    for each in loaded:
        each.__code__ = by_line[each.__code__.co_firstlineno]
    return True


def _other(function: FunctionType, by_line: dict[int, CodeType]) -> bool:
    code = by_line.get(function.__code__.co_firstlineno)
    return code is None or code.co_freevars != function.__code__.co_freevars


def _functions(tree: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield names, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, (*names, node.name))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _functions(node, names)


def _is_in_body(node: Function, mutant: Mutant, text: str) -> bool:
    lines = text.splitlines(keepends=True)
    first = node.body[0]
    start = sum(map(len, lines[: first.lineno - 1])) + len(
        lines[first.lineno - 1].encode()[: first.col_offset].decode()
    )
    return mutant.start >= start


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)
