"""A deployment during an upgrade: functions of two versions, real handlers in processes, between queues and Postgres.

The database of a release is made of the migrations that the list of the release names; sql/released keeps them from
changing. The functions of a release come from its git tag. Without the tag, as in a shallow clone, and before the first
release, the present code stands in for the release.
"""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from clerk_supabase.version import MAJOR
from clerk_supabase_cli.operate.install.migrations import (
    apply_missing,
    migrate,
    prepare_plain_postgres,
    read_migrations,
)
from clerk_supabase_cli.simulator.sqs import SimulatedQueue, SimulatedSqs, record
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign_body
from clerk_supabase_cli.standin.sample_events import sample_event, sample_names
from clerk_supabase_cli.standin.worlds import World
from tests.bench.functions import Functions, running
from tests.kit.clock import Clock
from tests.kit.databases import Connection, Database, Databases, Rows
from tests.kit.environments import environment_of
from tests.kit.kinds import OUR_TYPES
from tests.kit.released import Release, migrations_of, present

LATER_COLUMN: Final = "later"
LATER_VALUE: Final = "known to the later version"
_BEGINNING: Final = 1_750_000_000_000
_ARNS: Final = {name: f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}" for name in ("hook", "sql")}
# The time when this database heard of a delete differs from run to run.
_DIFFERS: Final = "delete_recorded_at"
_MANY: Final = 500
# Longer than five deliveries of a message, and several looks of retry.
LONG_SECONDS: Final = 1_800.0

Event = Mapping[str, Any]


