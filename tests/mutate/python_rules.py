"""Mutants of Python: operators, conditions, constants, statements, arguments and clauses, by the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from tests.mutate.mutants import Change, Mutant, mutant

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
_OTHER_FUNCTIONS: Final = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
# Of any two arguments that change places the result is the same.
_SYMMETRIC: Final = ("min", "max")
# Keywords for the garbage collector, for assertions and for names of threads do not change the work of the code.
_KEYWORDS_LEFT_ALONE: Final = (None, "thread_name_prefix", "gc", "strict")
# Texts for people and code for the type checker alone need no test.
_NOT_MUTATED: Final = ("logger", "warnings", "TypeVar", "cast", "dataclass", "Field", "ConfigDict", "NewType")


def python_mutants(file: str, text: str) -> list[Mutant]:
    """Every mutant of a module; not each of them is Python."""
    made = (mutant(file, text, change, subject) for change, subject in _Reader(text).changes())
    return list({each.key: each for each in made if each is not None}.values())


def is_python(text: str) -> bool:
    """Tells whether a module can be parsed."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        # Columns of the tree are counted in bytes.
        self._is_ascii = text.isascii()

    def changes(self) -> Iterator[tuple[Change, str]]:
        """Each change, and the name of its function."""
        yield from self._below(ast.parse(self._text), "")

    def _below(self, node: ast.AST, subject: str) -> Iterator[tuple[Change, str]]:
        if self._is_left_alone(node):
            return
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            subject = node.name
        for change in self._changes_of(node):
            yield change, subject
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_comment"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._below(child, subject)

    def _is_left_alone(self, node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                return name in _NOT_MUTATED
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
                return True
            case ast.Expr(value=ast.Call() as call):
                return self._is_left_alone(call)
            case ast.Subscript(value=ast.Name(id=name)):
                return name in ("Literal", "Annotated", "Callable", "Mapping", "Sequence", "tuple", "dict", "list")
            case ast.AnnAssign(value=None):
                return True
            case ast.keyword(arg=name):
                return name is not None and name in _KEYWORDS_LEFT_ALONE
        return False

    def _place(self, line: int, column: int) -> int:
        start = self._lines[line - 1]
        if self._is_ascii:
            return start + column
        return start + len(self._text[start:].encode()[:column].decode())

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._place(node.lineno, node.col_offset), self._place(node.end_lineno, node.end_col_offset)

    def _source(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._text[start:end]

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[Change]:
        """An operator that stands between two operands, perhaps with brackets and ends of lines."""
        start, end = self._span(left)[1], self._span(right)[0]
        place = self._text.find(old, start, end)
        if place >= 0:
            yield place, place + len(old), new

    def _changes_of(self, node: ast.AST) -> Iterator[Change]:  # noqa: C901, PLR0912 - a table of rules
        match node:
            case ast.Compare():
                operands = [node.left, *node.comparators]
                for operator, (left, right) in zip(node.ops, pairwise(operands), strict=True):
                    yield from self._between(left, right, *_COMPARISONS[type(operator)])
            case ast.BoolOp():
                yield from self._of_boolean(node)
            case ast.BinOp() if type(node.op) in _ARITHMETIC and not _is_text(node):
                yield from self._between(node.left, node.right, *_ARITHMETIC[type(node.op)])
            case ast.UnaryOp(op=ast.Not()):
                yield (*self._span(node), self._source(node.operand))
            case ast.Constant():
                yield from self._of_constant(node)
            case ast.If() | ast.While() | ast.IfExp():
                yield (*self._span(node.test), f"not ({self._source(node.test)})")
            case ast.comprehension():
                for condition in node.ifs:
                    yield (*self._span(condition), "True")
            case ast.ExceptHandler(type=ast.expr() as caught):
                yield (*self._span(caught), "()")
                if isinstance(caught, ast.Tuple):
                    yield from self._without_each(caught.elts)
            case ast.List() | ast.Set() | ast.Tuple() if isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                if len(node.elts) > 1 and all(isinstance(each, ast.Constant) for each in node.elts):
                    yield from self._without_each(node.elts)
            case ast.Call():
                yield from self._of_call(node)
            case ast.stmt():
                yield from self._of_statement(node)

    def _of_boolean(self, node: ast.BoolOp) -> Iterator[Change]:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            yield from self._between(left, right, old, new)
            # Without the right one, and without the left one.
            yield self._span(left)[1], self._span(right)[1], ""
            yield self._span(left)[0], self._span(right)[0], ""

    def _of_constant(self, node: ast.Constant) -> Iterator[Change]:
        match node.value:
            case bool():
                yield (*self._span(node), str(not node.value))
            case int():
                yield (*self._span(node), str(node.value + 1))
            case float():
                yield (*self._span(node), str(node.value * 2 + 1))

    def _without_each(self, elements: Sequence[ast.expr]) -> Iterator[Change]:
        for left, right in pairwise(elements):
            yield self._span(left)[0], self._span(right)[0], ""
        yield self._span(elements[-2])[1], self._span(elements[-1])[1], "" if len(elements) > 2 else ","

    def _of_call(self, node: ast.Call) -> Iterator[Change]:
        if isinstance(node.func, ast.Name) and node.func.id in _OTHER_FUNCTIONS:
            yield (*self._span(node.func), _OTHER_FUNCTIONS[node.func.id])
        is_symmetric = isinstance(node.func, ast.Name) and node.func.id in _SYMMETRIC
        for left, right in pairwise([] if is_symmetric else node.args):
            if not isinstance(left, ast.Starred) and not isinstance(right, ast.Starred):
                start, end = self._span(left)[0], self._span(right)[1]
                between = self._text[self._span(left)[1] : self._span(right)[0]]
                yield start, end, self._source(right) + between + self._source(left)
        for keyword in node.keywords:
            if keyword.arg not in _KEYWORDS_LEFT_ALONE and isinstance(
                keyword.value, ast.Constant | ast.Name | ast.Attribute
            ):
                start, end = self._span(keyword)
                rest = self._text[end:]
                yield start, end + (len(rest) - len(rest.lstrip(", \n"))) * rest.startswith(","), ""

    def _of_statement(self, node: ast.stmt) -> Iterator[Change]:
        match node:
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                yield (*self._span(value), "None")
            case ast.Expr(value=ast.Constant()):
                return
            case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
                yield (*self._span(node), "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield (*self._span(node), "pass")
            case ast.Return():
                yield (*self._span(node), "pass")


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(each, ast.JoinedStr | ast.Constant) and not isinstance(getattr(each, "value", 0), int | float)
               for each in (node.left, node.right))  # fmt: skip
