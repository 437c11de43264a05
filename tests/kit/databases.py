"""Migrated databases for tests, and ways to look at them."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, LiteralString
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.local.postgres import SUPERUSER, EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from tests.kit.kept_sessions import KeptSessions

WORKER = "clerk_sync_worker"
SESSION = "clerk_sync_session"

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]


_END_SESSIONS: Final = sql.SQL("select pg_terminate_backend(pid) from pg_stat_activity where datname = {}")
_END_OTHER_SESSIONS: Final = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where datname = current_database() and pid not in (pg_backend_pid(), %s)"
)


# Without autovacuum, deleted rows stay in the tables, and every scan of a later test would pass them.
_MOST_DEAD_ROWS: Final = 2_000


@dataclass(frozen=True)
class Database:
    """A database with all migrations applied, for one test alone."""

    server: EmbeddedPostgres
    name: str
    worker_password: str
    pooler_port: int = 0
    """The port of a pooler between workers and the server; 0: there is no pooler."""

    @property
    def url(self) -> str:
        """As superuser."""
        return self.server.url(self.name)

    @property
    def worker_url(self) -> str:
        """As the role the sync function logs in with. The embedded server speaks no TLS."""
        return self._url_of(WORKER)

    @property
    def session_url(self) -> str:
        """As the role the session function logs in with."""
        return self._url_of(SESSION)

    def connect(self) -> Connection:
        """As superuser; every statement is a transaction of its own."""
        return psycopg.connect(self.url, autocommit=True)

    def worker_url_with(self, **settings: str) -> str:
        """The worker's URL with server settings of its own, such as statement_timeout."""
        options = "%20".join(f"-c%20{name}%3D{value}" for name, value in settings.items())
        return f"{self.worker_url}&options={options}"

    def _url_of(self, role: str) -> str:
        url = f"{self.server.url(self.name, role, self.worker_password)}?sslmode=disable"
        return at_port(url, self.pooler_port) if self.pooler_port else url


