"""adopt.toml as `adopt inspect` writes it: a mapping with remarks, to be read and edited by a person."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.adopt.columns import Place, Proposal, propose
from clerk_supabase_cli.adopt.inspection import Candidate, Inspection, words_of
from clerk_supabase_cli.adopt.mapping import PLACEHOLDER, name_of
from clerk_supabase_cli.adopt.samples import PREFIXES, Sized
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.printing import printable

_HEAD: Final = """\
# The mapping between the mirror of Clerk and the tables of your app, written by `clerk-supabase adopt inspect`.
# Read each line, and edit it. Nothing is written to your tables before `clerk-supabase adopt switch`.
#
# on_insert: values for new rows only.   update: columns that are kept equal to Clerk from then on.
# Each value is an SQL expression over the row of the mirror, called mirror.
# Never mapped: uuid keys, roles, billing. A column that is not listed stays yours.
"""
_NOTHING: Final = """\
# No table with ids of Clerk's in a unique column was found, so nothing is mapped.
"""
_MEMBERS: Final[Mapping[Kind, str]] = {"user": "mirror.clerk_user_id", "organization": "mirror.clerk_org_id"}
"""Columns of a mirrored membership that name its user and its organization."""

_KEEP: Final = (
    'on_delete = "keep"      # or "delete", or { clear = ["column"] }: what becomes of the row of a deleted object'
)
# A row that stays would leave access to a removed member.
_ON_DELETE: Final[Mapping[Kind, str]] = {
    "membership": 'on_delete = "delete"    # or "keep": then the row of a removed member stays, with all that it allows'
}

# Tables whose name says that they hold the users or the organizations.
_TELLING: Final = re.compile(
    r"users?|profiles?|accounts?|people|persons?|organi[sz]ations?|orgs?|teams?|workspaces?|companies|tenants?"
)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A table for a kind, with the columns that identify its rows."""

    kind: Kind
    sized: Sized
    key: Mapping[str, str] | str
    candidate: Candidate | None

    @property
    def place(self) -> Place:
        if isinstance(self.key, str):
            return Place(self.kind, self.sized, [self.key], self.key)
        return Place(self.kind, self.sized, list(self.key), self.candidate.column if self.candidate else None)


def write_mapping(connection: Connection, inspection: Inspection) -> str:
    """The text of adopt.toml. Needs the transaction of `reading()`."""
    chosen = _choose(inspection)
    parts = [_HEAD, *(_part(connection, inspection, each) for each in chosen)]
    if not chosen:
        parts.append(_NOTHING)
    taken = [each.candidate for each in chosen]
    if others := [each for each in inspection.candidates if each not in taken]:
        lines = [
            f"#   {printable(each.table)}, column {printable(each.column)}: {name_of(each.kind)}" for each in others
        ]
        parts.append("\n".join(["# Other tables with ids of Clerk's in a unique column:", *lines, ""]))
    return "\n".join(parts)


def _choose(inspection: Inspection) -> list[_Chosen]:
    """The most likely table of each kind."""
    best: dict[Kind, Candidate] = {}
    members = _members(inspection)
    for candidate in sorted(inspection.candidates, key=_likelihood, reverse=True):
        # A pair of a user and an organization is a membership, and its columns are no keys of users.
        if not (members and not candidate.is_unique and candidate.table == members.sized.table.name):
            best.setdefault(candidate.kind, candidate)
    chosen = [
        _Chosen(kind, inspection.sized[best[kind].table], _key_of(inspection, best[kind]), best[kind])
        for kind in PREFIXES
        if kind in best
    ]
    if "membership" not in best:
        members = members or _members(inspection, best)
        chosen += [members] if members else []
    return chosen


def _likelihood(candidate: Candidate) -> tuple[bool, bool, int, int, str]:
    bare = candidate.table.rpartition(".")[2].strip('"').lower()
    return (
        candidate.is_unique,
        bool(_TELLING.fullmatch(bare)),
        len(candidate.keys),
        candidate.rows - candidate.unlinked,
        candidate.table,
    )


def _key_of(inspection: Inspection, candidate: Candidate) -> Mapping[str, str] | str:
    if candidate.is_unique:
        return candidate.column
    columns = inspection.sized[candidate.table].table.columns
    own = {candidate.column: f"mirror.{FACTS[candidate.kind].key}"}
    return own | {name: f"{PLACEHOLDER}: a value of the type {columns[name].type}" for name in candidate.unique_with}


