"""Faults planted into a database or into our code, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import LiteralString, cast
from unittest import mock

from tests.kit.databases import Database, value

Plant = Callable[[Database], AbstractContextManager[None]]
"""Puts a fault into a database or into our code, and removes the fault."""


def in_function(function: str, edits: Mapping[str, str]) -> Plant:
    """Other text in the place of text of a function of SQL, each of which must be there exactly once."""

    @contextmanager
    def plant(database: Database) -> Iterator[None]:
        with database.connect() as admin:
            right = value(admin, "select pg_get_functiondef(%s::regprocedure)", function)
            wrong = right
            for text, replacement in edits.items():
                found = wrong.count(text)
                assert found == 1, f"{function} is written differently now, {text!r} is there {found} times"
                wrong = wrong.replace(text, replacement)
            admin.execute(cast("LiteralString", wrong))
            try:
                yield
            finally:
                admin.execute(cast("LiteralString", right))

    return plant


def by_statement(wrong: LiteralString, right: LiteralString) -> Plant:
    """A statement that brings the fault, and a statement that removes it."""

    @contextmanager
    def plant(database: Database) -> Iterator[None]:
        with database.connect() as admin:
            admin.execute(wrong)
            try:
                yield
            finally:
                admin.execute(right)

    return plant


def in_python(owner: object, name: str, replacement: object) -> Plant:
    """Another value under a name of a module or a class; the name must exist."""

    @contextmanager
    def plant(_: Database) -> Iterator[None]:
        with mock.patch.object(owner, name, replacement):
            yield

    return plant


def together(*plants: Plant) -> Plant:
    """Several at once."""

    @contextmanager
    def plant(database: Database) -> Iterator[None]:
        with ExitStack() as planted:
            for each in plants:
                planted.enter_context(each(database))
            yield

    return plant
