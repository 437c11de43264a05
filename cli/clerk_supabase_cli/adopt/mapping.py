"""The mapping in adopt.toml: the app's table of each kind, and the columns that take values of the mirror."""

from __future__ import annotations

import tomllib
from collections import abc
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.failure import Failure

PLACEHOLDER: Final = "TODO"  # a word of adopt.toml: `adopt inspect` leaves this expression to the user
"""First word of an expression that is still to be written."""

KINDS_BY_NAME: Final[abc.Mapping[str, Kind]] = {facts.table: kind for kind, facts in FACTS.items()}
"""Kinds by the names of the mirror's tables, as adopt.toml spells the tables: without the schema."""

_FIELDS: Final = ("table", "key", "insert", "on_insert", "update", "on_delete", "guard")


class MappingWrong(Failure):
    """adopt.toml cannot be used, for the reasons in the message."""

    has_lines = True


@dataclass(frozen=True, slots=True)
class Clear:
    """Columns set to null in the row of a deleted object."""

    columns: tuple[str, ...]


OnDelete = Literal["keep", "delete"] | Clear


@dataclass(frozen=True, slots=True)
class Mapping:
    """The app's table of a kind. Expressions read one row of the mirror, named `mirror`."""

    kind: Kind
    table: str
    """Spelled as in a statement, with the schema: `public."User"`."""
    key: abc.Mapping[str, str]
    """Columns that identify the row of an object, with their expressions."""
    insert: bool = True
    """True: a new object of Clerk's gets a new row."""
    on_insert: abc.Mapping[str, str] = field(default_factory=dict)
    """Columns with their expressions, for new rows only."""
    update: abc.Mapping[str, str] = field(default_factory=dict)
    """Columns with their expressions, kept equal to the mirror."""
    on_delete: OnDelete = "keep"
    guard: bool = False
    """True: mapped columns keep the mirror's value, whoever writes."""

    @property
    def name(self) -> str:
        """The heading in adopt.toml."""
        return name_of(self.kind)

    @property
    def expressions(self) -> abc.Iterator[tuple[str, str, str]]:
        """Every expression: the field of the mapping, the column, and the text."""
        for place, columns in (("key", self.key), ("on_insert", self.on_insert), ("update", self.update)):
            for column, expression in columns.items():
                yield place, column, expression

    def as_json(self) -> dict[str, Any]:
        """The form that functions of the database take."""
        return {
            "kind": self.kind,
            "table": self.table,
            "key": dict(self.key),
            "insert": self.insert,
            "on_insert": dict(self.on_insert),
            "update": dict(self.update),
            "on_delete": {"clear": list(self.on_delete.columns)}
            if isinstance(self.on_delete, Clear)
            else self.on_delete,
            "guard": self.guard,
        }

    @classmethod
    def from_toml(cls, name: str, content: abc.Mapping[str, Any]) -> Mapping:
        """The mapping below the heading *name*. Raises MappingWrong with every fault."""
        return _Reading(name, content).mapping()


def name_of(kind: Kind) -> str:
    """The name of the mirror's table of a kind, without the schema."""
    return FACTS[kind].table


def read_mappings(path: Path) -> tuple[Mapping, ...]:
    """The mappings of a file. Raises MappingWrong."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise MappingWrong(f"{path} does not exist; write it with: clerk-supabase adopt inspect") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MappingWrong(f"{path} cannot be read: {error}") from None
    return parse_mappings(text, str(path))


def parse_mappings(text: str, source: str = "adopt.toml") -> tuple[Mapping, ...]:
    """The mappings in a text, parents before children. Raises MappingWrong with every fault."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingWrong(f"{source} is not valid TOML: {error}") from None
    except RecursionError:
        raise MappingWrong(f"{source} is not valid TOML: its values are nested too deeply") from None
    found: list[Mapping] = []
    faults: list[str] = []
    for name, part in content.items():
        try:
            found.append(Mapping.from_toml(name, part))
        except MappingWrong as error:
            faults.append(str(error))
    if not content:
        faults.append("no table is mapped")
    if faults:
        raise MappingWrong("\n".join([f"{source} cannot be used:", *faults]))
    order = list(KINDS_BY_NAME.values())
    return tuple(sorted(found, key=lambda each: order.index(each.kind)))


