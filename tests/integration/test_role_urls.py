"""The connections of functions when `dev` is given a database: their own roles, and passwords that stay known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from clerk_supabase_cli.local.dev.held_logins import held_logins
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.deployment.logins import RoleInUse, new_login
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.operate.setup.role_urls import (
    SESSION_ROLE,
    WORKER_ROLE,
    RolesUnusable,
    as_role,
    give_password,
    urls_of_roles,
)
from tests.kit.databases import Database

ROLES = {WORKER_ROLE, SESSION_ROLE}
NOT_GIVEN = (None, None)
PASSWORDS = "select rolname, rolpassword from pg_authid where rolname = any(%s)"


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings={"log_statement": "all"}) as server:
        yield server


@pytest.fixture(scope="module")
def migrated(postgres: EmbeddedPostgres, root: Path) -> str:
    url = f"{postgres.url()}?sslmode=disable"
    prepare_plain_postgres(url, root)
    assert list(migrate(url, root))
    return url


@pytest.fixture
def owner(migrated: str) -> Iterator[str]:
    """The owner's URL of a database whose roles nobody uses."""
    yield migrated
    with psycopg.connect(migrated) as database:
        for role in ROLES:
            database.execute(f"alter role {role} password null".encode())


def passwords(owner: str) -> dict[str, str | None]:
    with psycopg.connect(owner) as database:
        return dict(database.execute(PASSWORDS, [list(ROLES)]).fetchall())


def user_of(url: str) -> str:
    with psycopg.connect(url) as database:
        row = database.execute("select session_user").fetchone()
        assert row is not None
        return str(row[0])


def set_password(owner: str, role: str) -> str:
    with psycopg.connect(owner) as database:
        return as_role(owner, role, give_password(database, role))


def test_roles_without_a_password_get_one_for_as_long_as_it_is_needed(owner: str) -> None:
    with urls_of_roles(owner, NOT_GIVEN, reset=False) as urls:
        assert (user_of(urls.worker), user_of(urls.session)) == (WORKER_ROLE, SESSION_ROLE)
        assert all(passwords(owner).values())
    assert passwords(owner) == dict.fromkeys(ROLES)
    for url in (urls.worker, urls.session):
        with pytest.raises(psycopg.OperationalError):
            user_of(url)


def test_the_roles_lose_their_passwords_also_after_a_failure(owner: str) -> None:
    with pytest.raises(KeyboardInterrupt), urls_of_roles(owner, NOT_GIVEN, reset=False):
        raise KeyboardInterrupt
    assert passwords(owner) == dict.fromkeys(ROLES)


def test_no_password_reaches_the_log_of_the_server(owner: str, postgres: EmbeddedPostgres) -> None:
    with urls_of_roles(owner, NOT_GIVEN, reset=False) as urls:
        log = postgres.log.read_text()
        assert "alter role" in log
        for url in (urls.worker, urls.session):
            assert str(conninfo_to_dict(url)["password"]) not in log


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_that_has_a_password_keeps_it(owner: str, role: str) -> None:
    url = set_password(owner, role)
    with (
        pytest.raises(RolesUnusable, match="with which a deployed stack connects: set SYNC_DATABASE_URL"),
        urls_of_roles(owner, NOT_GIVEN, reset=False),
    ):
        pass
    assert user_of(url) == role


def test_an_owner_who_cannot_know_whether_they_have_one_is_asked(owner: str, postgres: EmbeddedPostgres) -> None:
    """On Supabase, the owner is no superuser."""
    with psycopg.connect(owner) as database:
        database.execute("create role plain_owner login createrole password 'plain'")
        for role in ROLES:
            database.execute(f"grant {role} to plain_owner with admin option".encode())
    plain = f"{postgres.url(user='plain_owner', password='plain')}?sslmode=disable"
    with (
        pytest.raises(RolesUnusable, match="--reset-role-passwords"),
        urls_of_roles(plain, NOT_GIVEN, reset=False),
    ):
        pass
    with urls_of_roles(plain, NOT_GIVEN, reset=True) as urls:
        assert (user_of(urls.worker), user_of(urls.session)) == (WORKER_ROLE, SESSION_ROLE)
    assert passwords(owner) == dict.fromkeys(ROLES)


