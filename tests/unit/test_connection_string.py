"""Connection strings are parsed before libpq sees them; messages name the fault and quote nothing."""

from __future__ import annotations

import subprocess
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from clerk_supabase.errors import DatabaseUnavailable, Retryable, SetUpWrong
from clerk_supabase.postgres import connection_string
from clerk_supabase.postgres.connection_string import HOW_TO_ENCODE, ConnectionString, parse
from clerk_supabase.postgres.failures import failure

SUPABASE = "postgresql://clerk_sync_worker.abcd:S3cretPw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
WHERE = "secret arn:aws:secretsmanager:eu-central-1:1:secret:db"


def refused(text: str) -> str:
    """The words of the error about a string; no part of the string may stand in the error or its chain."""
    with pytest.raises(SetUpWrong) as caught:
        parse(text, WHERE)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    words = "".join(traceback.format_exception(caught.value))
    assert "S3cret" not in words
    assert "Pw" not in words
    assert WHERE in words
    return str(caught.value)


def test_connection_strings_as_supabase_shows_them_are_split_into_parts() -> None:
    found = parse(SUPABASE, WHERE)
    assert found == ConnectionString(
        "clerk_sync_worker.abcd", "S3cretPw", "aws-0-eu-central-1.pooler.supabase.com", "6543", "postgres"
    )
    assert found.role == "clerk_sync_worker"
    assert found.keywords() == conninfo_to_dict(SUPABASE)


def test_a_connection_string_shows_none_of_its_parts_when_it_is_printed() -> None:
    assert repr(parse(SUPABASE, WHERE)) == str(parse(SUPABASE, WHERE)) == "ConnectionString(...)"


