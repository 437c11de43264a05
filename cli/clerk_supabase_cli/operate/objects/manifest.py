"""sql/objects.json: the objects made by the migrations, as the catalogue of a new database describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from clerk_supabase_cli.operate.install.mirror import DEFAULT, rendered
from clerk_supabase_cli.operate.objects.catalogue import DISPATCHERS, Scope, Thing, hash_of_body

_FILE: Final = Path("sql") / "objects.json"
# The body in a statement of pg_get_functiondef(): between dollar quotes, or parsed, up to the end.
_BODY: Final = re.compile(r"^AS (\$\w*\$)(.*)\1\n\Z|^((?:RETURN|BEGIN ATOMIC)\b.*?)\n\Z", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects made by a set of migrations."""

    migrations: Mapping[str, str]
    """Checksum of each migration, by its name."""
    things: Sequence[Thing]
    is_extended: bool = False
    """True for a checkout with migrations of the app, which may make any object unknown here."""
    schema: str = DEFAULT
    """Name of the mirror's schema."""

    @property
    def scope(self) -> Scope:
        """This project's names in the schema of the mirror."""
        return Scope.of(self.things, self.schema)

    def rendered(self, schema: str) -> Manifest:
        """Renders the objects for another name of the mirror's schema."""
        if schema == self.schema:
            return self
        return replace(self, things=[_rendered(thing, schema) for thing in self.things], schema=schema)

    def text(self) -> str:
        """The content of the file, with a line for each line of a statement, for readable diffs."""
        things = ",\n".join(map(_written, self.things))
        return f'{{"migrations": {json.dumps(dict(self.migrations), indent=1)},\n"objects": [\n{things}\n]}}\n'


def _rendered(thing: Thing, schema: str) -> Thing:
    create = rendered(thing.create, schema)
    facts = {fact: rendered(value, schema) for fact, value in thing.facts.items()}
    if thing.kind == "function" and thing.name not in DISPATCHERS and create != thing.create:
        facts["body"] = _hash_in(create)
    name = schema if thing.key == f"schema {DEFAULT}" else rendered(thing.name, schema)
    return replace(thing, name=name, part_of=rendered(thing.part_of, schema), facts=facts, create=create)


def _hash_in(create: str) -> str:
    """The hash of the body in a `create function`, as the catalogue would give it."""
    found = _BODY.search(create)
    assert found is not None, create  # noqa: S101 - Postgres prints each function in one of two forms
    return hash_of_body(found[2] if found[1] else found[3])


def _written(thing: Thing) -> str:
    facts = json.dumps(dict(sorted(thing.facts.items())), ensure_ascii=False)
    lines = ",\n ".join(json.dumps(line, ensure_ascii=False) for line in thing.create.split("\n"))
    named = json.dumps({"kind": thing.kind, "name": thing.name, "part_of": thing.part_of}, ensure_ascii=False)
    return f'{named[:-1]},\n"facts": {facts},\n"create": [\n {lines}]}}'


def read_manifest(root: Path) -> Manifest:
    """The manifest of the checkout at *root*."""
    read = _parsed((root / _FILE).read_text(encoding="utf-8"))
    files = {file.stem for file in (root / "sql" / "migrations").glob("*.sql")}
    return replace(read, is_extended=bool(files - read.migrations.keys()))


@lru_cache(maxsize=1)
def _parsed(text: str) -> Manifest:
    content = json.loads(text)
    things = [
        Thing(each["kind"], each["name"], each["part_of"], each["facts"], "\n".join(each["create"]))
        for each in content["objects"]
    ]
    return Manifest(content["migrations"], things)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes the manifest into the checkout at *root*."""
    (root / _FILE).write_text(manifest.text(), encoding="utf-8")
