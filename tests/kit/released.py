"""`make freeze`: writes sql/released/VERSION.json, the checksums of the migrations of a release.

A released migration never changes, because `migrate` applies no file twice. As long as no list exists, nothing is
released, and every file may change.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from clerk_supabase_cli.operate.install.migrations import Migration, is_of_the_app, read_migrations
from clerk_supabase_cli.operate.versions import is_newer
from clerk_supabase_cli.printing import say
from clerk_supabase_cli.project import find_root
from tests.kit.version import numbers

_FOLDER: Final = Path("sql", "released")
_RECORDS: Final = re.compile(
    r"^insert into clerk_sync\.migrations \(name\) values \('([^']*)'\);\s*$", re.IGNORECASE | re.MULTILINE
)
_SETS_VERSION: Final = re.compile(
    r"create (?:or replace )?function clerk_sync\.version\(\)[^$]*\$\$\s*select '(\d+\.\d+\.\d+)'\s*\$\$"
)


class NotFrozen(Exception):
    """The list of a release cannot be written, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release of this project: the SHA-256 of each migration by its name."""

    version: str
    database: str
    """The version that the migrations give to the database: the last release with new migrations."""
    migrations: Mapping[str, str]


def releases(root: Path) -> list[Release]:
    """The releases of the checkout at *root*, the oldest first."""
    files = (root / _FOLDER).glob("*.json")
    found = [Release(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
    return sorted(found, key=lambda release: tuple(map(int, release.version.split("."))))


def migrations_of(root: Path, release: Release) -> list[Migration]:
    """The migrations of a release, in order, read from the present files."""
    return [each for each in read_migrations(root) if each.name in release.migrations]


def present(root: Path) -> Release:
    """The checkout at *root* as a release."""
    version = version_of(root)
    migrations = _own(root)
    set_by = [found[1] for each in migrations if (found := _SETS_VERSION.search(each.text))]
    return Release(version, set_by[-1] if set_by else "", {each.name: each.checksum for each in migrations})


def problems(root: Path) -> Iterator[str]:
    """Everything in the migrations that contradicts a release, each with its remedy."""
    files = {each.name: each for each in _own(root)}
    earlier = releases(root)
    for release in earlier:
        for name, checksum in release.migrations.items():
            if name not in files or files[name].checksum != checksum:
                wrong = "is missing" if name not in files else "was changed"
                yield (
                    f"sql/migrations/{name}.sql {wrong}, and belongs to the release {release.version}, which never "
                    "changes: put the file back, and write the change as a new migration (docs/upgrade.md); only "
                    f"before the tag v{release.version} exists: `make freeze`"
                )
    for name, file in files.items():
        if _RECORDS.findall(file.text) != [name]:
            yield (
                f"sql/migrations/{name}.sql does not record itself, and nothing else, so migrate would apply it again: "
                f"let it end as the other migrations do, with its own name in clerk_sync.migrations"
            )
    yield from _problems_of_new_files(root, earlier, files)


def _problems_of_new_files(root: Path, earlier: list[Release], files: Mapping[str, Migration]) -> Iterator[str]:
    version = version_of(root)
    known = {name for release in earlier for name in release.migrations}
    new = [name for name in files if name not in known]
    for name in new:
        if known and name < max(known):
            yield f"sql/migrations/{name}.sql is new, and numbered before {max(known)}: give it a higher number"
    if not earlier:
        if present(root).database != version:
            yield f"clerk_sync.version() of the migrations is {present(root).database}, and the version is {version}"
    elif not new:
        if present(root).database != earlier[-1].database:
            yield f"sql/released/{earlier[-1].version}.json names another version of the database"
    elif not is_newer(version, earlier[-1].version):
        yield (
            f"sql/migrations/{new[0]}.sql is no part of the release {version}: choose the next version with `make "
            f"version NUMBER=...`; only before the tag v{version} exists: `make freeze`"
        )
    elif (found := _SETS_VERSION.search(files[new[0]].text)) is None or found[1] != version:
        yield (
            f"sql/migrations/{new[0]}.sql is the first file after {earlier[-1].version}: let it begin with `create or "
            f"replace function clerk_sync.version()`, which returns {version} (the number of `make version`)"
        )


def freeze(root: Path) -> Path:
    """Writes the list of the present version, which may be repeated until its tag exists. Raises NotFrozen."""
    release = present(root)
    if _is_tagged(root, release.version):
        raise NotFrozen(
            f"{release.version} is released (tag v{release.version}), and its list never changes: choose the next "
            "version with `make version NUMBER=...`"
        )
    earlier = releases(root)
    if newer := [each.version for each in earlier if is_newer(each.version, release.version)]:
        raise NotFrozen(f"{newer[0]} is released already: choose a later version with `make version NUMBER=...`")
    file = root / _FOLDER / f"{release.version}.json"
    before = file.read_text(encoding="utf-8") if file.is_file() else None
    file.unlink(missing_ok=True)
    if found := list(problems(root)):
        if before is not None:
            file.write_text(before, encoding="utf-8")
        raise NotFrozen("; ".join(found))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(release), indent=2) + "\n", encoding="utf-8")
    return file


def version_of(root: Path) -> str:
    """The version in the layer of the checkout at *root*."""
    [version] = next(iter(numbers(root).values()))
    return version


def _own(root: Path) -> list[Migration]:
    return [each for each in read_migrations(root) if not is_of_the_app(each.name)]


def _is_tagged(root: Path, version: str) -> bool:
    asked = ["git", "rev-parse", "--quiet", "--verify", f"refs/tags/v{version}"]
    try:
        return subprocess.run(asked, cwd=root, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    checkout = find_root(Path(__file__).parent)
    try:
        say(f"wrote {freeze(checkout).relative_to(checkout)}")
    except NotFrozen as error:
        sys.exit(str(error))