@pytest.mark.parametrize(
    "good",
    [
        "postgres://u:p@h/d",
        "postgresql://u:p@127.0.0.1:5432/d",
        "postgresql://u:p@[::1]:5432/d",
        "postgresql://u:p@[2001:db8::1]/d",
        "postgresql://u:p:q@h/d",
        "postgresql://u:!$&'()*+,;=-._~^|{}\\@h/d",
        "postgresql://u:%40%2F%23%3F%25%3A%20%C3%A4@h/d",
        "postgresql://u:p@h/d?sslmode=require&options=-c%20lock_timeout%3D20",
        "postgresql://u:p@h/d?sslrootcert=/opt/ca/supabase.crt&application_name=mine",
        "postgresql://u:p@h/d?sslrootcert=%2Fopt%2Fca%2Fsupabase.crt",
        "postgresql://u@h/d",
    ],
)
def test_strings_that_libpq_reads_as_meant_are_read_like_libpq(good: str) -> None:
    assert {"port": "5432"} | conninfo_to_dict(good) == parse(good, WHERE).keywords()


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "\n\t{}\r\n"])
def test_blanks_and_line_breaks_around_it_do_not_count(around: str) -> None:
    assert parse(around.format(SUPABASE), WHERE) == parse(SUPABASE, WHERE)


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f\ufffd", exclude_categories=["Cs", "Cc"])))
def test_a_password_of_any_characters_arrives_when_it_is_encoded(password: str) -> None:
    if set(password) & {"\u2028", "\u2029"} or not password:
        return
    assert parse(f"postgresql://u:{quote(password, '')}@h/d", WHERE).password == password


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("", "it is empty"),
        (" \n ", "it is empty"),
        ("postgresql://u:S3cret%Pw@h/d", "write %25"),
        ("postgresql://u:S3cret%@h/d", "write %25"),
        ("postgresql://u:S3cret@Pw@h/d", "write %40"),
        ("postgresql://u:@S3cret@h/d", "write %40"),
        ("postgresql://u:S3cret/Pw@h/d", "write %2F"),
        ("postgresql://u:12/34S3cret@h/d", "write %2F"),
        ("postgresql://u:S3cret@Pw/S3cret@h/d", "write %40"),
        ("postgresql://u:S3cret#Pw@h/d", "write %23"),
        ("postgresql://u:S3cret?Pw@h/d", "write %3F"),
        ("postgresql://u:p@h/d#S3cret", "write %23"),
        ('"postgresql://u:S3cretPw@h/d"', "quotation mark"),
        ("'postgresql://u:S3cretPw@h/d'", "quotation mark"),
        ("postgresql://u:S3cretPw@h/d'", "quotation mark"),
        ("\u201cpostgresql://u:S3cretPw@h/d\u201d", "quotation mark"),
        ('{"username":"u","password":"S3cretPw","host":"h"}', "choose Plaintext"),
        ('{"SYNC_DATABASE_URL":"postgresql://u:S3cretPw@h/d"}', "choose Plaintext"),
        ("postgresql+psycopg://u:S3cretPw@h/d", "names a driver"),
        ("jdbc:postgresql://h/d?user=u&password=S3cretPw", "names a driver"),
        ("PostgreSQL://u:S3cretPw@h/d", "capitals"),
        ("psql postgresql://u:S3cretPw@h/d", "something stands before"),
        ("DATABASE_URL=postgresql://u:S3cretPw@h/d", "something stands before"),
        ("export X='postgresql://u:S3cretPw@h/d'", "something stands before"),
        ("host=h user=u password=S3cretPw dbname=d", "keyword=value"),
        ("S3cret=1", "keyword=value"),
        ("S3cret at home", "does not begin with postgresql://"),
        ("https://u:S3cretPw@h/d", "does not begin with postgresql://"),
        ("mysql://u:S3cretPw@h/d", "does not begin with postgresql://"),
        ("postgresql://u:p@h/d?pgbouncer=true", "no parameter pgbouncer: remove it"),
        ("postgresql://u:p@h/d?sslmode=require&connection_limit=1", "no parameter connection_limit: remove it"),
        ("postgresql://u:p@h/d?S3cretPw=true", "a parameter after the ? is unknown"),
        ("postgresql://u:p@h/d?S3cretPw", "name=value"),
        ("postgresql://u:p@h/d?sslmode=require&sslmode=disable", "each name once"),
        ("postgresql://u:p@h/d?sslmode=S3cretPw", "parameter sslmode has a value"),
        ("postgresql://u:p@h/d?connect_timeout=S3cretPw", "parameter connect_timeout has a value"),
        ("postgresql://u:p@h/d?host=S3cretPw", "stand after the ?"),
        ("postgresql://u:p@h/d?hostaddr=S3cretPw", "stand after the ?"),
        ("postgresql://u:p@h/d?password=S3cretPw", "stand after the ?"),
        ("postgresql://h/d?user=u&password=S3cretPw", "no @"),
        ("postgresql://u:[YOUR-PASSWORD]@h/d", "placeholder"),
        ("postgresql://u:[PASSWORD]@h/d", "placeholder"),
        ("postgresql://u:[S3cretPw]@h/d", "placeholder"),
        ("postgresql://u:YOUR_PASSWORD@h/d", "placeholder"),
        ("postgresql://u.<project>:S3cretPw@h/d", "placeholder"),
        ("postgresql://u:${S3cretPw}@h/d", "placeholder"),
        ("postgresql://u:S3cretPw@[h/d", "bracket"),
        ("postgresql://:S3cretPw@h/d", "no user"),
        ("postgresql://u:@h/d", "password is empty"),
        ("postgresql://S3cretPw", "no @"),
        ("postgresql://u:S3cretPw@", "no host"),
        ("postgresql://u:S3cretPw@/d", "no host"),
        ("postgresql://u:S3cretPw@:5432/d", "no host"),
        ("postgresql:///d?host=/tmp", "no @"),
        ("postgresql://u:p@%2Ftmp%2FS3cretPw/d", "its host is not a name"),
        ("postgresql://u:p@-S3cret-/d", "its host is not a name"),
        ("postgresql://u:p@h1,h2/d", "several hosts"),
        ("postgresql://u:p@h1:1,h2:2/d", "several hosts"),
        ("postgresql://u:p@h:S3cret/d", "1 to 65535"),
        ("postgresql://u:p@h:/d", "1 to 65535"),
        ("postgresql://u:p@h:0/d", "1 to 65535"),
        ("postgresql://u:p@h:65536/d", "1 to 65535"),
        ("postgresql://u:p@h:6543", "names no database"),
        ("postgresql://u:p@h/?sslmode=require", "names no database"),
        ("postgresql://u:p@h/S3cret/d", "after the name of the database"),
        ("postgresql://u:p@h/S3cret:6543", "after the name of the database"),
        ("postgresql://u:S3cret Pw@h/d", "a blank"),
        ("postgresql://u:S3cret\nPw@h/d", "line break"),
        ("postgresql://u:S3cret\x00Pw@h/d", "control character"),
        ("postgresql://u:S3cret%00Pw@h/d", "control character"),
        ("postgresql://u:S3cretPw%0A@h/d", "line break"),
        ("postgresql://u:S3cretPw%FF@h/d", "no UTF-8"),
        ("postgresql://u:S3cretP\u00e4w@h/d", "not ASCII"),
        ("postgresql://u:S3cretPw\u00a0@h/d", "not ASCII"),
        (f"postgresql://u:{'S3cret' * 1000}@h/d", "longer than"),
    ],
)
def test_the_fault_of_a_connection_string_is_named_and_nothing_is_quoted(broken: str, said: str) -> None:
    assert said in refused(broken)