class _Reading:
    """Reads one heading of adopt.toml and collects its faults."""

    def __init__(self, name: str, content: object) -> None:
        self._name = name
        self._content: abc.Mapping[str, Any] = content if isinstance(content, dict) else {}
        self._faults: list[str] = []
        if not isinstance(content, dict):
            self._fault(f"a heading is expected: write [{name}] on a line of its own")

    def mapping(self) -> Mapping:
        kind = KINDS_BY_NAME.get(self._name)
        if kind is None:
            self._fault(f"unknown name{_similar(self._name, KINDS_BY_NAME)}; possible: {', '.join(KINDS_BY_NAME)}")
        for name in self._content.keys() - set(_FIELDS):
            self._fault(f"unknown field {name}{_similar(name, _FIELDS)}")
        # The words for a kind that does not exist do not matter: the fault is raised below.
        made = Mapping(
            kind=kind or "user",
            table=self._table(),
            key=self._key(kind or "user"),
            insert=self._flag("insert", default=True),
            on_insert=self._columns("on_insert", self._content.get("on_insert", {})),
            update=self._columns("update", self._content.get("update", {})),
            on_delete=self._on_delete(),
            guard=self._flag("guard", default=False),
        )
        self._check_together(made)
        if self._faults:
            raise MappingWrong("\n".join(self._faults))
        return made

    def _fault(self, message: str) -> None:
        self._faults.append(f"[{self._name}] {message}")

    def _table(self) -> str:
        table = self._content.get("table")
        if not isinstance(table, str) or not table.strip():
            self._fault('table is missing: the app\'s table with its schema, such as table = "public.users"')
            return ""
        return table.strip()

    def _flag(self, name: str, *, default: bool) -> bool:
        value = self._content.get(name, default)
        if not isinstance(value, bool):
            self._fault(f"{name} is true or false")
        return value is True

    def _key(self, kind: Kind) -> dict[str, str]:
        key = self._content.get("key")
        if isinstance(key, str) and key.strip():
            return {key: f"mirror.{FACTS[kind].key}"}
        if isinstance(key, dict) and key:
            return self._columns("key", key)
        self._fault('key is missing: the column with Clerk\'s id, or { column = "expression", ... }')
        return {}

    def _columns(self, place: str, value: object) -> dict[str, str]:
        """Columns with their expressions; of a list, columns with the values of the same columns of the mirror."""
        if isinstance(value, list) and place == "update":
            if repeated := sorted({str(each) for each in value if value.count(each) > 1}):
                self._fault(f"update names {', '.join(repeated)} more than once")
            value = {str(each): f"mirror.{each}" if isinstance(each, str) else None for each in value}
        if not isinstance(value, dict):
            kinds = 'a table { column = "expression" }' + (" or a list of columns" if place == "update" else "")
            self._fault(f"{place} is {kinds}")
            return {}
        return {
            column: expression.strip()
            for column, expression in value.items()
            if self._is_expression(place, column, expression)
        }

    def _is_expression(self, place: str, column: str, expression: object) -> bool:
        if not isinstance(expression, str) or not expression.strip():
            self._fault(f'{place}.{column}: an SQL expression in quotes is expected, such as "mirror.email"')
        elif expression.split()[0].rstrip(":") == PLACEHOLDER:
            self._fault(f"{place}.{column} is still to do: replace {expression!r} by an SQL expression")
        elif fault := fault_of_expression(expression):
            self._fault(f"{place}.{column} = {expression!r} {fault}")
        else:
            return True
        return False

    def _on_delete(self) -> OnDelete:
        value = self._content.get("on_delete", "keep")
        if value == "keep":
            return "keep"
        if value == "delete":
            return "delete"
        if isinstance(value, dict) and value.keys() == {"clear"} and isinstance(value["clear"], list):
            columns = value["clear"]
            if columns and all(isinstance(each, str) and each for each in columns):
                return Clear(tuple(dict.fromkeys(columns)))
        self._fault('on_delete is "keep", "delete" or { clear = ["column", ...] }')
        return "keep"

    def _check_together(self, made: Mapping) -> None:
        for place, columns in (("on_insert", made.on_insert), ("update", made.update)):
            for column in columns.keys() & made.key.keys():
                self._fault(f"{place}.{column}: the key is not mapped a second time")
        for column in made.on_insert.keys() & made.update.keys():
            self._fault(f"{column} is in on_insert and in update: new rows take update, too; leave it in one of them")
        if isinstance(made.on_delete, Clear):
            for column in made.key.keys() & set(made.on_delete.columns):
                self._fault(f"on_delete.clear names {column}: the key stays, so that a late event finds the row")
        if made.guard and not made.update:
            self._fault("guard = true keeps the columns of update, and update names none")


