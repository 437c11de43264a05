"""The command as its wheel installs it: it works from any folder, with its own files and without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from tests.kit.databases import Database
from tests.kit.reconciling import rig_with

# Asks each command of the package for its help, all in one process.
EVERY_HELP = """
import click
from clerk_supabase_cli.main import commands

def helps(command, parent, name):
    context = click.Context(command, parent=parent, info_name=name)
    assert command.get_help(context), name
    names = command.list_commands(context) if isinstance(command, click.Group) else []
    return 1 + sum(helps(command.get_command(context, each), context, each) for each in names)

print(helps(commands, None, "clerk-supabase"))
"""


class Installed:
    """The command, with a home folder of its own."""

    def __init__(self, site: Path, home: Path) -> None:
        self.command = site / "bin" / "clerk-supabase"
        # PYTHONSAFEPATH: what lies in the current folder is no module.
        self.environment = {"PATH": "/nowhere", "HOME": str(home), "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}

    def run(self, *arguments: str, folder: Path = Path("/"), **variables: str) -> subprocess.CompletedProcess[str]:
        return self.python(str(self.command), *arguments, folder=folder, **variables)

    def python(self, *arguments: str, folder: Path = Path("/"), **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of Python that has the package."""
        return subprocess.run(
            [sys.executable, *arguments],
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


def test_an_operator_in_the_folder_of_an_app_needs_no_checkout(
    installed: Installed, database: Database, tmp_path: Path
) -> None:
    """A table of the app is protected, looked at, and compared; nothing outside the app's folder is read or written."""
    ada, ben, cal = (f"user_{number:026}" for number in range(3))
    with database.connect() as owner:
        owner.execute("create table public.tasks (id bigint generated always as identity primary key, name text)")
        owner.execute("create table public.profiles (clerk_user_id text unique, email text)")
        owner.cursor().executemany("insert into public.profiles values (%s, 'a@example.com')", [(ada,), (ben,), (cal,)])
    with rig_with(database, 3) as rig:
        rig.api.answers.key = "sk_live_standin"
        given = {"DATABASE_URL": database.url, "CLERK_API_URL": rig.api.url, "CLERK_SECRET_KEY": "sk_live_standin"}

        def typed(*arguments: str) -> str:
            done = installed.run(*arguments, folder=tmp_path, **given)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        assert "public.tasks is secured" in typed("secure", "public.tasks", "user")
        assert re.search(
            r"user +3 listed, 3 compared, 3 missing\n(.*\n)+run \d+, full, dry run: complete",
            typed("reconcile", "--dry-run"),
        )
        assert "3 rows: 3 with an id that the mirror does not have" in typed("adopt", "inspect")
        checked = typed("doctor")
    assert re.search(r"ok +migrations +all \d+ are applied and unaltered\nok +objects ", checked)
    assert "user.created                      sample  clerk.users" in typed("event", "--list")
    assert [file.name for file in tmp_path.iterdir()] == ["adopt.toml"]


def test_each_command_of_the_package_says_what_it_does(installed: Installed) -> None:
    """So each file that a command imports lies in the package."""
    done = installed.python("-c", EVERY_HELP)
    assert (done.stderr, int(done.stdout) > 50) == ("", True)


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
    assert installed.run("event", "user.created", "--send").stderr == (
        "clerk-supabase: this command is installed without a checkout, and finds no stack of `make dev`: name the "
        "checkout in CLERK_SUPABASE_CHECKOUT\n"
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