@pytest.mark.parametrize(
    "name",
    [
        # Prisma and Supabase's pages for it, SQLAlchemy and asyncpg, JDBC.
        *("pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "sslaccept", "schema", "workaround"),
        *("pool_size", "max_pool_size", "pool_mode", "statement_cache_size", "prepared_statements", "supa", "ssl"),
        *("prepareThreshold", "currentSchema", "search_path", "timezone"),
    ],
)
def test_a_parameter_of_another_program_is_named_for_it_is_no_secret(name: str) -> None:
    assert f"no parameter {name}: remove it" in refused(f"postgresql://u:p@h/d?{name}=1")


def test_a_slash_and_an_at_sign_in_a_password_are_both_named_one_after_the_other() -> None:
    assert "write %2F" in refused("postgresql://u:S3cret/P@w@h/d")
    assert "write %40" in refused("postgresql://u:S3cret%2FP@w@h/d")


def test_the_command_that_encodes_a_password_works_and_is_that_of_the_guide(root: Path) -> None:
    assert HOW_TO_ENCODE in refused("postgresql://u:S3cret@Pw@h/d")
    command = HOW_TO_ENCODE.removeprefix("encode it: ")
    for document in ("deploy.md", "runbook.md"):
        assert f"\n{command}\n" in (root / "docs" / document).read_text(encoding="utf-8")
    password = "S3cret @/#?%:[Pw]+\u00e4"
    # Without a terminal getpass reads standard input, and warns.
    typed = subprocess.run(["sh", "-c", command], input=f"{password}\n", capture_output=True, text=True, check=True)
    encoded = typed.stdout.strip().rpartition(" ")[2]
    assert parse(f"postgresql://u:{encoded}@h/d", WHERE).password == password


def test_every_parameter_that_is_taken_is_one_of_libpqs() -> None:
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    assert set(connection_string._PARAMETERS) <= known
    assert not set(connection_string._OF_OTHER_PROGRAMS) & known


# Messages of libpq, poolers and servers about a refused login


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ('FATAL:  password authentication failed for user "S3cret"', SetUpWrong, "not percent-encoded"),
        ('FATAL:  role "S3cret" does not exist', SetUpWrong, "no such role or database"),
        ('FATAL:  database "S3cret@h/d" does not exist', SetUpWrong, "no such role or database"),
        ('no pg_hba.conf entry for host "1.2.3.4", user "S3cret", database "d"', SetUpWrong, "pg_hba.conf"),
        ("fe_sendauth: no password supplied", SetUpWrong, "names no password"),
        ("FATAL:  Tenant or user not found", SetUpWrong, "ROLE.PROJECT"),
        ("FATAL:  (ENOTFOUND) tenant/user S3cret.abcd not found", SetUpWrong, "ROLE.PROJECT"),
        ("FATAL:  (ENOIDENTIFIER) no tenant identifier provided", SetUpWrong, "ROLE.PROJECT"),
        ("FATAL:  (ENOTFOUND) tenant/user (EMAXCONN).(ECIRCUITBREAKER) not found", SetUpWrong, "(ENOTFOUND)"),
        ("FATAL:  (ESSLREQUIRED) SSL connection is required for user: S3cret", SetUpWrong, "demands TLS"),
        ("FATAL:  (EADDRNOTALLOWED) address not in tenant allow_list", SetUpWrong, "Network Restrictions"),
        ("FATAL:  (EBANNED) tenant is banned: S3cret", SetUpWrong, "has suspended"),
        ("FATAL:  (EMAXCONNSESSION) max clients reached for S3cret", DatabaseUnavailable, "transaction mode"),
        ("FATAL:  (EMAXCONN) max client connections reached", DatabaseUnavailable, "SyncMaximumConcurrency"),
        ("FATAL:  (ECIRCUITBREAKER) too many authentication failures", DatabaseUnavailable, "an old password"),
        ("(ECHECKOUTTIMEOUT) unable to check out S3cret after 60000ms", DatabaseUnavailable, "no connection to give"),
        ("FATAL:  (ESUBSCRIBERETRIES) failed to subscribe to S3cret", DatabaseUnavailable, "Pooler Logs"),
        ("FATAL:  (ESTHRCRET) S3cret", DatabaseUnavailable, "Pooler Logs"),
        ('FATAL:  database "(EMAXCONN)" does not exist', SetUpWrong, "no such role or database"),
        # Older versions of Supavisor, which write no code.
        ("FATAL:  MaxClientsInSessionMode: max clients reached, S3cret", DatabaseUnavailable, "transaction mode"),
        ("Unable to check out process from the pool due to timeout", DatabaseUnavailable, "no connection to give"),
        # pgbouncer, which is Supabase's dedicated pooler.
        ("FATAL:  no more connections allowed (max_client_conn)", DatabaseUnavailable, "too many connections"),
        ("FATAL:  client connections exceeded (max_db_client_conn...)", DatabaseUnavailable, "too many"),
        ("FATAL:  query_wait_timeout", DatabaseUnavailable, "no connection to give"),
        ("FATAL:  server login has been failing, try again later", DatabaseUnavailable, "the pooler cannot log in"),
        ("FATAL:  pgbouncer cannot connect to server", DatabaseUnavailable, "the pooler cannot log in"),
        ("FATAL:  no such database: S3cret", SetUpWrong, "no such role or database"),
        ("FATAL:  no such user: S3cret", SetUpWrong, "no such role or database"),
        ('too many connections for database "S3cret"', DatabaseUnavailable, "too many connections"),
        ("failed to resolve host 'S3cret@h': [Errno -2] Name or service", DatabaseUnavailable, "no address"),
        ('could not translate host name "S3cret" to address', DatabaseUnavailable, "no address"),
        ('connection to server at "S3cret" (::1), port 1 failed: Connection refused', DatabaseUnavailable, "refused"),
        ('certificate for "h" does not match host name "S3cret"', DatabaseUnavailable, "does not match host name"),
        ('root certificate file "/S3cret" does not exist', DatabaseUnavailable, "root certificate file"),
        ('invalid sslmode value: "S3cret"', DatabaseUnavailable, "not repeated"),
        ('could not parse network address "S3cret"', DatabaseUnavailable, "not repeated"),
        ('invalid percent-encoded token: "S3cret%Pw"', DatabaseUnavailable, "not repeated"),
        ('invalid connection option "S3cret"', DatabaseUnavailable, "not repeated"),
        ('invalid port number: "S3cret"', DatabaseUnavailable, "not repeated"),
        ('missing "=" after "S3cret" in connection info string', DatabaseUnavailable, "not repeated"),
        ("S3cret, in the language of the server", DatabaseUnavailable, "not repeated"),
    ],
)
def test_no_word_of_libpq_or_a_server_is_passed_on(message: str, error: type[Retryable], said: str) -> None:
    failed = failure(message)
    assert type(failed) is error
    assert said in str(failed)
    assert "S3cret" not in str(failed)
