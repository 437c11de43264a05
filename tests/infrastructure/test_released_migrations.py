"""Released migrations never change; later ones only add. Before the first release, every file may change."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from clerk_supabase.version import VERSION
from clerk_supabase_cli.operate.install.migrations import is_of_the_app
from clerk_supabase_cli.operate.versions import major_of
from tests.kit.released import NotFrozen, freeze, present, problems, releases
from tests.kit.version import numbers, write

NEXT = f"{major_of(VERSION)}.{99}.0"


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A copy of the files that matter here, without any release."""
    for name in {place.partition(" ")[0] for place in numbers(root)}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    shutil.copytree(root / "sql" / "migrations", tmp_path / "sql" / "migrations")
    return tmp_path


@pytest.fixture
def released(checkout: Path) -> Path:
    """A project after a release of the present version."""
    write(checkout, present(checkout).database)
    assert list(problems(checkout)) == []
    freeze(checkout)
    return checkout


def last(checkout: Path) -> str:
    return max(present(checkout).migrations)


def file_of(checkout: Path, name: str) -> Path:
    return checkout / "sql" / "migrations" / f"{name}.sql"


def add(checkout: Path, version: str | None, name: str = "0999_next") -> None:
    """Adds a migration, which sets a version first unless *version* is None."""
    begins = (
        f"create or replace function clerk_sync.version() returns text language sql as $$\nselect '{version}'\n$$;\n"
    )
    records = f"insert into clerk_sync.migrations (name) values ('{name}');\n"  # noqa: S608 - constants of this test
    file_of(checkout, name).write_text(records if version is None else begins + records)


def test_the_released_migrations_are_as_they_were_released(root: Path) -> None:
    assert "\n".join(problems(root)) == ""


def test_before_the_first_release_a_migration_may_change(checkout: Path) -> None:
    file = file_of(checkout, "0002_create_users")
    file.write_text(file.read_text() + "-- a thought\n")
    assert releases(checkout) == []
    write(checkout, present(checkout).database)
    assert list(problems(checkout)) == []


def test_a_release_lists_each_migration_with_its_checksum(released: Path) -> None:
    [release] = releases(released)
    assert release == present(released)
    files = (released / "sql" / "migrations").glob("*.sql")
    assert len(release.migrations) == len([file for file in files if not is_of_the_app(file.stem)])


def test_a_released_migration_that_was_changed_is_named_with_what_to_do(released: Path) -> None:
    file = file_of(released, "0002_create_users")
    file.write_text(file.read_text() + "-- a thought\n")
    [problem] = problems(released)
    assert problem.startswith("sql/migrations/0002_create_users.sql was changed, and belongs to the release")
    assert "put the file back, and write the change as a new migration" in problem


def test_a_released_migration_that_was_removed_is_named(released: Path) -> None:
    file_of(released, "0002_create_users").unlink()
    assert "sql/migrations/0002_create_users.sql is missing" in next(iter(problems(released)))


def test_a_later_migration_begins_with_the_later_version(released: Path) -> None:
    add(released, None)
    assert "choose the next version with `make version NUMBER=...`" in "".join(problems(released))
    write(released, NEXT)
    add(released, None)
    assert "let it begin with `create or replace function clerk_sync.version()`" in "".join(problems(released))
    add(released, NEXT)
    assert list(problems(released)) == []
    freeze(released)
    assert [release.version for release in releases(released)][-1] == NEXT


def test_a_release_without_a_migration_leaves_the_version_of_the_database(released: Path) -> None:
    before = present(released).database
    write(released, NEXT)
    assert list(problems(released)) == []
    freeze(released)
    assert releases(released)[-1].database == before


def test_a_new_migration_has_a_higher_number_than_released_ones(released: Path) -> None:
    write(released, NEXT)
    add(released, NEXT, "0002_before")
    assert "is new, and numbered before" in "".join(problems(released))


def test_a_list_may_be_written_anew_until_its_tag_exists_and_never_by_an_older_version(released: Path) -> None:
    file = file_of(released, "0002_create_users")
    file.write_text(file.read_text() + "-- a thought\n")
    freeze(released)
    assert list(problems(released)) == []
    version = present(released).version
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.test"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "release"], ["tag", f"v{version}"]):
        subprocess.run([*git, *command], cwd=released, check=True)
    with pytest.raises(NotFrozen, match="its list never changes"):
        freeze(released)
    write(released, "0.0.1")
    with pytest.raises(NotFrozen, match="is released already"):
        freeze(released)


def test_a_change_of_an_earlier_release_is_not_frozen(released: Path) -> None:
    write(released, NEXT)
    file = file_of(released, "0002_create_users")
    file.write_text(file.read_text() + "-- a thought\n")
    with pytest.raises(NotFrozen, match="was changed"):
        freeze(released)
    assert [release.version for release in releases(released)] != [NEXT]


@pytest.mark.parametrize("records", ["", "another", "twice", "in a comment"])
def test_a_migration_that_does_not_record_itself_alone_is_not_frozen(records: str, released: Path) -> None:
    write(released, NEXT)
    add(released, NEXT)
    file = file_of(released, "0999_next")
    own = file.read_text().splitlines()[-1]
    other = own.replace("0999_next", "0998_before")
    written = {"": "", "another": other, "twice": f"{own}\n{other}", "in a comment": f"-- {own}"}[records]
    file.write_text(file.read_text().replace(own, written))
    with pytest.raises(NotFrozen, match=r"0999_next\.sql does not record itself, and nothing else"):
        freeze(released)
    assert [release.version for release in releases(released)] != [NEXT]
