"""Counts the words that make a text hard to read: `.venv/bin/python -m tests.language [paths] [--sentences N]`.

A path is a folder or a file (.py: docstrings, .sql: comments, .md: prose). Without a path, the command reads the
program and all documents. It prints the files with the most vague pronouns first, then the sentences to rewrite first.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import click

PROGRAM: Final = ("layers", "cli", "functions")
DOCUMENTS: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs")
SUFFIXES: Final = (".py", ".sql", ".md")

VAGUE: Final = {"who", "what", "that", "those", "one", "none", "it", "they"}
# A docstring opens with a noun or a verb, not with one of these.
OPENERS: Final = {
    *("what", "whatever", "who", "whoever", "whom", "whose", "which", "whichever"),
    *("that", "those", "how", "where", "wherever", "when", "whenever", "why", "whether"),
}

_WORD = re.compile(r"[^\W\d_]\w*(?:[-'’]\w+)*")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`+[^`]+`+")
_LINK = re.compile(r"\]\([^)]+\)")
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+")


@dataclass(frozen=True)
class Passage:
    """One docstring, comment, paragraph or row of a table, and its place."""

    file: Path
    line: int
    text: str

    @cached_property
    def words(self) -> list[str]:
        """The words of the text, with None left out: a value of Python is no pronoun."""
        return [word for word in _WORD.findall(self.text) if word != "None"]

    @property
    def vague(self) -> int:
        """The number of vague pronouns in the text."""
        return sum(re.split("['’]", word)[0].lower() in VAGUE for word in self.words)

    @property
    def opens_badly(self) -> bool:
        """Tells whether the first word of a docstring is a relative pronoun."""
        return self.file.suffix == ".py" and bool(self.words) and self.words[0].lower() in OPENERS

    def sentences(self) -> list[Passage]:
        """The sentences of the text, each on one line."""
        return [Passage(self.file, self.line, " ".join(each.split())) for each in _SENTENCE.split(self.text)]


@dataclass(frozen=True)
class Count:
    """The figures of one or more files."""

    name: str
    words: int
    vague: int
    openers: int

    @classmethod
    def of(cls, name: str, read: list[Passage]) -> Count:
        """The figures of the passages *read*."""
        words = sum(len(each.words) for each in read)
        return cls(name, words, sum(each.vague for each in read), sum(each.opens_badly for each in read))

    @property
    def per_hundred(self) -> float:
        """The number of vague pronouns in a hundred words."""
        return 100 * self.vague / max(self.words, 1)

    def __str__(self) -> str:
        return f"{self.per_hundred:5.1f} {self.words:6} {self.openers:7}  {self.name}"


def files(*paths: Path) -> list[Path]:
    """The files with words below the folders *paths*; a file stands for itself."""
    found: set[Path] = set()
    for path in paths:
        found |= {path} if path.is_file() else {each for each in path.rglob("*") if each.suffix in SUFFIXES}
    return sorted(found)


@cache
def passages(file: Path) -> list[Passage]:
    """The passages of a file that a person reads."""
    read = {".py": _docstrings, ".sql": _comments, ".md": _paragraphs}[file.suffix]
    return [Passage(file, line, text) for line, text in read(file.read_text(encoding="utf-8"))]


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings of modules, classes and functions, and the texts below the fields and constants they describe."""
    for node in _blocks(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    text = statement.value.value
                    if isinstance(text, str):
                        yield statement.lineno, _CODE.sub("code", inspect.cleandoc(text))


def _blocks(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and its statements, without their expressions, which are many and hold no docstring."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        yield (node := waiting.popleft())
        for name in ("body", "orelse", "handlers", "finalbody", "cases"):
            waiting += getattr(node, name, ())


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"(?:^ *--.*\n)+", source, re.MULTILINE):
        yield source.count("\n", 0, found.start()) + 1, found.group().replace("--", "")


def _paragraphs(source: str) -> Iterator[tuple[int, str]]:
    """The prose: without fenced blocks and the targets of links; code in a table is no word, elsewhere it is one."""
    prose = _FENCE.sub(lambda fence: "\n" * fence.group().count("\n"), source)
    for found in re.finditer(r"^ *\|.*$|(?:^(?! *\|).*\S.*\n?)+", prose, re.MULTILINE):
        text = _LINK.sub("]", found.group())
        instead = "" if text.lstrip().startswith("|") else "code"
        yield prose.count("\n", 0, found.start()) + 1, _CODE.sub(instead, text)


def main() -> None:
    """Print the figures of the files, then the sentences to rewrite first."""
    parser = argparse.ArgumentParser(prog="python -m tests.language", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path(name) for name in (*PROGRAM, *DOCUMENTS)])
    parser.add_argument("--sentences", type=int, default=20, help="the number of sentences to print (20)")
    given = parser.parse_args()
    read = {file: passages(file) for file in files(*given.paths)}
    counts = [Count.of(str(file), found) for file, found in read.items() if found]
    everything = [each for found in read.values() for each in found]
    click.echo("vague  words openers  file")
    for count in sorted(counts, key=lambda each: (-each.per_hundred, -each.openers)):
        click.echo(count)
    click.echo(f"{Count.of('all files', everything)}\n")
    sentences = [each for passage in everything for each in passage.sentences()]
    for each in sorted(sentences, key=lambda each: (-each.vague, len(each.words)))[: given.sentences]:
        click.echo(f"{each.vague} vague: {each.file}:{each.line}: {each.text}")
    for each in everything:
        if each.opens_badly:
            click.echo(f"opens with {each.words[0]!r}: {each.file}:{each.line}: {each.text.splitlines()[0]}")


if __name__ == "__main__":
    main()