def _similar(name: str, possible: abc.Iterable[str]) -> str:
    close = get_close_matches(name, list(possible), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def fault_of_expression(text: str) -> str:
    """The reason why a text cannot be one SQL expression; empty if none is seen. Postgres checks the rest.

    The text must stay inside a pair of parentheses around it: it may not close them, and it may not hide their end in
    a comment or an open quote.
    """
    depth = 0
    position = 0
    while position < len(text):
        here = text[position]
        if here in "'\"" or (here == "$" and _dollar_tag(text, position)):
            position = _after_quoted(text, position)
            if position < 0:
                return "has a quote that does not end"
            continue
        if text.startswith(("--", "/*"), position):
            return "has a comment: write comments outside of the quotes, after #"
        if here == ";":
            return "has a semicolon: an expression is no statement"
        if here == "," and not depth:
            return "has a comma: an expression is one value"
        if here == "\0":
            return "has a null character"
        depth += (here in "([") - (here in ")]")
        if depth < 0:
            return "closes a parenthesis that it does not open"
        position += 1
    return "has a parenthesis that does not end" if depth else ""


def _dollar_tag(text: str, position: int) -> str:
    """The opening of a dollar-quoted string at the position, such as `$$` or `$tag$`; empty for anything else."""
    end = text.find("$", position + 1)
    tag = text[position + 1 : end]
    is_tag = end > 0 and not tag[:1].isdigit() and all(map(_is_of_a_name, tag))
    return text[position : end + 1] if is_tag and not _ends_a_name(text[:position]) else ""


def _is_of_a_name(character: str) -> bool:
    """True for a character that Postgres takes into a name without quotes."""
    return not character.isascii() or character.isalnum() or character == "_"


def _ends_a_name(text: str) -> bool:
    return bool(text) and (_is_of_a_name(text[-1]) or text[-1] == "$")


def _after_quoted(text: str, position: int) -> int:
    """The position after the quoted part that begins at *position*; -1 if it does not end."""
    if text[position] == "$":
        tag = _dollar_tag(text, position)
        end = text.find(tag, position + len(tag))
        return -1 if end < 0 else end + len(tag)
    quote = text[position]
    # E'...' knows backslashes. Elsewhere they are plain characters, as standard_conforming_strings says.
    escapes = quote == "'" and position > 0 and text[position - 1] in "eE" and not _ends_a_name(text[: position - 1])
    at = position + 1
    while at < len(text):
        if escapes and text[at] == "\\":
            at += 2
        elif text[at] != quote:
            at += 1
        elif text.startswith(quote * 2, at):
            at += 2
        else:
            return at + 1
    return -1
