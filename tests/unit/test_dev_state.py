"""The record of a running `dev`, by which other terminals find its stack, and which counts only while `dev` runs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clerk_supabase_cli.local.dev.running import NotRunning, RunningStack, running_stack
from clerk_supabase_cli.local.processes import LocalStackError
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.project import private_place
from clerk_supabase_cli.standin.deliveries import webhook_secret_of
from clerk_supabase_cli.standin.token_mint import SigningKey

STACK = RunningStack(
    process_id=os.getpid(),
    webhook_url="http://127.0.0.1:1/webhooks/clerk",
    session_url="http://127.0.0.1:1/session",
    webhook_secret="whsec_local-only",
    database_url="postgresql://127.0.0.1:2/postgres",
    name="clerk-supabase-sync-dev",
    aws={"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "local1", "AWS_SECRET_ACCESS_KEY": "s"},
    clerk_api_url="http://127.0.0.1:3/v1",
    clerk_secret_key="sk_test_standin",
    clerk_publishable_key="pk_test_Y2xlcmsubG9jYWwudGVzdCQ=",
    frontend_api_url="http://127.0.0.1:4",
    logs="logs",
)


@pytest.fixture
def of_the_dead() -> RunningStack:
    """The record that `dev` left behind when it was killed."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return replace(STACK, process_id=process.pid)


