"""The parts of README.md and docs that a reader copies: blocks, commands, links."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

OURS: Final = "clerk-supabase"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
# A table whose first heading is our command lists what may follow it.
_OF_OURS = re.compile(rf"^\| `(?:\.venv/bin/)?{OURS}` \|.*\n\|[ -|]+\n((?:\|.*\n)+)", re.MULTILINE)
# Placeholders for values of the reader, each with an example.
_STANDS_FOR = {"RUN": "42", "TABLE": "public.tasks", "TOKEN": "-", "TYPE": "user.created", "ID": "user_2abc", "N": "7"}
_ENDS_A_COMMAND = {"&&", "||", "|", ";", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block, and the heading above it."""

    document: str
    heading: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A program and its arguments, as typed."""

    document: str
    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join((self.program, *self.arguments))}"


def documents() -> list[Path]:
    """README.md, CONTRIBUTING.md, SECURITY.md, the files of docs, and the README of the example."""
    root = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*root, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "nextjs" / "README.md"]


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    """The headings of a document, without lines of a block that look like headings."""
    return _HEADING.findall(_FENCE.sub("", text))


def blocks(document: Path) -> Iterator[Block]:
    """Its fenced blocks, in order."""
    text = text_of(document)
    for found in _FENCE.finditer(text):
        indent, language, body = found.groups()
        above = headings(text[: found.start()])
        lines = [line.removeprefix(indent) for line in body.splitlines(keepends=True)]
        yield Block(name_of(document), above[-1] if above else "", language, "".join(lines))


def all_blocks() -> list[Block]:
    return [block for document in documents() for block in blocks(document)]


def commands(programs: set[str]) -> list[Command]:
    """All commands of the shell blocks of every document, and commands of its text with one of *programs*."""
    found: dict[Command, None] = {}
    for document in documents():
        name = name_of(document)
        for block in blocks(document):
            if block.language == "sh":
                found |= dict.fromkeys(_typed(name, block.text))
        prose = _FENCE.sub("", text_of(document))
        for span in _SPAN.findall(prose):
            typed = _typed(name, " ".join(span.split())) if _is_typed(span, programs) else []
            # A program or a group by itself is spoken of, not typed.
            found |= dict.fromkeys(command for command in typed if len(command.arguments) > 0)
        for rows in _OF_OURS.findall(prose):
            for row in rows.splitlines():
                for span in _SPAN.findall(row.split("|")[1]):
                    found |= dict.fromkeys(_typed(name, f"{OURS} {span}"))
    return list(found)


def table_of(document: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its own head."""
    below = text_of(document).partition(f"# {heading}\n")[2]
    section = re.split(r"^#+ ", below, flags=re.MULTILINE)[0]
    _, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


@functools.cache
def names_of_tests() -> dict[str, Path]:
    """The name of every test, and its file."""
    return {
        name: file
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def _is_typed(span: str, programs: set[str]) -> bool:
    words = [word for word in span.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    return len(words) > 1 and Path(words[0]).name in programs


def _typed(document: str, text: str) -> list[Command]:
    """The commands of a shell text, and the commands whose output becomes an argument."""
    found: list[Command] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in (*lexer, ";"):
            if word not in _ENDS_A_COMMAND:
                words.append(_STANDS_FOR.get(word, word))
                for inner in re.findall(r"\$\((.+)\)", word):
                    found += _typed(document, inner)
                continue
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]  # a variable for this one command
            if ">" in words:
                del words[words.index(">") :]  # the file for the output
            if words:
                found.append(Command(document, Path(words[0]).name, tuple(words[1:])))
            words = []
    return found