def code_of(release: Release, root: Path, folder: Path) -> Path:
    """The checkout of a release: its tag, unpacked into *folder*; the checkout at *root* without the tag."""
    asked = ["git", "archive", f"refs/tags/v{release.version}", "functions", "layers"]
    done = subprocess.run(asked, cwd=root, capture_output=True, check=False)
    if done.returncode:
        return root
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def later_version(root: Path, folder: Path) -> Path:
    """A checkout of a later minor version in *folder*: the present checkout with one more mirrored column of users."""
    for name in ("functions", "layers", "sql"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    users = folder / "layers" / "shared" / "clerk_supabase" / "model" / "users.py"
    before, key, after = users.read_text(encoding="utf-8").partition('"clerk_id": self.id,\n')
    assert key
    users.write_text(f'{before}"{LATER_COLUMN}": "{LATER_VALUE}", {key}{after}', encoding="utf-8")
    last = max(present(root).migrations)
    name = f"{int(last[:4]) + 1:04}_mirror_a_later_column"
    statements = f"""
        create or replace function clerk_sync.version() returns text language sql immutable parallel safe
        set search_path = pg_catalog, pg_temp as $$select '{MAJOR}.99.0'$$;
        select clerk_sync.mirror_column('user', '{LATER_COLUMN}', 'text');
        insert into clerk_sync.migrations (name) values ('{name}');
    """  # noqa: S608 - constants of the tests
    (folder / "sql" / "migrations" / f"{name}.sql").write_text(statements, encoding="utf-8")
    return folder


def migrate_to(database: Database, root: Path, later: Path) -> None:
    """Migrates a database to the present checkout, as the command does, and then to the later one."""
    list(migrate(database.url, root))
    with psycopg.connect(database.url, autocommit=True) as connection:
        list(apply_missing(connection, read_migrations(later)))


def make_database(databases: Databases, root: Path, release: Release) -> Database:
    """A database of a release, without rows, to be dropped."""
    if release.migrations == present(root).migrations:
        original = databases.take()
        copy = databases.copy(original)
        databases.give_back(original)
        return copy
    database = Database(databases.server, databases.create(), databases.worker_password)
    prepare_plain_postgres(database.url, root)
    with psycopg.connect(database.url, autocommit=True) as connection:
        list(apply_missing(connection, migrations_of(root, release)))
    return database


def sign_ups(number: int) -> list[Event]:
    """An event for each of so many users."""
    return [_user_event(each, "user.created", _BEGINNING + each) for each in range(number)]


def events_of_every_kind(root: Path, name: str, happenings: int) -> list[Event]:
    """The events of a small world, and a sample of each event type, about objects of their own."""
    life = World(Random(name), name, odd_values=("odd",))
    life.live(happenings)
    of_samples = [sample_event(root, each) for each in sample_names(root) if each in OUR_TYPES]
    for number, event in enumerate(of_samples):
        event["data"]["id"] = f"{event['data']['id']}{name}{number}"
    return [*life.events, *of_samples]


def changes_of_users(number: int, users: int) -> list[Event]:
    """Changes of users who signed up before: edits, sign-ins, and a few deletes."""
    chance = Random(number)
    events: list[Event] = []
    for each in range(number):
        user, at = chance.randrange(users), _BEGINNING + 1_000_000 + each
        if chance.random() < 0.05:
            events.append(samples.event("user.deleted", samples.deleted("user", _user_id(user)), timestamp=at))
        else:
            events.append(_user_event(user, "user.updated", at, revision=each // 2))
    return events


def _user_event(number: int, event_type: str, at: int, revision: int = 0) -> Event:
    address = samples.email_address(f"idn_{number}", f"user{number}@example.test", at)
    user = samples.user(
        _user_id(number),
        created_at=_BEGINNING + number,
        updated_at=at,
        first_name=f"Ada {revision}",
        public_metadata={"revision": revision},
        private_metadata={"secret": number},
        email_addresses=[address],
        primary_email_address_id=f"idn_{number}",
    )
    return samples.event(event_type, user, timestamp=at)


def _user_id(number: int) -> str:
    return f"user_{number:027}"


@dataclass
class Deployment:
    """A stack and its database during an upgrade."""

    database: Database
    sqs: SimulatedSqs
    clock: Clock
    versions: Mapping[str, Functions]
    """The functions of each version; one version is live at a time."""
    secret: str
    live: str = "old"
    answers: list[int] = field(default_factory=list)
    """The status of each answer to Clerk."""
    _ids: Iterator[int] = field(default_factory=itertools.count)
    sent: list[str] = field(default_factory=list)
    """The svix id of each event."""

    @property
    def functions(self) -> Functions:
        """The live functions."""
        return self.versions[self.live]

    def fill(self, events: Sequence[Event]) -> None:
        """Lets the live sync apply events in large batches, without ingest. Fails unless all are applied."""
        received_at = str(time.time_ns() // 1_000_000)
        for start in range(0, len(events), _MANY):
            records = [
                record(str(number), _text(event), svix_id=f"msg_fill_{number}", received_at=received_at, attempts="0")
                for number, event in enumerate(events[start : start + _MANY], start)
            ]
            [answer] = self.functions.call("sync", [{"Records": records}])
            assert answer == {"batchItemFailures": []}

    def post(self, events: Iterable[Event]) -> None:
        """Posts events to the live ingest, as Svix does."""
        requests = []
        for event in events:
            self.sent.append(f"msg_sent_{next(self._ids)}")
            requests.append(api_gateway_event(sign_body(_text(event), self.secret, svix_id=self.sent[-1])))
        self.answers += [answer["statusCode"] for answer in self.functions.call("ingest", requests)]

    def lose_a_process(self) -> None:
        """Lets ten messages be received by a process that is gone before its answer, as in a deployment."""
        self.sqs.queues["sync"].receive(self.clock.now)

    def work(self, seconds: float = LONG_SECONDS) -> None:
        """Lets the live sync and retry work for some seconds of the clock of SQS."""
        self.functions.work(seconds, ("sync", "retry"))

    def problems(self, wanted: Mapping[str, Rows], columns: Mapping[str, Sequence[str]]) -> list[str]:
        """Everything that is not as it has to be: waiting, lost, parked and wrong. *wanted*: see `content`."""
        waiting = {name: len(queue.messages) for name, queue in self.sqs.queues.items() if queue.messages}
        with self.database.connect() as connection:
            [(parked,)] = connection.execute("select count(*) from clerk_sync.parked_events").fetchall()
            query = "select count(*) from clerk_sync.deliveries where svix_id = any(%s)"
            [(delivered,)] = connection.execute(query, [self.sent]).fetchall()
            found = {} if waiting else content(connection, columns)
        refused = [status for status in self.answers if status >= 400]
        wrong = [f"wrong: {name}" for name, each in found.items() if each != wanted.get(name)]
        return [
            *(f"waiting: {number} in {name}" for name, number in waiting.items()),
            *([f"parked: {parked}"] if parked else []),
            *([f"lost: {len(self.sent) - delivered}"] if delivered < len(self.sent) and not waiting else []),
            *([f"not accepted: {len(refused)}"] if refused else []),
            *wrong,
        ]


def columns_of(connection: Connection) -> dict[str, list[str]]:
    """The columns of each table of the mirror, and those of entities: both versions write these."""
    query = """
        select format('%%I.%%I', table_schema, table_name), array_agg(column_name::text order by ordinal_position)
        from information_schema.columns
        where table_schema = 'clerk' or (table_schema, table_name) in (
            ('clerk_sync', 'entities'), ('clerk_sync', 'private_metadata')
        )
        group by 1
    """
    return dict(connection.execute(query, []).fetchall())


def content(connection: Connection, columns: Mapping[str, Sequence[str]]) -> dict[str, Rows]:
    """The rows of tables with these columns. No column depends on the order or on the time of an event."""
    found = {}
    for table, names in columns.items():
        kept = sql.SQL(", ").join(_comparable(each) for each in names if each != _DIFFERS)
        query = sql.SQL("select md5(row({})::text) from {} order by 1").format(kept, sql.Identifier(*table.split(".")))
        found[table] = connection.execute(query).fetchall()
    return found


def _comparable(column: str) -> sql.Composable:
    """The expression of a column that both versions write alike: the hash of a version is over all mirrored columns."""
    if column == "version":
        return sql.SQL("(version).source_updated_at, (version).observed_at")
    return sql.Identifier(column)


@contextmanager
def deployed(database: Database, codes: Mapping[str, Path]) -> Iterator[Deployment]:
    """Starts ingest, sync and retry of each version, all with the same queues and the same database."""
    clock, secret = Clock(), generate_secret()
    sqs = SimulatedSqs(clock)
    dead = SimulatedQueue(visibility_timeout=360)
    sqs.queues |= {"dead": dead, "parked": SimulatedQueue(visibility_timeout=360)}
    sqs.queues["sync"] = SimulatedQueue(visibility_timeout=180, dead_letters=dead, max_receives=5)
    settings = environment_of(
        *("ingest", "sync", "retry"),
        WEBHOOK_SECRET_ARN=_ARNS["hook"],
        DATABASE_SECRET_ARN=_ARNS["sql"],
        SYNC_QUEUE_URL="sync",
        PARKED_QUEUE_URL="parked",
        KEEP_PRIVATE_METADATA="true",
        SESSIONS_DAYS="1",
    )
    secrets = {_ARNS["hook"]: secret, _ARNS["sql"]: database.worker_url}
    functions = {"ingest": ("", 1), "sync": ("sync", 1), "retry": ("dead", 1)}
    with ExitStack() as stack:
        versions = {
            name: stack.enter_context(
                running(code, sqs, clock, secrets=secrets, settings=settings, functions=functions)
            )
            for name, code in codes.items()
        }
        yield Deployment(database, sqs, clock, versions, secret)


def _text(event: Event) -> str:
    return msgspec.json.encode(event).decode()
