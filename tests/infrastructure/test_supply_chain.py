"""The pinned packages: their licences, and the search for known vulnerabilities."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution, PathDistribution, distributions
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from packaging.version import Version

from tests.supply import audit, licenses
from tests.supply.marked import differs, written

# Licences


def package(folder: Path, name: str, *metadata: str) -> Distribution:
    """An installed package with this metadata."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *metadata, ""]
    (information / "METADATA").write_text("\n".join(lines), encoding="utf-8")
    return PathDistribution(information)


def problem(folder: Path, *metadata: str, name: str = "left-pad") -> str:
    [found] = licenses.packages(f"{name}==1.0 \\\n    --hash=sha256:00", [package(folder, name, *metadata)])
    return found.problem


@pytest.mark.parametrize(
    "said",
    [
        "License-Expression: MIT",
        "License: Apache-2.0",
        "License-Expression: GPL-3.0-only OR BSD-3-Clause",
        "License-Expression: MIT AND PSF-2.0",
    ],
)
def test_a_licence_that_is_wanted_passes(said: str, tmp_path: Path) -> None:
    assert problem(tmp_path, said) == ""


@pytest.mark.parametrize(
    "said",
    [
        "License-Expression: GPL-3.0-or-later",
        "License-Expression: AGPL-3.0-only",
        "License-Expression: LGPL-3.0-only",
        "License-Expression: MIT AND GPL-2.0-only",
        "License: Beerware",
    ],
)
def test_a_licence_that_is_not_wanted_is_named(said: str, tmp_path: Path) -> None:
    assert said.partition(": ")[2] in problem(tmp_path, said)


def test_a_package_that_does_not_say_its_licence_is_no_licence_to_ship_it(tmp_path: Path) -> None:
    assert "look it up" in problem(tmp_path)


def test_the_exception_is_for_one_package_under_one_licence(tmp_path: Path) -> None:
    assert problem(tmp_path, "License-Expression: LGPL-3.0-only", name="psycopg") == ""
    assert problem(tmp_path, "License-Expression: GPL-3.0-only", name="psycopg-binary")


def test_a_package_that_is_not_installed_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="make setup"):
        licenses.packages("left-pad==2.0 \\\n", [package(tmp_path, "left-pad", "License: MIT")])


def test_all_that_ships_has_a_licence_that_is_wanted_and_the_document_lists_it(root: Path) -> None:
    found = licenses.packages((root / licenses.PINS).read_text(encoding="utf-8"), list(distributions()))
    assert [each.problem for each in found if each.problem] == []
    assert not differs((root / licenses.DOCUMENT).read_text(encoding="utf-8"), licenses.NAME, licenses.table(found))


def test_an_outdated_part_of_a_document_is_found_and_rewritten() -> None:
    document = "before\n<!-- begin list -->\nold\n<!-- end list -->\nafter"
    assert differs(document, "list", "new")
    mended = written(document, "list", "new")
    assert mended == "before\n<!-- begin list -->\n\nnew\n\n<!-- end list -->\nafter"
    assert not differs(mended, "list", "new")
    with pytest.raises(ValueError, match="0 parts"):
        written(document, "other", "new")


# Vulnerabilities

# https://osv.dev/vulnerability/GHSA-q2q7-5pp4-w6pg, as far as pip-audit reads it.
ADVISORY = {
    "id": "GHSA-q2q7-5pp4-w6pg",
    "aliases": ["CVE-2021-33503"],
    "summary": "Catastrophic backtracking in URL authority parser when passed URL containing many @ characters",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "urllib3"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.25.4"}, {"fixed": "1.26.5"}]}],
        }
    ],
}
VULNERABLE = f"urllib3==1.26.4 \\\n    --hash=sha256:{'0' * 64}\n"


class Osv(BaseHTTPRequestHandler):
    """OSV's API, as far as it is used here: one package in one version, and one advisory."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/querybatch":
            bad = {"package": {"name": "next", "ecosystem": "npm"}, "version": "15.2.2"}
            self._answer(
                {"results": [{"vulns": [{"id": "GHSA-f82v"}]} if each == bad else {} for each in asked["queries"]]}
            )
            return
        hit = asked["package"] == {"name": "urllib3", "ecosystem": "PyPI"} and (
            Version("1.25.4") <= Version(asked["version"]) < Version("1.26.5")
        )
        self._answer({"vulns": [ADVISORY]} if hit else {}, 200 if self.path == "/v1/query" else 403)

    def _answer(self, answer: object, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class calls it so
        """Says nothing."""


@pytest.fixture(scope="module")
def osv() -> Iterator[str]:
    """The address of the API."""
    with pytest.MonkeyPatch.context() as environment, ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        environment.setenv("NO_PROXY", "127.0.0.1")
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audited(*arguments: str) -> Result:
    return CliRunner().invoke(audit.main, arguments)


def test_every_pinned_package_is_looked_up_and_passes_without_a_known_vulnerability(osv: str, root: Path) -> None:
    result = audited("--osv-url", f"{osv}/v1/query", str(root / licenses.PINS))
    assert (result.exit_code, result.output) == (0, "no known vulnerability in 21 packages\n")


def test_a_pin_with_a_known_vulnerability_fails_and_names_the_version_that_fixes_it(osv: str, tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(VULNERABLE, encoding="utf-8")
    result = audited("--osv-url", f"{osv}/v1/query", str(pins))
    assert result.exit_code == 1
    assert "urllib3 1.26.4: CVE-2021-33503 GHSA-q2q7-5pp4-w6pg, fixed in 1.26.5" in result.output


def test_a_package_of_npm_with_a_known_vulnerability_fails_wherever_it_lies(osv: str, tmp_path: Path) -> None:
    lock = tmp_path / "package-lock.json"
    versions = {"node_modules/react": "19.3.1", "node_modules/@a/b/node_modules/next": "15.2.2"}
    packages = {path: {"version": version} for path, version in versions.items()}
    lock.write_text(json.dumps({"packages": {"": {"name": "app"}, **packages}}), encoding="utf-8")
    result = audited("--osv-url", f"{osv}/v1/query", str(lock))
    assert (result.exit_code, "next 15.2.2: GHSA-f82v" in result.output, "react" in result.output) == (1, True, False)


def test_without_a_network_the_audit_says_loudly_that_nothing_was_checked() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    result = audited("--osv-url", url)
    assert result.exit_code == 0
    assert result.output.startswith("NOT CHECKED: ")
    assert audited("--osv-url", url, "--strict").exit_code == 2


def test_a_proxy_that_answers_403_is_not_mistaken_for_the_vulnerability_database(osv: str) -> None:
    result = audited("--osv-url", f"{osv}/elsewhere")
    assert "NOT CHECKED" in result.output
    assert "it answered 403" in result.output


def test_pins_that_cannot_be_read_do_not_pass(osv: str, tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("urllib3>=1\n", encoding="utf-8")
    result = audited("--osv-url", f"{osv}/v1/query", str(pins))
    assert result.exit_code == 1
    assert "could not finish" in result.output