def _members(inspection: Inspection, parents: Mapping[Kind, Candidate] | None = None) -> _Chosen | None:
    """The table with a unique pair of a user and an organization.

    The pair holds ids of Clerk's, or keys of the tables in *parents*.
    """
    ids = {(each.table.table.name, each.column.name): each.kind for each in inspection.found}
    for name, sized in inspection.sized.items():
        for unique in (each for each in sized.table.uniques if len(each) == 2):
            key: dict[str, str] = {}
            for column in unique:
                direct = _MEMBERS.get(ids.get((name, column), "domain"))
                text = direct or _through_a_key(parents or {}, name, column)
                key |= {column: text} if text else {}
            if len({text.rstrip(")").rpartition(".")[2] for text in key.values()}) == 2:
                return _Chosen("membership", sized, key, None)
    return None


def _through_a_key(parents: Mapping[Kind, Candidate], table: str, column: str) -> str | None:
    """The expression of a column whose foreign key points to the table of the users or of the organizations."""
    for kind, text in _MEMBERS.items():
        parent = parents.get(kind)
        for key in parent.keys if parent else ():
            if parent and (key.from_table, list(key.from_columns)) == (table, [column]):
                wanted, known = _identifier(key.columns[0]), _identifier(parent.column)
                return f"(select t.{wanted} from {parent.table} as t where t.{known} = {text})"  # noqa: S608 - quoted
    return None


def _part(connection: Connection, inspection: Inspection, chosen: _Chosen) -> str:
    """The mapping of one table."""
    name = name_of(chosen.kind)
    proposals = propose(connection, chosen.place, inspection.mirror.get(chosen.kind))
    lines = [*_remarks(chosen), f"[{name}]", f"table = {_quoted(chosen.sized.table.name)}"]
    if isinstance(chosen.key, str):
        lines.append(f"key = {_quoted(chosen.key)}")
    else:
        pairs = ", ".join(f"{_name(column)} = {_quoted(text)}" for column, text in chosen.key.items())
        lines.append(f"key = {{ {pairs} }}")
    lines += [
        "insert = true           # a new object of Clerk's gets a new row",
        _ON_DELETE.get(chosen.kind, _KEEP),
        "guard = false           # true: the columns of update keep the mirror's value, whoever writes",
    ]
    for heading, columns in (("on_insert", proposals.on_insert), ("update", proposals.update)):
        if columns:
            lines += ["", f"[{name}.{heading}]", *map(_line, columns)]
    if proposals.left_out:
        # A line that a reader uncomments must not end up among the keys of the mapping itself.
        if not (proposals.update or proposals.on_insert):
            lines.append(f"# [{name}.on_insert]")
        lines += [
            "# Not mapped, although the name fits:",
            *(f"# {_line(each)}" for each in proposals.left_out),
        ]
    return "\n".join([*lines, ""])


def _remarks(chosen: _Chosen) -> Iterator[str]:
    table, candidate = chosen.sized.table, chosen.candidate
    if candidate:
        linked = "" if candidate.linked is None else f", {candidate.linked} linked, {candidate.unknown} unknown"
        about = "about " if candidate.estimated else ""
        yield printable(f"# {table.kind} {table.name}: {about}{candidate.rows} rows{linked}")
        yield from (printable(f"# Foreign key {words_of(each)}") for each in candidate.keys)
        yield from (printable(f"# Trigger {each}") for each in candidate.triggers)
    for unique in table.uniques:
        if unique != table.primary and set(unique) != set(chosen.place.key):
            words = f"# Unique: {', '.join(unique)}. A value that another row has is not written, and the row is unfed."
            yield printable(words)


def _line(proposal: Proposal) -> str:
    remark = f"  # {printable(proposal.remark)}" if proposal.remark else ""
    return f"{_name(proposal.column)} = {_quoted(proposal.expression)}{remark}"


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _identifier(name: str) -> str:
    """A name behind a dot, for a statement: reserved words need no quotes there."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else sql.Identifier(name).as_string()


def _quoted(text: str) -> str:
    """A string of TOML."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    escaped = (
        f"\\u{ord(each):04x}" if ord(each) < 32 or ord(each) == 127 else f"\\{each}" if each in '"\\' else each
        for each in text
    )
    return f'"{"".join(escaped)}"'
