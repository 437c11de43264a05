"""`make audit`: asks OSV for known vulnerabilities of the pinned packages.

The packages are those of the layer, which ships, and of the command, which an operator runs. OSV gets a name and a
version, and nothing else. https://google.github.io/osv.dev/post-v1-query/
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
    asked = report(root, osv_url, pins or [root / each for each in PINS])["dependencies"]
    vulnerable = [each for each in asked if each["vulns"]]
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            names = " ".join([found["id"], *found["aliases"]])
            click.echo(f"{package['name']} {package['version']}: {names}, fixed in {fixed}", err=True)
    if vulnerable:
        click.echo("Move the pins (`make lock UPGRADE=1`), test, deploy; docs/security.md says more.", err=True)
        sys.exit(1)
    click.echo(f"no known vulnerability in {len(asked)} packages")


if __name__ == "__main__":
    main()
