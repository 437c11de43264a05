"""Mutants of migrations, by their tokens: conditions, operators, clauses, constants and whole statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.mutate.mutants import Change, Mutant, mutant

_TOKEN: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|\$[a-z_]*\$|'(?:[^']|'')*'|\"[^\"]*\"|[A-Za-z_%][\w$%]*|\d+(?:\.\d+)?"
    r"|<>|<=|>=|:=|=>|->>|->|#>>|::|\|\||&&|!~|[^\s]",
    re.DOTALL,
)
_SWAPPED: Final = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "<>": "=",
    "=": "<>",
    "and": "or",
    "or": "and",
    "min": "max",
    "max": "min",
    "least": "greatest",
    "greatest": "least",
    "true": "false",
    "false": "true",
    "old": "new",
    "new": "old",
    "before": "after",
    "asc": "desc",
    "desc": "asc",
    "left": "inner",
    "any": "all",
    "bool_or": "bool_and",
    "bool_and": "bool_or",
    "+": "-",
    "-": "+",
}
# Each is a clause that can be left out.
_CLAUSES: Final = (
    ("for", "update"),
    ("for", "no", "key", "update"),
    ("skip", "locked"),
    ("on", "conflict", "do", "nothing"),
    ("security", "definer"),
    ("distinct",),
    ("with", "(", "security_barrier", ")"),
    ("unique",),
    ("on", "delete", "cascade"),
    ("is", "not", "null"),
)
_ENDS_OF_CONDITION: Final = re.compile(
    "and|or|then|when|else|end|order|group|limit|returning|loop|into|using|on|left|inner|cross|join|union|for"
    "|having|window|where|from|set|execute"
)
_STATEMENTS: Final = re.compile(
    "perform|update|delete|insert|execute|create|alter|grant|revoke|raise|lock|return|drop|set"
)
# An expression, not a string of words, begins here.
_CODE_IN_STRING: Final = re.compile(r"\b(select|where|update|delete|is null|is not null|join)\b|[=<>(].*\b(and|or)\b")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number, operator or string."""

    text: str
    start: int
    depth: int
    """The number of brackets around the token."""

    @property
    def word(self) -> str:
        return self.text.lower()

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def sql_mutants(file: str, text: str) -> list[Mutant]:
    """Every mutant of a migration; not each of them is SQL."""
    found = []
    for start, end in _statements(text):
        subject = _subject(text[start:end])
        if subject is None:
            continue
        tokens = tokens_of(text, start, end)
        changes = [(start, end, "")] if tokens and _STATEMENTS.fullmatch(tokens[0].word) else []
        changes += _changes(text, tokens)
        for each in changes:
            made = mutant(file, text, each, subject)
            if made is not None:
                found.append(made)
    return list({each.key: each for each in found}.values())


def tokens_of(text: str, start: int, end: int) -> list[Token]:
    """Tokens without comments; the body of a function and SQL in a string are read like the rest."""
    found: list[Token] = []
    depth = 0
    for match in _TOKEN.finditer(text, start, end):
        token = match.group()
        if token.startswith(("--", "/*")) or re.fullmatch(r"\$[a-z_]*\$", token):
            continue
        if token.startswith("'") and _CODE_IN_STRING.search(token) and not _is_said(found):
            found += [
                Token(each.text, each.start, each.depth + depth + 1)
                for each in tokens_of(text, match.start() + 1, match.end() - 1)
            ]
            continue
        depth -= token in ")]}"
        found.append(Token(token, match.start(), depth))
        depth += token in "([{"
    return found


def _is_said(before: list[Token]) -> bool:
    """Tells whether a string is a message to people."""
    words = [each.word for each in before[-4:]]
    return bool({"message", "hint", "is", "detail"} & set(words[-3:]))


def _statements(text: str) -> Iterator[tuple[int, int]]:
    """The statements of a file, without the semicolons; the body of a function is part of its statement."""
    start: int | None = None
    quote = ""
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token.startswith("--"):
            continue
        if start is None:
            start = match.start()
        if re.fullmatch(r"\$[a-z_]*\$", token) and quote in ("", token):
            quote = "" if quote else token
        if token == ";" and not quote:
            yield start, match.start()
            start = None


def _subject(statement: str) -> str | None:
    """The name of the object in a statement; None for comments and for the records at the end of a migration."""
    if re.match(r"comment |select clerk_sync\.revoke_default|insert into clerk_sync\.migrations", statement):
        return None
    named = re.match(
        r"(?:create (?:or replace |unique )?(?:function|table|view|type|trigger|index|policy)|alter table"
        r"|select|grant [^;]*? on (?:function|table)?|insert into)\s+([\w.]+)",
        statement,
    )
    return named.group(1).rpartition(".")[2] if named else ""


