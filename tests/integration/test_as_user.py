"""The policies hold for Python code that acts as a user, and the next user of its connection is another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ChangeRefused, DatabaseNotReady, DatabaseUnavailable, NotAllowed
from clerk_supabase.postgres.store import Queries, Store
from clerk_supabase.tokens.claims import Claims
from tests.kit.databases import SESSION, Connection, Database, rows
from tests.kit.histories import alone, delete, upsert
from tests.kit.signed_in import claims_of

ADA = claims_of("user_ada")
EVE = claims_of("user_eve")


@pytest.fixture
def users(database: Database, store: Store) -> Iterator[Store]:
    """A store that may act as a user; Ada and Eve have rows."""
    store.apply(alone(upsert("user_ada"), upsert("user_eve")))
    users = Store(Fixed(database.session_url))
    yield users
    users.close()


def seen(queries: Queries) -> list[str]:
    return [clerk_id for (clerk_id,) in queries.rows("select clerk_id from clerk.users order by 1")]


def nobody_is_left_on(store: Store) -> bool:
    """Tells whether the kept connection belongs to no user, outside of any transaction."""
    connection = store._kept.connection
    assert connection is not None
    left = connection.execute(
        "select current_user = session_user, coalesce(current_setting('request.jwt.claims', true), '')"
    ).fetchone()
    return left == (True, "") and connection.info.transaction_status.name == "IDLE"


def test_queries_see_what_the_user_sees(users: Store) -> None:
    with users.as_user(ADA) as queries:
        assert seen(queries) == ["user_ada"]
        assert queries.rows("select current_user::text, clerk.requesting_user_id()") == [("authenticated", "user_ada")]


def test_users_act_as_themselves_one_after_the_other(users: Store) -> None:
    for claims in (ADA, EVE, ADA):
        with users.as_user(claims) as queries:
            assert seen(queries) == [claims.user_id]
        assert nobody_is_left_on(users)


def test_a_role_in_the_token_is_not_taken(users: Store) -> None:
    with users.as_user(claims_of("user_ada", role="service_role")) as queries:
        assert seen(queries) == ["user_ada"]


@pytest.mark.parametrize("name", ["user_\u00e4'; reset role; --", 'user_"', "user_\\"])
def test_nothing_in_a_claim_is_read_as_sql(name: str, users: Store) -> None:
    with users.as_user(claims_of("user_ada", nickname=name)) as queries:
        assert seen(queries) == ["user_ada"]
        assert queries.rows("select auth.jwt() ->> 'nickname'") == [(name,)]


def test_writes_stay_when_the_block_ends_without_an_error(users: Store, admin: Connection) -> None:
    with users.as_user(claims_of("user_new")) as queries:
        assert queries.rows("insert into clerk.users (clerk_id) values (%s)", "user_new") == []
    assert rows(admin, "select 1 from clerk.users where clerk_id = 'user_new'") == [(1,)]


def test_nothing_stays_when_the_block_raises(users: Store, admin: Connection) -> None:
    with pytest.raises(KeyError), users.as_user(claims_of("user_new")) as queries:  # noqa: PT012 - the whole block is tried
        queries.rows("insert into clerk.users (clerk_id) values ('user_new')")
        raise KeyError
    assert nobody_is_left_on(users)
    assert rows(admin, "select 1 from clerk.users where clerk_id = 'user_new'") == []


def test_a_statement_that_the_policies_forbid_fails_and_ends_the_transaction(users: Store, admin: Connection) -> None:
    with pytest.raises(NotAllowed), users.as_user(ADA) as queries:
        queries.rows("insert into clerk.users (clerk_id) values ('user_other')")
    assert nobody_is_left_on(users)
    with pytest.raises(NotAllowed), users.as_user(ADA) as queries:
        queries.rows("update clerk.users set banned = true")
    with pytest.raises(NotAllowed), users.as_user(ADA) as queries:
        queries.rows("select * from clerk_sync.entities")


def test_an_error_that_is_swallowed_does_not_pass_for_success(users: Store, admin: Connection) -> None:
    with pytest.raises(RuntimeError, match="is over"), users.as_user(claims_of("user_new")) as queries:  # noqa: PT012 - the whole block is tried
        queries.rows("insert into clerk.users (clerk_id) values ('user_new')")
        with pytest.raises(ChangeRefused):
            queries.rows("select 1 / 0")
    assert nobody_is_left_on(users)
    assert rows(admin, "select 1 from clerk.users where clerk_id = 'user_new'") == []


def test_after_an_error_nothing_else_is_asked(users: Store) -> None:
    with pytest.raises(RuntimeError, match="is over"), users.as_user(ADA) as queries:  # noqa: PT012 - the whole block is tried
        with pytest.raises(ChangeRefused):
            queries.rows("select 1 / 0")
        queries.rows("select 1")


@pytest.mark.parametrize("ending", ["commit", "rollback", "commit and chain"])
def test_a_statement_that_ends_the_transaction_is_found_out(ending: LiteralString, users: Store) -> None:
    with pytest.raises((RuntimeError, ChangeRefused, NotAllowed)), users.as_user(ADA) as queries:  # noqa: PT012 - the whole block is tried
        queries.rows(ending)
        # A statement after that acts as no user, and has no rights.
        queries.rows("select * from clerk.users")
    assert nobody_is_left_on(users)


def test_one_call_is_one_statement(users: Store) -> None:
    with pytest.raises(DatabaseNotReady, match="multiple commands"), users.as_user(ADA) as queries:
        queries.rows("reset role; select clerk_id from clerk.users")
    assert nobody_is_left_on(users)


def test_a_user_within_a_user_is_refused_and_a_twin_is_not(users: Store) -> None:
    with users.as_user(ADA) as queries:
        with pytest.raises(RuntimeError, match="twin"), users.as_user(EVE):
            pass
        with pytest.raises(RuntimeError, match="twin"):
            users.apply(alone(upsert("user_ada", version=9, banned=True)))
        twin = users.twin()
        with twin.as_user(EVE) as others:
            assert seen(others) == ["user_eve"]
        twin.close()
        assert seen(queries) == ["user_ada"]
    assert nobody_is_left_on(users)


def test_changes_are_applied_between_two_users(users: Store) -> None:
    with users.as_user(ADA) as queries:
        assert seen(queries) == ["user_ada"]
    assert users.apply(alone(delete("user_ada", at=9))) == ["deleted"]
    with users.as_user(ADA) as queries:
        assert seen(queries) == []


def test_a_connection_that_was_cut_while_idle_is_replaced(users: Store, admin: Connection) -> None:
    with users.as_user(ADA) as queries:
        [(process,)] = queries.rows("select pg_backend_pid()")
    admin.execute("select pg_terminate_backend(%s, 5000)", [process])
    with users.as_user(ADA) as queries:
        assert seen(queries) == ["user_ada"]


def test_a_connection_cut_within_the_block_ends_it_and_the_next_one_works(users: Store, admin: Connection) -> None:
    with pytest.raises(DatabaseUnavailable), users.as_user(ADA) as queries:  # noqa: PT012 - the whole block is tried
        [(process,)] = queries.rows("select pg_backend_pid()")
        admin.execute("select pg_terminate_backend(%s, 5000)", [process])
        queries.rows("select 1")
    with users.as_user(EVE) as queries:
        assert seen(queries) == ["user_eve"]


def test_without_a_database_the_block_is_not_entered() -> None:
    store = Store(Fixed("postgresql://clerk_sync_session:x@127.0.0.1:1/postgres?sslmode=disable"))
    with pytest.raises(DatabaseUnavailable), store.as_user(ADA):
        pytest.fail("nobody acts without a database")


def test_the_role_of_sync_cannot_act_as_anybody(store: Store) -> None:
    with pytest.raises(DatabaseNotReady), store.as_user(ADA):
        pytest.fail("the worker acts as a user")
    assert nobody_is_left_on(store)
    assert store.apply(alone(upsert("user_1"))) == ["created"]


def test_after_a_refusal_on_an_open_connection_users_may_act_again_once_it_is_allowed(
    users: Store, admin: Connection
) -> None:
    with users.as_user(EVE) as queries:
        assert seen(queries) == ["user_eve"]
    admin.execute(f"revoke execute on function clerk_sync.mirror_schema() from {SESSION}")
    with pytest.raises(DatabaseNotReady), users.as_user(ADA):
        pytest.fail("nobody acts without the right")
    assert nobody_is_left_on(users)
    admin.execute(f"grant execute on function clerk_sync.mirror_schema() to {SESSION}")
    with users.as_user(ADA) as queries:
        assert seen(queries) == ["user_ada"]


def test_a_pending_session_and_a_machine_act_as_no_user(users: Store) -> None:
    pending: Claims = claims_of("user_ada", sts="pending")
    with users.as_user(pending) as queries:
        assert seen(queries) == []
