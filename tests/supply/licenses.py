"""`make licenses`: the licences of all shipped packages are known and accepted, and docs/licenses.md lists them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path
from typing import Final

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clerk_supabase_cli.project import find_root
from tests.supply.marked import differs, written

PINS: Final = Path("layers/shared/requirements.txt")
DOCUMENT: Final = Path("docs/licenses.md")
NAME: Final = "licenses"

# SPDX identifiers (https://spdx.org/licenses) that ask for no more than to pass on their text.
WANTED: Final = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"}
# Licences with further conditions, accepted all the same; docs/licenses.md names the consequences.
TAKEN: Final = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only"}
# Texts of the field from before PEP 639, which demands an SPDX expression.
_SPELLINGS: Final[Mapping[tuple[str, str], str]] = {
    ("python-dateutil", "Dual License"): "Apache-2.0 OR BSD-3-Clause",
    ("s3transfer", "Apache License 2.0"): "Apache-2.0",
}


@dataclass(frozen=True)
class Package:
    """A shipped package, its version, its licence; an empty licence is unknown."""

    name: str
    version: str
    license: str

    @property
    def problem(self) -> str:
        """The reason why the package must not be shipped, or an empty text."""
        if not self.license:
            return f"{self.name} {self.version}: does not say its licence in a way that is known here; look it up"
        if self.license == TAKEN.get(self.name) or _is_wanted(self.license):
            return ""
        return f"{self.name} {self.version}: {self.license} is not among the licences wanted; take something else"


def _is_wanted(expression: str) -> bool:
    """Of alternatives, a single accepted licence is enough; of licences that hold together, all have to be accepted."""
    return any(set(each.split(" AND ")) <= WANTED for each in expression.split(" OR "))


def pinned(text: str) -> Iterator[Requirement]:
    """The packages of a pins file that are installed on this platform."""
    for line in re.findall(r"^[a-zA-Z0-9].*", text, re.MULTILINE):
        requirement = Requirement(line.rstrip("\\ "))
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def packages(pins: str, installed: Sequence[Distribution]) -> list[Package]:
    """Every pinned package, with the data of its own metadata."""
    by_name = {canonicalize_name(each.metadata["Name"]): each for each in installed}
    found: list[Package] = []
    for requirement in pinned(pins):
        name = canonicalize_name(requirement.name)
        if name not in by_name or by_name[name].version not in requirement.specifier:
            raise click.ClickException(f"{requirement.name}{requirement.specifier} is not installed: run `make setup`")
        found.append(Package(name, by_name[name].version, _license(name, by_name[name].metadata)))
    return found


def _license(name: str, metadata: PackageMetadata) -> str:
    said = str(metadata.json.get("license_expression") or metadata.json.get("license") or "")
    return _SPELLINGS.get((name, said), said)


def table(found: Sequence[Package]) -> str:
    """The table of docs/licenses.md."""
    rows = [f"| {each.name} | {each.version} | {each.license} |" for each in found]
    return "\n".join(["| package | version | licence |", "| --- | --- | --- |", *rows])


@click.command()
@click.option("--write", is_flag=True, help=f"Write the table of {DOCUMENT} anew.")
def main(write: bool) -> None:
    """Fails when a licence is unknown or not wanted, and when the document is behind."""
    root = find_root(Path(__file__).parent)
    found = packages((root / PINS).read_text(encoding="utf-8"), list(distributions()))
    problems = [each.problem for each in found if each.problem]
    document = root / DOCUMENT
    if write:
        document.write_text(written(document.read_text(encoding="utf-8"), NAME, table(found)), encoding="utf-8")
    elif differs(document.read_text(encoding="utf-8"), NAME, table(found)):
        problems.append(f"{DOCUMENT} is behind: run `make licenses ARGS=--write`")
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
    click.echo(f"{len(found)} packages in the layer, every licence known and wanted")


if __name__ == "__main__":
    main()
