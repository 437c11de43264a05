"""docs/what-is-mirrored.md: `make mirrored` writes the page.

`clerk_schema.json` has the fields of Clerk's objects, `mirrored.toml` the reasons of fields without a column; neither
names a column.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from clerk_supabase.clerk.walk import PAGE_SIZE
from clerk_supabase.model.facts import Facts
from clerk_supabase.model.found_kinds import FACTS, REPAIR_PREFIX, SYNCED_TYPES
from clerk_supabase_cli.event_types import (
    CLERKS_TYPES,
    NAMED_ELSEWHERE,
    NOT_MIRRORED,
    VERBS,
    becomes,
    is_compared,
    what_heals,
)
from clerk_supabase_cli.project import find_root
from tests.kit.clerk_schema import FAMILIES, LISTED, SCHEMA
from tests.kit.kinds import OUR_TYPES, OURS
from tests.kit.tried_columns import LIST, FieldPath, Json, Place, columns_of, spelled

ROOT: Final = find_root(Path(__file__).parent)
PAGE: Final = ROOT / "docs" / "what-is-mirrored.md"
_DATA: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_MOMENT: Final = 1_700_000_000_000


@dataclass(frozen=True)
class Field:
    """A field of an object, with its columns or the reason why it has none."""

    path: FieldPath
    places: tuple[Place, ...] = ()
    reason: str = ""

    @property
    def name(self) -> str:
        """The field as the page spells it: `email_addresses[].id`."""
        return spelled(self.path)


# Clerk's description


@cache
def described(name: str) -> Mapping[str, str]:
    """The types of an object's fields: of Clerk's description, and of the fields that Clerk sends besides."""
    return {**SCHEMA[name], **_DATA["undescribed"].get(name, {})}


def _type_of(described_type: str) -> str:
    return described_type.removeprefix("optional ").removesuffix(" or null")


def leaves(name: str, path: FieldPath = ()) -> Iterator[tuple[FieldPath, tuple[tuple[FieldPath, str], ...]]]:
    """The fields of an object that hold no described object, each with the fields around and itself, outermost first.

    A field around is its path and `Object.field`.
    """
    for each, described_type in described(name).items():
        type_name = _type_of(described_type)
        inner = type_name.removesuffix(LIST)
        here = (*path, each, LIST) if type_name.endswith(LIST) and inner in SCHEMA else (*path, each)
        around = (here, f"{name}.{each}")
        if inner in SCHEMA:
            yield from ((below, (around, *others)) for below, others in leaves(inner, here))
        else:
            yield here, (around,)


def made(name: str) -> Json:
    """An object with every field that is described, and one element in each list."""
    return {each: _value(each, _type_of(described_type)) for each, described_type in described(name).items()}


def _value(name: str, type_name: str) -> Json:
    if type_name.endswith(LIST):
        return [_value(name, type_name.removesuffix(LIST))]
    if type_name in SCHEMA:
        return made(type_name)
    is_moment = name.endswith(("_at", "_at_ms", "_start", "_end", "_date"))
    # The primary address is the address in the list: each has the id id_1.
    text = "verified" if name == "status" else "id_1" if name.startswith("primary_") else f"{name}_1"
    values: Mapping[str, Json] = {
        "string": text,
        "boolean": False,
        "integer": _MOMENT if is_moment else 7,
        "int64": _MOMENT if is_moment else 7,
        "double": 0.5,
        "object": {"id": f"{name}_1"},
    }
    return values[type_name]


# Decisions


@cache
def fields_of(family: str) -> tuple[Field, ...]:
    """The fields of the objects of an event family, or of a kind that Clerk only lists, each with its columns or its
    reason."""
    name = FAMILIES[family] if family in FAMILIES else LISTED[family]
    if family in LISTED:
        trials = [(f"{REPAIR_PREFIX}{family}.updated", made(name))]
    else:
        types = [f"{family}.{verb}" for verb in VERBS[family] if verb != "deleted"]
        trials = [(each, data) for each in types if each in OUR_TYPES for data in (made(name), *samples(each))]
    found = columns_of(trials, [path for path, _ in leaves(name)])
    return tuple(
        dict.fromkeys(
            Field(path, tuple(sorted(found[path]))) if path in found else _without_column(around, found)
            for path, around in leaves(name)
        )
    )


def _without_column(around: Sequence[tuple[FieldPath, str]], with_columns: Iterable[FieldPath]) -> Field:
    """The field with its reason, or an outer field without any column inside, which stands for all fields in it.

    The reason of such an outer field comes first, then the reason that is closest to the field.
    """
    empty = [(path, name) for path, name in around if not any(each[: len(path)] == path for each in with_columns)]
    for path, name in empty:
        if reason := _reason(name):
            return Field(path, reason=reason)
    closest = next((reason for _, name in reversed(around) if (reason := _reason(name))), "")
    return Field(empty[0][0], reason=closest)


def _reason(name: str) -> str:
    return reasons().get(name) or reasons().get(f"*.{name.partition('.')[2]}", "")


@cache
def reasons() -> Mapping[str, str]:
    """The reasons of fields without a column, by `Object.field`."""
    return {name: each["why"] for each in _DATA["reason"] for name in each["fields"]}


def is_described(name: str) -> bool:
    """Tells whether `Object.field` is a field of a described object; `*` stands for every object."""
    of, _, field = name.partition(".")
    return any(field in described(each) for each in (SCHEMA if of == "*" else {of} & SCHEMA.keys()))


def samples(event_type: str) -> list[Json]:
    """The objects of the sample events of a type."""
    events = [json.loads(file.read_bytes()) for file in sorted((ROOT / "events" / "clerk").glob("*.json"))]
    return [event["data"] for event in events if event["type"] == event_type]


def undecided_types() -> list[str]:
    """The types of Clerk's events without a decision, with two decisions, or unknown to the list of all types."""
    wrong = [f"{name}: neither a row nor a reason" for name in CLERKS_TYPES if becomes(name) is None]
    wrong += [
        f"{name}: a row, and a reason in NOT_MIRRORED" for name in OUR_TYPES if name.split(".")[0] in NOT_MIRRORED
    ]
    unknown = OUR_TYPES - {*CLERKS_TYPES} - NAMED_ELSEWHERE
    return wrong + [f"{name}: not in VERBS" for name in sorted(unknown)]


