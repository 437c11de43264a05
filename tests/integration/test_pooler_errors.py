"""Refused logins of Supavisor are told apart: an outage that passes, or a connection string to correct."""

from __future__ import annotations

from contextlib import closing

import pytest
from click.testing import CliRunner

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import DatabaseUnavailable, Retryable, SetUpWrong
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.main import commands
from tests.kit.doctoring import Doctor
from tests.kit.refusing_pooler import refusing

STORE_ANEW = "store the secret again"

REFUSALS = [
    ("(ENOTFOUND) tenant/user S3cret.abcd not found", SetUpWrong, "ROLE.PROJECT", "compare the project"),
    ("(ENOIDENTIFIER) no tenant identifier provided", SetUpWrong, "ROLE.PROJECT", STORE_ANEW),
    ("(EMAXCONNSESSION) max clients reached, S3cret", DatabaseUnavailable, "port 6543", "leave the connection string"),
    ("(EMAXCONN) max client connections: S3cret", DatabaseUnavailable, "SyncMaximum", "leave the connection string"),
    ("(ECIRCUITBREAKER) too many S3cret", DatabaseUnavailable, "an old password", "leave the connection string"),
]


def url(port: int) -> str:
    return f"postgresql://S3cret.abcd:S3cretPw@127.0.0.1:{port}/postgres?sslmode=disable"


@pytest.mark.parametrize(("message", "error", "said", "todo"), REFUSALS)
def test_a_function_distinguishes_an_outage_of_the_pooler_from_a_wrong_connection_string(
    message: str, error: type[Retryable], said: str, todo: str
) -> None:
    with (
        refusing(message) as port,
        closing(Store(Fixed(url(port)))) as store,
        pytest.raises(error, match=said) as caught,
    ):
        store.check()
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize(("message", "error", "said", "todo"), REFUSALS)
def test_doctor_and_status_say_what_to_do_and_quote_nothing(
    message: str, error: type[Retryable], said: str, todo: str
) -> None:
    with refusing(message) as port:
        verdict, words = Doctor({"SYNC_DATABASE_URL": url(port), "DATABASE_URL": url(port)}).verdict("worker-login")
        status = CliRunner().invoke(commands, ["status"], env={"DATABASE_URL": url(port)})
        database = Doctor({"DATABASE_URL": url(port)}).verdict("database")
    assert verdict == "fail"
    assert said in words
    assert todo in words
    for text in (status.output, database[1]):
        assert said in text
        assert STORE_ANEW not in text
        assert "compare host and port" not in text
    assert "S3cret" not in words + status.output + database[1]
