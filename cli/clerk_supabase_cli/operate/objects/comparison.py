"""Compares the objects of a database with the objects made by the migrations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.objects.catalogue import API_ROLES, DISPATCHERS, SCHEMA, Thing, read
from clerk_supabase_cli.operate.objects.manifest import Manifest

_SHOWN: Final = 80
_FOREIGN_KEY: Final = re.compile(r"FOREIGN KEY \(([^)]*)\)")
_GENERATED: Final = ("write_", "fill_", "differing_", "hide_", "audit_")
_OF_SECURED_TABLES: Final = "requesting_key_for_"
# Functions and triggers of feeds, which the app's mapping makes; doctor compares them with the mapping.
_OF_FEED: Final = re.compile(
    r"(?:clerk_sync\.(?:write_|differing_|guard_)?feed_\d+\(|feed_\d+_(?:insert|update|delete|truncate) on )"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference: an object that is missing, is changed, or is not made by any migration."""

    expected: Thing | None
    found: Thing | None

    @property
    def thing(self) -> Thing:
        """The object as the migrations make it; a leftover object as the database has it."""
        thing = self.expected or self.found
        assert thing is not None  # noqa: S101 - each difference has one of both
        return thing

    @property
    def altered(self) -> list[str]:
        """Names of the differing facts."""
        if self.expected is None or self.found is None:
            return []
        names = dict.fromkeys([*self.expected.facts, *self.found.facts])
        return [name for name in names if self.expected.facts.get(name) != self.found.facts.get(name)]

    @property
    def words(self) -> str:
        """The difference in a sentence."""
        if self.thing.kind == "rights":
            return _words_of_rights(self)
        what = f"the {self.thing.kind} {self.thing.name}"
        if self.found is None:
            return f"{what} is missing"
        if self.expected is None:
            return f"{what} is none of this version"
        altered = (_words_of_fact(name, self.expected.facts, self.found.facts) for name in self.altered)
        return f"{what}: {', '.join(altered)}"


def differences(connection: Connection, manifest: Manifest) -> list[Difference]:
    """All differences, in the order of a repair. The app's own additions are no differences."""
    found = read(connection, manifest.scope)
    expected, there = _by_key(manifest.things), _by_key(_without_the_apps(found, manifest))
    return [
        Difference(expected.get(key), there.get(key))
        for key in [*expected, *(key for key in there if key not in expected)]
        if expected.get(key) != there.get(key) and _is_named(key, expected, there)
    ]


def _by_key(things: Iterable[Thing]) -> dict[str, Thing]:
    return {thing.key: thing for thing in things}


def _is_named(key: str, expected: Mapping[str, Thing], there: Mapping[str, Thing]) -> bool:
    """Tells whether to print a difference: no parts of a missing object, and no rights of a leftover object."""
    if key in expected and key in there:
        # Another version of Postgres may print the same statement in another way.
        return expected[key].facts != there[key].facts
    part_of = expected[key].part_of if key in expected else there[key].part_of
    if key in expected:
        return not part_of or part_of in there
    return not part_of or (part_of in expected and part_of in there)


# Additions of the app


def _without_the_apps(found: Sequence[Thing], manifest: Manifest) -> Iterator[Thing]:
    expected = _by_key(manifest.things)
    own_kinds = _kinds(manifest.things)
    apps_kinds = _kinds(found) - own_kinds
    for thing in found:
        if thing.name in DISPATCHERS:
            yield _without_branches(thing, apps_kinds)
        elif thing.kind == "rights":
            if rights := _without_columns(thing, expected):
                yield rights
        elif thing.key in expected or (not manifest.is_extended and _is_left_over(thing, apps_kinds, expected)):
            yield thing


def _kinds(things: Iterable[Thing]) -> set[str]:
    return {thing.name.removeprefix("kind ") for thing in things if thing.kind == "row"}


def _is_left_over(thing: Thing, apps_kinds: set[str], expected: Mapping[str, Thing]) -> bool:
    """Tells whether an object is left over from another version of our migrations, and can do harm."""
    match thing.kind:
        case "function" | "trigger" if _OF_FEED.match(thing.name):
            return False
        case "function":
            name = thing.name.removeprefix(f"{SCHEMA}.").partition("(")[0]
            generated = {f"{prefix}{kind}" for prefix in _GENERATED for kind in apps_kinds}
            is_made_later = name in generated or name.startswith(_OF_SECURED_TABLES)
            return thing.name.startswith(f"{SCHEMA}.") and not is_made_later
        case "column":
            # This version never fills the column, so that no row could be written.
            is_filled = thing.facts["not null"] == "no" or thing.facts["default"] != "none"
            return thing.name.startswith(f"{SCHEMA}.") and not is_filled and thing.facts["generated"] == "no"
        case "constraint":
            return thing.is_ours and _has_only_our_columns(thing, expected)
        case "policy" | "trigger":
            return thing.is_ours
        case _:
            return False


def _has_only_our_columns(constraint: Thing, expected: Mapping[str, Thing]) -> bool:
    """Tells whether a constraint is no foreign key on a column of the app's."""
    table = constraint.part_of.partition(" ")[2]
    key = _FOREIGN_KEY.match(constraint.facts["definition"])
    return key is None or all(f"column {table}.{column}" in expected for column in key[1].split(", "))


def _without_branches(thing: Thing, apps_kinds: set[str]) -> Thing:
    frame, *lines = thing.facts["body"].split("\n")
    kept = [line for line in lines if not any(_is_branch_of(line, kind) for kind in apps_kinds)]
    return Thing(
        thing.kind, thing.name, thing.part_of, {**thing.facts, "body": "\n".join([frame, *kept])}, thing.create
    )


def _is_branch_of(line: str, kind: str) -> bool:
    return line.startswith(f"when '{kind}' ") or f" perform {SCHEMA}.hide_{kind}(deleted, kinds); " in line


def _without_columns(thing: Thing, expected: Mapping[str, Thing]) -> Thing | None:
    """The rights without rights on the app's own columns; None if no right is left."""
    table = thing.part_of.partition(" ")[2]
    if thing.part_of.startswith("view "):
        return thing
    facts = {
        privilege: given
        for privilege, given in thing.facts.items()
        if "(" not in privilege or f"column {table}.{privilege.partition('(')[2].rstrip(')')}" in expected
    }
    return Thing(thing.kind, thing.name, thing.part_of, facts, thing.create) if facts else None


# In words


def _words_of_rights(difference: Difference) -> str:
    role, _, target = difference.thing.name.partition(" on ")
    wanted = difference.expected.facts if difference.expected else {}
    given = difference.found.facts if difference.found else {}
    missing = [privilege for privilege, how in wanted.items() if given.get(privilege) != how]
    besides = [privilege for privilege, how in given.items() if wanted.get(privilege) != how]
    said = []
    if missing:
        said.append(f"{role} lacks the right to {', '.join(missing)} on the {target}")
    if besides:
        said.append(f"{role} has the right to {', '.join(besides)} on the {target}, which no migration grants")
    return "; ".join(said)


def _words_of_fact(name: str, expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    is_now, must_be = found.get(name, "none"), expected.get(name, "none")
    if name in {"definition", "body"} or len(is_now) + len(must_be) > _SHOWN:
        return f"its {name} is another"
    return f"{name} is {is_now}, the migrations make it {must_be}"


def missing_api_roles(found: Iterable[Difference]) -> list[str]:
    """The roles of the API missing on this server."""
    return [
        difference.thing.name
        for difference in found
        if difference.thing.kind == "role" and difference.thing.name in API_ROLES
    ]
