"""`make audit`: asks OSV for known vulnerabilities of the pinned packages.

The packages are those of the layer, which ships, of the command, which an operator runs, and of the example, with which
an app begins. OSV gets a name and a version, and nothing else.
https://google.github.io/osv.dev/post-v1-query/ and https://google.github.io/osv.dev/post-v1-querybatch/
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import httpx

from clerk_supabase_cli.project import find_root

OSV: Final = "https://api.osv.dev/v1/query"
PINS: Final = ("layers/shared/requirements.txt", "requirements/cli.txt")
LOCKS: Final = ("examples/nextjs/package-lock.json",)
# Findings that do not concern this project, each by its id with the reason and the day it was looked at.
NOT_OURS: Final[Mapping[str, str]] = {}

_TIMEOUT_SECONDS: Final = 10


def why_unreachable(url: str) -> str:
    """Nothing when the database answers."""
    question = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "0.0"}
    try:
        answer = httpx.post(url, json=question, timeout=_TIMEOUT_SECONDS)
    except httpx.TransportError as error:
        return str(error) or type(error).__name__
    return "" if answer.is_success else f"it answered {answer.status_code}"


def report(root: Path, url: str, pins: Sequence[Path]) -> dict[str, Any]:
    """The findings of pip-audit. Raises ClickException when pip-audit could not finish."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "report.json")
        ran = subprocess.run(
            [
                *(str(root / ".tools/audit/bin/pip-audit"), "--disable-pip", "--require-hashes", "--strict"),
                *("--vulnerability-service", "osv", "--osv-url", url, "--progress-spinner", "off"),
                *("--cache-dir", str(Path(folder, "cache")), "--format", "json", "--output", str(result)),
                *(word for path in pins for word in ("--requirement", str(path))),
                *(word for each in NOT_OURS for word in ("--ignore-vuln", each)),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        # It also ends with 1 when it crashes: only a report is an answer.
        if not result.exists():
            last = (ran.stderr.strip() or "it said nothing").splitlines()[-1]
            raise click.ClickException(f"pip-audit could not finish: {last}")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found


def npm_pins(lock: Path) -> list[tuple[str, str]]:
    """Names and versions of the packages in a package-lock.json."""
    packages: dict[str, dict[str, Any]] = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    return sorted(
        {(path.rpartition("node_modules/")[2], package["version"]) for path, package in packages.items() if path}
    )


def npm_findings(url: str, pins: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each npm package with known vulnerabilities. Raises ClickException without an answer for each."""
    queries = [{"package": {"name": name, "ecosystem": "npm"}, "version": version} for name, version in pins]
    answer = httpx.post(f"{url}batch", json={"queries": queries}, timeout=_TIMEOUT_SECONDS)
    results = answer.json()["results"] if answer.is_success else []
    if len(results) != len(pins):
        raise click.ClickException(f"the database answered {answer.status_code} and not for each package of npm")
    ids = [[each["id"] for each in result.get("vulns", []) if each["id"] not in NOT_OURS] for result in results]
    return [f"{name} {version}: {' '.join(found)}" for (name, version), found in zip(pins, ids, strict=True) if found]


@click.command()
@click.option("--osv-url", default=OSV, show_default=True, help="Where OSV, or a mirror of it, answers.")
@click.option("--strict", is_flag=True, help="Fail when the database cannot be reached, too.")
@click.argument("pins", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(osv_url: str, strict: bool, pins: tuple[Path, ...]) -> None:
    """Fails for a vulnerable pin. Without a network, a loud message says that no question was possible."""
    root = find_root(Path(__file__).parent)
    if why := why_unreachable(osv_url):
        click.echo(f"NOT CHECKED: the database of vulnerabilities at {osv_url} could not be reached: {why}", err=True)
        click.echo("Nothing is known about the pinned packages. Run `make audit` again with a network.", err=True)
        sys.exit(2 if strict else 0)
    locks = [path for path in pins if path.suffix == ".json"] if pins else [root / each for each in LOCKS]
    of_npm = [pin for lock in locks for pin in npm_pins(lock)]
    of_python = [path for path in pins if path.suffix != ".json"] if pins else [root / each for each in PINS]
    asked = report(root, osv_url, of_python)["dependencies"] if of_python else []
    lines = [_line(package, found) for package in asked for found in package["vulns"]]
    lines += npm_findings(osv_url, of_npm) if of_npm else []
    for line in lines:
        click.echo(line, err=True)
    if lines:
        click.echo(
            "Move the pins (`make lock UPGRADE=1`; of npm: the version in package.json, then `make lock-npm`), test, "
            "deploy; docs/security.md says more.",
            err=True,
        )
        sys.exit(1)
    click.echo(f"no known vulnerability in {len(asked) + len(of_npm)} packages")


def _line(package: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    fixed = ", ".join(found["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {' '.join([found['id'], *found['aliases']])}, fixed in {fixed}"


if __name__ == "__main__":
    main()