def undecided_fields() -> list[str]:
    """The fields of the events' objects with neither a column nor a reason."""
    fields = [(family, each) for family in (*_MIRRORED, *LISTED) for each in fields_of(family)]
    return [f"{family}: {each.name}" for family, each in fields if not each.places and not each.reason]


def unknown_fields(event_type: str, data: Json) -> list[str]:
    """The fields of an event's object that the page does not know."""
    name = "DeletedObject" if event_type.endswith(".deleted") and "role" not in data else _object_of(event_type)
    return [f"{event_type}: {spelled(path)}" for path in _unknown(name, data)]


def _object_of(event_type: str) -> str:
    return FAMILIES[event_type.partition(".")[0]]


def _unknown(name: str, data: Json, path: FieldPath = ()) -> Iterator[FieldPath]:
    for each, value in data.items():
        described_type = described(name).get(each)
        if described_type is None:
            yield (*path, each)
            continue
        inner = _type_of(described_type).removesuffix(LIST)
        if inner in SCHEMA:
            for element in value if isinstance(value, list) else filter(None, [value]):
                yield from _unknown(inner, element, (*path, each))


# The page

_MIRRORED: Final = [family for family, verbs in VERBS.items() if f"{family}.{verbs[0]}" in OUR_TYPES]
"""The families of events that become rows."""


def document() -> str:
    """The page docs/what-is-mirrored.md."""
    said: Mapping[str, str] = _DATA["page"]
    parts = [said["head"], _types(), said["comparisons"] + _comparisons(), said["envelope"], said["fields"]]
    return "\n".join([*parts, *map(_section, _MIRRORED), said["listed"], *map(_section, LISTED)])


def _types() -> str:
    number, rows = len(CLERKS_TYPES), len(OUR_TYPES & {*CLERKS_TYPES})
    said = (
        f"{number} of {number} types are decided: {rows} become rows, {number - rows} are answered 200 and not stored."
    )
    lines = [
        f"| {', '.join(f'`{family}.{verb}`' for verb in verbs)} | {_decision(family, verbs)} |"
        for family, verbs in VERBS.items()
    ]
    return "\n".join(["## Event types", "", said, "", "| types | become |", "| --- | --- |", *lines, ""])


def _decision(family: str, verbs: Sequence[str]) -> str:
    if family not in _MIRRORED:
        return f"- {NOT_MIRRORED.get(family)}"
    facts = FACTS[SYNCED_TYPES[f"{family}.{verbs[0]}"].kind]
    return f"rows of `{facts.relation('clerk')}`" + (f", with `{facts.parameter}`" if facts.parameter else "")


def _comparisons() -> str:
    rows = [(facts.plural, *_comparison(facts)) for kind, facts in FACTS.items() if kind in OURS]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), ""])


def _comparison(facts: Facts) -> tuple[str, str, str]:
    """The full run, the quick run, and what repairs the rows after lost events."""
    if facts.enclosing_path:
        return f"all in {facts.enclosing}", f"those in the newest {PAGE_SIZE} {facts.enclosing}", what_heals(facts.kind)
    if not is_compared(facts.kind):
        return "- Clerk has no list of all", "-", what_heals(facts.kind)
    quick = "new and missing ones; of the rest an eighth, or all of fewer than 500"
    if not facts.is_dated:
        quick = "every column of all"
    heals = "both runs" if facts.verbs else "Clerk sends no events: both runs"
    return "every column of all", quick if facts.list_path else "changed, new and missing ones", heals


def _section(family: str) -> str:
    """The fields of the objects of a family or kind: those with columns, then the others by their reasons."""
    fields = fields_of(family)
    lines = [f"| `{each.name}` | {', '.join(_columns(each.places))} |" for each in fields if each.places]
    others: defaultdict[str, list[Field]] = defaultdict(list)
    for each in fields:
        if not each.places:
            others[each.reason].append(each)
    lines += [f"| {', '.join(_names(some))} | - {reason} |" for reason, some in others.items()]
    return "\n".join([f"### {family}", "", "| field | column |", "| --- | --- |", *lines, ""])


def _names(fields: Sequence[Field]) -> list[str]:
    """The names of fields; `*.field` for a field of the same name inside three or more others."""
    inner = [each.name.partition(".")[2] for each in fields]
    names = [
        f"*.{name}" if name and inner.count(name) > 2 else each.name for each, name in zip(fields, inner, strict=True)
    ]
    return [f"`{name}`" for name in dict.fromkeys(names)]


def _columns(places: Sequence[Place]) -> Iterator[str]:
    """The columns of a field, each with the outermost of the fields that have to be missing."""
    first: dict[str, str] = {}
    for place in sorted(places, key=lambda place: place.missing.count(".")):
        first.setdefault(place.column, place.missing)
    for column, missing in sorted(first.items()):
        name, _, stub = column.partition(" ")
        yield f"`{name}`" + (f" {stub}" if stub else "") + (f" if `{missing}` is missing" if missing else "")


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
