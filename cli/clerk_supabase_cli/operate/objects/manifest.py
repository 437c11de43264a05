"""sql/objects.json: the objects made by the migrations, as the catalogue of a new database describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.operate.objects.catalogue import Scope, Thing

_FILE: Final = Path("sql") / "objects.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects made by a set of migrations."""

    migrations: Mapping[str, str]
    """Checksum of each migration, by its name."""
    things: Sequence[Thing]
    is_extended: bool = False
    """True for a checkout with migrations of the app, which may make any object unknown here."""

    @property
    def scope(self) -> Scope:
        """This project's names in the schema clerk."""
        return Scope.of(self.things)

    def text(self) -> str:
        """The content of the file, with a line for each line of a statement, for readable diffs."""
        things = ",\n".join(map(_written, self.things))
        return f'{{"migrations": {json.dumps(dict(self.migrations), indent=1)},\n"objects": [\n{things}\n]}}\n'


def _written(thing: Thing) -> str:
    facts = json.dumps(dict(sorted(thing.facts.items())), ensure_ascii=False)
    lines = ",\n ".join(json.dumps(line, ensure_ascii=False) for line in thing.create.split("\n"))
    named = json.dumps({"kind": thing.kind, "name": thing.name, "part_of": thing.part_of}, ensure_ascii=False)
    return f'{named[:-1]},\n"facts": {facts},\n"create": [\n {lines}]}}'


def read_manifest(root: Path) -> Manifest:
    """The manifest of the checkout at *root*."""
    content = json.loads((root / _FILE).read_text(encoding="utf-8"))
    things = [
        Thing(each["kind"], each["name"], each["part_of"], each["facts"], "\n".join(each["create"]))
        for each in content["objects"]
    ]
    files = {file.stem for file in (root / "sql" / "migrations").glob("*.sql")}
    return Manifest(content["migrations"], things, is_extended=bool(files - content["migrations"].keys()))


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes the manifest into the checkout at *root*."""
    (root / _FILE).write_text(manifest.text(), encoding="utf-8")