def test_behind_the_pooler_of_supabase_the_roles_are_named_with_the_project(
    owner: str, postgres: EmbeddedPostgres
) -> None:
    """After a login by that name, the user is `postgres`, as with the pooler."""
    with psycopg.connect(owner) as database:
        database.execute("create role \"postgres.abcd\" superuser login password 'of the owner'")
        database.execute('alter role "postgres.abcd" set role postgres')
    pooled = f"{postgres.url(user='postgres.abcd', password='of the owner')}?sslmode=disable"
    with urls_of_roles(pooled, NOT_GIVEN, reset=False) as urls:
        users = [conninfo_to_dict(url)["user"] for url in (urls.worker, urls.session)]
        assert users == [f"{WORKER_ROLE}.abcd", f"{SESSION_ROLE}.abcd"]


def test_the_option_to_reset_sets_new_passwords(owner: str) -> None:
    former = set_password(owner, WORKER_ROLE)
    with urls_of_roles(owner, NOT_GIVEN, reset=True) as urls:
        assert user_of(urls.worker) == WORKER_ROLE
        with pytest.raises(psycopg.OperationalError):
            user_of(former)


def test_urls_that_were_given_are_used_as_they_are(owner: str) -> None:
    mine = tuple(set_password(owner, role) for role in (WORKER_ROLE, SESSION_ROLE))
    before = passwords(owner)
    with urls_of_roles(owner, mine, reset=False) as urls:
        assert (urls.worker, urls.session) == mine
    assert passwords(owner) == before


@pytest.mark.parametrize("missing", [0, 1])
def test_one_url_without_the_other_is_refused(owner: str, missing: int) -> None:
    mine: list[str | None] = [set_password(owner, role) for role in (WORKER_ROLE, SESSION_ROLE)]
    mine[missing] = None
    with pytest.raises(RolesUnusable, match="set both or neither"), urls_of_roles(owner, mine, reset=False):
        pass


def test_the_owner_and_the_wrong_role_are_refused(owner: str) -> None:
    worker, session = (set_password(owner, role) for role in (WORKER_ROLE, SESSION_ROLE))
    for mine, variable in (
        ((owner, session), "SYNC_DATABASE_URL"),
        ((worker, owner), "SESSION_DATABASE_URL"),
        ((session, worker), "SYNC_DATABASE_URL"),
    ):
        with pytest.raises(RolesUnusable, match=f"{variable} connects as another role"):
            urls_of_roles(owner, mine, reset=False).__enter__()


def test_urls_of_another_database_are_refused(owner: str, postgres: EmbeddedPostgres, root: Path) -> None:
    elsewhere = postgres.create_database("elsewhere")
    worker, session = (set_password(owner, role) for role in (WORKER_ROLE, SESSION_ROLE))
    with (
        pytest.raises(RolesUnusable, match="SYNC_DATABASE_URL is of another database than --database-url"),
        urls_of_roles(elsewhere, (worker, session), reset=False),
    ):
        pass


# Connection strings

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


@given(WORDS, WORDS, WORDS, st.sampled_from(["db.test", "[::1]"]))
def test_the_url_of_a_role_holds_neither_name_nor_password_of_the_owner(
    owner: str, password: str, database: str, host: str
) -> None:
    place = f"@{host}:6543/{quote(database, '')}?sslmode=require"
    before = f"postgresql://{quote(owner, '')}:{quote(password, '')}{place}"
    assert as_role(before, "clerk_sync_worker.ref", "p@ss/w:rd%") == (
        f"postgresql://clerk_sync_worker.ref:p%40ss%2Fw%3Ard%25{place}"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://o:p@h/d", "postgresql://u:p2@h:5432/d"),
        ("postgres://o:p@h:6543/d?sslmode=require", "postgresql://u:p2@h:6543/d?sslmode=require"),
        ("postgresql://o:p@[::1]:5432/d", "postgresql://u:p2@[::1]:5432/d"),
        ("postgresql://o:p@h/d?sslrootcert=/a%20b/ca.crt", "postgresql://u:p2@h:5432/d?sslrootcert=%2Fa%20b%2Fca.crt"),
    ],
)
def test_a_connection_string_becomes_one_of_the_role(url: str, expected: str) -> None:
    assert as_role(url, "u", "p2") == expected


@pytest.mark.parametrize("role", [WORKER_ROLE, SESSION_ROLE])
def test_deploy_gives_no_new_password_to_a_role_of_a_running_dev_whose_functions_have_no_session_now(
    role: str, database: Database
) -> None:
    with held_logins(database.worker_url, database.session_url), pytest.raises(RoleInUse, match="another stack"):
        new_login(database.url, role, even_if_in_use=False)