def _changes(text: str, tokens: list[Token]) -> Iterator[Change]:
    for place, token in enumerate(tokens):
        yield from _of_token(tokens, place)
        for clause in _CLAUSES:
            if clause == ("distinct",) and tokens[place - 1].word in ("is", "not"):
                continue
            if tuple(each.word for each in tokens[place : place + len(clause)]) == clause:
                yield token.start, tokens[place + len(clause) - 1].end, ""
        if token.word in ("and", "or", "where"):
            yield from _without_condition(tokens, place)
        if token.word in ("and", "or"):
            yield from _without_first(tokens, place)
        if token.word in ("if", "elsif", "when"):
            yield from _negated(text, tokens, place)
        if token.word == "coalesce":
            yield from _first_argument(text, tokens, place)
        if _STATEMENTS.fullmatch(token.word):
            yield from _without_statement(tokens, place)


def _of_token(tokens: list[Token], place: int) -> Iterator[Change]:
    token = tokens[place]
    before = tokens[place - 1].word if place else ""
    after = tokens[place + 1].word if place + 1 < len(tokens) else ""
    if token.word in _SWAPPED and not (token.word == "-" and after.isdigit() and before in "(,="):
        yield token.start, token.end, _SWAPPED[token.word]
    elif re.fullmatch(r"\d+", token.text) and before not in ("$", "%"):
        yield token.start, token.end, str(int(token.text) + 1)
    elif token.word == "not":
        yield token.start, tokens[place + 1].start if place + 1 < len(tokens) else token.end, ""
    elif token.word == "is" and after in ("null", "distinct", "true", "false"):
        yield token.end, token.end, " not"
    elif days := re.fullmatch(r"'(\d+) (days?|hours?|minutes?|seconds?|milliseconds)'", token.text):
        yield token.start, token.end, f"'{int(days[1]) * 2 + 1} {days[2]}'"


def _end_of_condition(tokens: list[Token], first: int) -> int:
    """The number of the first token after the condition that begins at the token *first*."""
    depth = tokens[first].depth
    has_between = False
    for place in range(first, len(tokens)):
        token = tokens[place]
        if token.depth < depth or (token.text == ";" and token.depth <= depth):
            return place
        if token.depth > depth:
            continue
        if token.word == "between":
            has_between = True
        elif token.word == "and" and has_between:
            has_between = False
        elif token.text == "," or (
            _ENDS_OF_CONDITION.fullmatch(token.word)
            and place > first
            # `is not distinct from` continues.
            and tokens[place - 1].word not in ("not", "distinct")
        ):
            return place
    return len(tokens)


def _without_condition(tokens: list[Token], place: int) -> Iterator[Change]:
    """Leave out the part after `and` or `or`; after `where`, up to the first `and`."""
    if place + 1 >= len(tokens):
        return
    end = _end_of_condition(tokens, place + 1)
    token = tokens[place]
    if token.word != "where":
        yield token.start, tokens[end - 1].end, ""
    elif end < len(tokens) and tokens[end].word == "and":
        yield tokens[place + 1].start, tokens[end].end, ""
    else:
        yield tokens[place + 1].start, tokens[end - 1].end, "true"


def _without_first(tokens: list[Token], place: int) -> Iterator[Change]:
    """`(a and b)` becomes `(b)`."""
    token = tokens[place]
    first = place
    while first and tokens[first - 1].depth >= token.depth:
        before = tokens[first - 1]
        if before.depth == token.depth and (_ENDS_OF_CONDITION.fullmatch(before.word) or before.text in ",;("):
            break
        first -= 1
    if first < place and place + 1 < len(tokens) and tokens[first - 1].word not in ("and", "or", "where", "between"):
        yield tokens[first].start, tokens[place + 1].start, ""


def _negated(text: str, tokens: list[Token], place: int) -> Iterator[Change]:
    """`if a then` becomes `if not (a) then`."""
    for end in range(place + 1, min(len(tokens), place + 120)):
        if tokens[end].word == "then" and tokens[end].depth == tokens[place].depth:
            start, stop = tokens[place + 1].start, tokens[end - 1].end
            yield start, stop, f"not ({text[start:stop]})"
            return
        if tokens[end].text == ";":
            return


def _first_argument(text: str, tokens: list[Token], place: int) -> Iterator[Change]:
    """`coalesce(a, b)` becomes `(a)`, and the two change places."""
    depth = tokens[place].depth + 1
    commas = []
    for end in range(place + 2, len(tokens)):
        if tokens[end].depth < depth:
            break
        if tokens[end].text == "," and tokens[end].depth == depth:
            commas.append(end)
    else:
        return
    if len(commas) != 1:
        return
    first = text[tokens[place + 2].start : tokens[commas[0] - 1].end]
    second = text[tokens[commas[0] + 1].start : tokens[end - 1].end]
    yield tokens[place].start, tokens[end].end, f"({first})"
    yield tokens[place].start, tokens[end].end, f"coalesce({second}, {first})"


def _without_statement(tokens: list[Token], place: int) -> Iterator[Change]:
    """Leave out a statement of a function's body."""
    if not place or tokens[place - 1].word not in (";", "then", "loop", "begin", "else"):
        return
    for end in range(place, len(tokens)):
        if tokens[end].text == ";" and tokens[end].depth <= tokens[place].depth:
            yield tokens[place].start, tokens[end].start, "null"
            return