class Databases:
    """Migrated databases of one server.

    A copy takes longer than most tests. So a returned database is emptied and used again, unless the test changed more
    than rows or wrote very many: then the database is dropped.
    """

    _connection: Connection | None = None

    def __init__(self, server: EmbeddedPostgres, root: Path) -> None:
        self.server = server
        self.worker_password = secrets.token_urlsafe(16)
        self.pooler_port = 0
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._free: list[Database] = []
        self._caretakers: dict[str, Connection] = {}
        self._workers = KeptSessions()
        self._set_password(SUPERUSER, server.password)
        self._template = self.create()
        url = server.url(self._template)
        prepare_plain_postgres(url, root)
        assert list(migrate(url, root))
        self.set_worker_password(self.worker_password)
        self._set_password(SESSION, self.worker_password)
        with psycopg.connect(url) as connection:
            self._as_migrated = _everything_but_rows(connection)

    def take(self, *, with_session: bool = False) -> Database:
        """A migrated database without a row. *with_session*: of a worker, from an earlier test, if there is one."""
        kept = [bool(self._workers.process(database.name)) for database in self._free]
        if with_session and self._free:
            return self._free.pop(kept.index(True) if True in kept else -1)
        if False in kept:
            return self._free.pop(kept.index(False))
        return Database(self.server, self.create(self._template), self.worker_password, self.pooler_port)

    def give_back(self, database: Database) -> None:
        """Ends the use of a database."""
        if self._made_as_new(database):
            self._free.append(database)
        else:
            self.drop(database.name)

    @contextmanager
    def worker(self, database: Database) -> Iterator[Store]:
        """A worker for one test, whose session may be that of an earlier test. A pooler keeps sessions itself."""
        if database.pooler_port:
            with closing(Store(Fixed(database.worker_url))) as store:
                yield store
        else:
            with self._workers.lent(database.name, database.worker_url) as store:
                yield store

    def copy(self, original: Database) -> Database:
        """A database with the same rows, to be dropped. Ends the sessions of the original."""
        self._dismiss(original.name)
        self._execute(_END_SESSIONS, sql.Literal(original.name))
        return replace(original, name=self.create(original.name))

    def create(self, template: str = "template1") -> str:
        """A new database's name."""
        name = next(self._names)
        # Copying files is cheaper than the default, which writes every page to the log.
        statement = sql.SQL("create database {} template {} strategy file_copy")
        self._execute(statement, sql.Identifier(name), sql.Identifier(template))
        return name

    def drop(self, name: str) -> None:
        """Removes a database and ends its sessions."""
        self._dismiss(name)
        self._execute(sql.SQL("drop database {} with (force)"), sql.Identifier(name))

    def set_worker_password(self, password: str) -> None:
        """The worker's role belongs to the whole server, so this concerns every database."""
        self._set_password(WORKER, password)

    def _set_password(self, role: str, password: str) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            statement = sql.SQL("alter role {} password {}")
            connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))

    def _execute(self, statement: sql.SQL, *names: sql.Composable) -> None:
        command = statement.format(*names)
        connection = self._kept_connection()
        try:
            connection.execute(command)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
            # A test has stopped the server meanwhile.
            self._kept_connection().execute(command)

    def _kept_connection(self) -> Connection:
        """A session of the superuser outside the databases of tests; a new one costs a third of a copy."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.server.url(), autocommit=True)
        return self._connection

    def close(self) -> None:
        """Ends the sessions that are kept open."""
        if self._connection is not None:
            self._connection.close()
        self._workers.end_all()
        for name in list(self._caretakers):
            self._dismiss(name)

    def _dismiss(self, name: str) -> None:
        self._workers.end(name)
        if caretaker := self._caretakers.pop(name, None):
            caretaker.close()

    def _made_as_new(self, database: Database) -> bool:
        try:
            # A new session would read the catalogue again, which is most of the work.
            if database.name not in self._caretakers:
                self._caretakers[database.name] = database.connect()
            caretaker = self._caretakers[database.name]
            # A worker that the test cut off may still hold locks: beside it, this could end in a deadlock, which the
            # next test would count as its own. A pooler keeps its sessions: it would have to connect again.
            if not database.pooler_port:
                caretaker.execute(_END_OTHER_SESSIONS, [self._workers.process(database.name)])
            # A database that is dropped need not be emptied, for which a new session reads much of the catalogue.
            return _everything_but_rows(caretaker) == self._as_migrated and empty(caretaker) <= _MOST_DEAD_ROWS
        except psycopg.Error:
            return False


def at_port(url: str, port: int) -> str:
    """The same URL with another port, for a proxy."""
    parts = urlsplit(url)
    credentials, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}"))


@contextmanager
def acting_as(connection: Connection, role: str, claims: Mapping[str, Any] | str | None = None) -> Iterator[None]:
    """Runs statements the way PostgREST does for a request: with the role and the claims of its token."""
    text = claims if isinstance(claims, str) or claims is None else json.dumps(claims)
    with connection.transaction():
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        if text is not None:
            connection.execute("select set_config('request.jwt.claims', %s, true)", [text])
        yield


def rows(connection: Connection, query: LiteralString, *parameters: object) -> Rows:
    """The rows of a query."""
    return connection.execute(query, parameters or None).fetchall()


def value(connection: Connection, query: LiteralString, *parameters: object) -> Any:
    """The first column of the only row a query returns."""
    [(only, *_)] = rows(connection, query, *parameters)
    return only


def tables(connection: Connection) -> dict[str, Rows]:
    """All data that must not depend on the order in which events arrived."""
    mirrored = {
        facts.table.removeprefix("organization_"): sql.SQL("select * from {} order by {}").format(
            sql.Identifier("clerk", facts.table), sql.Identifier(facts.key)
        )
        for facts in FACTS.values()
        if facts.is_in_mirror
    }
    return {
        "users_public": rows(connection, "select * from clerk.users_public order by clerk_id"),
        **{name: connection.execute(query).fetchall() for name, query in mirrored.items()},
        "private_metadata": rows(connection, "select * from clerk_sync.private_metadata order by entity_id"),
        "entities": rows(
            connection,
            """
            select kind, id, version, deleted_at, purged_at, delete_run, shown_at
            from clerk_sync.entities order by kind, id
            """,
        ),
    }


def outcomes(connection: Connection) -> dict[str, str]:
    """The outcome of each delivery."""
    return dict(rows(connection, "select svix_id, outcome from clerk_sync.deliveries"))


def empty(connection: Connection) -> int:
    """Forgets every event. Returns the number of deleted rows."""
    tables = (
        *(facts.relation("clerk") for facts in FACTS.values()),
        "clerk_sync.private_metadata",
        *("clerk_sync.audit_log", "clerk_sync.entities", "clerk_sync.deliveries", "clerk_sync.parked_events"),
        *("clerk_sync.reconcile_runs", "clerk_sync.instance", "clerk_sync.retention", "clerk_sync.hidden_by_hand"),
        *("clerk_sync.erasures", "clerk_sync.dropped_fields", "clerk_sync.not_purged", "clerk_sync.sweeps"),
        *("clerk_sync.unfed_rows", "clerk_sync.feeds", "clerk_sync.wrong_instances", "clerk_sync.unfinished_deletes"),
        "clerk_sync.altered_rows",
        *("clerk_sync.instance_switches", "clerk_sync.archived_rows", "clerk_sync.successors"),
    )
    deletes = (sql.SQL("delete from {}").format(sql.Identifier(*table.split("."))) for table in tables)
    # One message, because the way there and back, and a commit for each, would be half of what this costs.
    deleted = connection.execute(sql.SQL(";").join(deletes), prepare=False)
    count = deleted.rowcount
    while deleted.nextset():
        count += deleted.rowcount
    return count


def _everything_but_rows(connection: Connection) -> Rows:
    """A hash that changes with everything in a database except the rows of the tables that sync writes."""
    first_own_oid = 16384
    # The seed of each hash is the place. Text of kind and place together would take twice as long, for each test.
    query: LiteralString = """
        select count(*), sum(hashtextextended(was, id::bigint)) from (
            select oid::bigint as id, xmin::text as was from pg_class where oid >= %(own)s
            union all select attrelid, xmin::text from pg_attribute where attrelid >= %(own)s
            union all select oid, xmin::text from pg_attrdef
            union all select oid, xmin::text from pg_proc where oid >= %(own)s
            union all select oid, xmin::text from pg_trigger
            union all select oid, xmin::text from pg_constraint where oid >= %(own)s
            union all select oid, xmin::text from pg_policy
            union all select oid, xmin::text from pg_type where oid >= %(own)s
            union all select oid, xmin::text from pg_namespace
            union all select 0, datconnlimit::text from pg_database where datname = current_database()
            union all select setrole, setconfig::text from pg_db_role_setting
            union all select oid, xmin::text from pg_default_acl
            union all select starelid, xmin::text from pg_statistic where starelid >= %(own)s
            union all select hashtext(kind), xmin::text from clerk_sync.kinds
            union all select hashtext(name), xmin::text from clerk_sync.migrations
        ) as things
    """
    return connection.execute(query, {"own": first_own_oid}).fetchall()
