"""The SQL printed by `clerk-supabase token` acts as the bearer of the token."""

from __future__ import annotations

import pytest

from clerk_supabase.tokens.claims import legacy_claims, session_claims
from clerk_supabase.tokens.verifiers import taken_apart
from clerk_supabase_cli.operate.setup.token_report import sql
from clerk_supabase_cli.standin.token_mint import Mint, legacy_token
from tests.kit.databases import Connection
from tests.kit.tokens import KEY

MINT = Mint(KEY)
HOSTILE = "'; drop table clerk.users; -- \\' $$ \u2028 \x1b"


@pytest.mark.parametrize("version", ["1", "2", "legacy"])
def test_the_printed_sql_runs_as_the_user_of_the_token(admin: Connection, version: str) -> None:
    if version == "legacy":
        claims = legacy_claims(taken_apart(legacy_token("user_2Ada", name=HOSTILE)).payload)
    else:
        token = MINT.session("user_2Ada", version=int(version), name=HOSTILE)
        claims = session_claims(taken_apart(token).payload)
    *statements, rollback = sql(claims)
    assert (statements[0], rollback) == ("begin;", "rollback;")
    admin.execute("insert into clerk.users (clerk_id) values ('user_2Ada'), ('user_2Bob')")
    for statement in statements:
        # Read from a terminal, as pasted.
        admin.execute(statement.encode())
    assert admin.execute("select clerk_id from clerk.users").fetchall() == [("user_2Ada",)]
    [(name,)] = admin.execute("select auth.jwt() ->> 'name'").fetchall()
    assert name == HOSTILE
    admin.execute(rollback.encode())
    assert admin.execute("select count(*) from clerk.users").fetchone() == (2,)