def test_a_stack_that_runs_is_found(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    assert running_stack(tmp_path) == STACK


def test_a_stack_that_was_killed_is_not(tmp_path: Path, of_the_dead: RunningStack) -> None:
    of_the_dead.save(tmp_path)
    with pytest.raises(NotRunning, match="`make dev`"):
        running_stack(tmp_path)


def test_a_shell_and_a_command_say_that_the_variables_are_of_a_stack_that_has_ended(
    tmp_path: Path, of_the_dead: RunningStack
) -> None:
    of_the_dead.save(tmp_path)
    typed = f'. .local/env; "{sys.executable}" -m clerk_supabase_cli.main explain user_1 --database-url -'
    shell = subprocess.run(
        ["sh", "-c", typed],
        cwd=tmp_path,
        input="postgresql://x@127.0.0.1:1/x\n",
        capture_output=True,
        text=True,
        check=False,
    )
    at_source, *_, at_the_end = shell.stderr.splitlines()
    assert at_source == at_the_end
    assert "`make dev`" in at_source
    assert "source .local/env again" in at_source
    assert shell.returncode == 1


def test_a_relative_folder_for_states_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", "states")
    monkeypatch.setattr("clerk_supabase_cli.project.is_installed", lambda _: True)
    assert private_place() == tmp_path / "home" / ".local" / "state" / "clerk-supabase"


def test_an_app_started_in_a_shell_with_these_variables_still_reads_its_own_file(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    exported = re.findall(r"^export (\w+)=(.*)$", (tmp_path / ".local" / "env").read_text(), re.MULTILINE)
    assert [name for name, _ in exported if name.startswith("NEXT_PUBLIC_")] == []
    # Clerk's packages add the version, and the command does so too.
    assert dict(exported)["CLERK_API_URL"] == "http://127.0.0.1:3"


@pytest.mark.parametrize("name", ["reconcile", "doctor"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:3", "http://127.0.0.1:3/", "http://127.0.0.1:3/v1"])
def test_the_address_of_clerks_api_may_lack_its_version(name: str, address: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    option = next(each for each in command.params if each.name == "clerk_api_url")
    assert option.process_value(click.Context(command), address) == "http://127.0.0.1:3/v1"


def test_a_stack_that_starts_after_one_was_killed_is_found(tmp_path: Path, of_the_dead: RunningStack) -> None:
    of_the_dead.save(tmp_path)
    STACK.save(tmp_path)
    of_the_dead.forget(tmp_path)
    assert running_stack(tmp_path) == STACK


@pytest.mark.parametrize("left", ["", "{", "[]", '{"process_id": 1}'], ids=["empty", "half", "a list", "of old"])
def test_a_file_without_a_usable_value_counts_as_missing(tmp_path: Path, left: str) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "dev.json").write_text(left)
    with pytest.raises(NotRunning, match="`make dev`"):
        running_stack(tmp_path)


def test_nobody_else_can_read_its_secrets(tmp_path: Path) -> None:
    # As one of an earlier version left it.
    (tmp_path / ".local").mkdir(mode=0o755)
    STACK.save(tmp_path)
    SigningKey.of_checkout(tmp_path)
    webhook_secret_of(tmp_path)
    folder = tmp_path / ".local"
    private = {"dev.json", "env", "clerk-signing-key.pem", "webhook-secret"}
    assert {each.name for each in folder.iterdir()} == private | {"clerk-public-key.pem"}
    assert all((folder / name).stat().st_mode & 0o077 == 0 for name in private)
    assert folder.stat().st_mode & 0o077 == 0


def test_each_checkout_signs_webhooks_with_a_secret_of_its_own(tmp_path: Path) -> None:
    checkouts = [tmp_path / "one", tmp_path / "two"]
    for each in checkouts:
        each.mkdir()
    first, second = map(webhook_secret_of, checkouts)
    assert first != second
    assert webhook_secret_of(checkouts[0]) == first


HOSTILE = '\'; touch harmed; echo $(touch harmed) `touch harmed` "$HOME" \\ \n%'


def test_a_shell_reads_the_values_of_the_file_and_runs_none_of_them(tmp_path: Path) -> None:
    replace(STACK, database_url=HOSTILE).save(tmp_path)
    read = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    shell = subprocess.run(
        ["sh", "-c", '. .local/env && exec "$@"', "sh", *read],
        cwd=tmp_path,
        env={"AWS_PROFILE": "production", "AWS_SESSION_TOKEN": "of production"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(shell.stdout)
    assert found["DATABASE_URL"] == HOSTILE
    assert STACK.aws.items() <= found.items()
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & found.keys()
    assert not (tmp_path / "harmed").exists()


def test_the_file_for_shells_leaves_the_url_of_a_database_that_was_given_to_the_developer(tmp_path: Path) -> None:
    replace(STACK, database_url="").save(tmp_path)
    shell = subprocess.run(
        ["sh", "-c", '. .local/env && echo "$DATABASE_URL" "$CLERK_PUBLISHABLE_KEY" "$CLERK_FRONTEND_API_URL"'],
        cwd=tmp_path,
        env={"DATABASE_URL": "mine"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split() == ["mine", STACK.clerk_publishable_key, STACK.frontend_api_url]


def test_a_shell_finds_the_command_and_keeps_its_own_programs(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    mine = tmp_path / "my own"
    mine.mkdir()
    (mine / "python").touch(mode=0o755)
    found = subprocess.run(
        ["/bin/sh", "-c", ". .local/env && command -v python && command -v clerk-supabase"],
        cwd=tmp_path,
        env={"PATH": str(mine)},
        capture_output=True,
        text=True,
        check=True,
    )
    here = Path(sys.executable).parent
    assert found.stdout.splitlines() == [str(mine / "python"), str(here / "clerk-supabase")]


def test_a_shell_finds_the_sam_that_was_installed_here_and_the_uv_that_it_needs(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    for name in ("sam", "uv"):
        program = tmp_path / ".tools" / name / "bin" / name
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    found = subprocess.run(
        ["/bin/sh", "-c", ". .local/env && command -v sam && command -v uv"],
        cwd=tmp_path,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == [str(tmp_path / ".tools" / name / "bin" / name) for name in ("sam", "uv")]


def test_the_file_for_shells_is_removed_with_the_stack(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    STACK.forget(tmp_path)
    assert not list((tmp_path / ".local").iterdir())


def test_a_port_in_use_is_named_with_its_option_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"port {port} .* is taken: .* with --clerk-port"):
            CliRunner().invoke(commands, ["dev", "--port", "0", "--clerk-port", str(port)], catch_exceptions=False)
