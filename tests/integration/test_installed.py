"""The command as its wheel installs it: it works from any folder, with its own files and without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from tests.kit.databases import Database


class Installed:
    """The command, with a home folder of its own."""

    def __init__(self, site: Path, home: Path) -> None:
        self.command = site / "bin" / "clerk-supabase"
        # PYTHONSAFEPATH: what lies in the current folder is no module.
        self.environment = {"PATH": "/nowhere", "HOME": str(home), "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}

    def run(self, *arguments: str, folder: Path = Path("/"), **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, self.command, *arguments],
            cwd=folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, unpacked by an installer; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    uv = str(Tools.of(root).uv)
    environment = os.environ | {"UV_CACHE_DIR": str(folder / "cache"), "UV_OFFLINE": "1"}
    build = [uv, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(folder)]
    subprocess.run([*build, str(root / "cli")], check=True, env=environment)
    [wheel] = folder.glob("*.whl")
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target"]
    subprocess.run([*install, str(folder / "site"), str(wheel)], check=True, env=environment)
    return Installed(folder / "site", folder / "home")


def test_it_finds_the_migrations_and_the_objects_of_its_version(installed: Installed, database: Database) -> None:
    done = installed.run("migrate", DATABASE_URL=database.url)
    assert (done.stdout, done.stderr) == ("up to date\n", "")


def test_it_never_reads_the_files_of_the_current_folder_and_says_so(
    installed: Installed, database: Database, tmp_path: Path
) -> None:
    """Somebody else's folder would have its SQL run by the owner of the database."""
    (tmp_path / "sql" / "migrations").mkdir(parents=True)
    (tmp_path / "sql" / "migrations" / "9001_planted.sql").write_text("create table public.planted ();")
    (tmp_path / "template.yaml").touch()
    (tmp_path / "below").mkdir()
    done = installed.run("migrate", folder=tmp_path / "below", DATABASE_URL=database.url)
    assert done.stdout == "up to date\n"
    assert done.stderr.startswith(f"note: the command reads its own files, none of {tmp_path}; {CHECKOUT_VARIABLE}=")


def test_what_needs_a_checkout_or_a_program_says_so_in_a_line(installed: Installed) -> None:
    assert installed.run("dev").stderr == (
        "clerk-supabase: `clerk-supabase dev` needs the tools of a checkout: run `make dev` in a checkout of "
        "clerk-supabase-sync\n"
    )
    assert installed.run("deploy", "--dry-run").stderr == (
        "clerk-supabase: sam is not on the search path: run `uv tool install aws-sam-cli`\n"
    )


def test_keys_of_the_machine_lie_in_the_home_folder_or_where_the_user_says(
    installed: Installed, tmp_path: Path
) -> None:
    minted = installed.run("token", "mint", "--user", "user_ada", XDG_STATE_HOME=str(tmp_path))
    assert minted.stdout.startswith("eyJ")
    assert (tmp_path / "clerk-supabase" / ".local").stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    failed = installed.run("token", "mint", "--user", "user_ada", HOME=str(tmp_path / "file"))
    assert failed.stderr == (
        "clerk-supabase: no folder for keys (Not a directory): set XDG_STATE_HOME to a folder that you may write\n"
    )
