"""A person in the database: finds all data about the person, and empties it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.mirror import mirror_schema

Verdict = Literal["own", "part", "ids", "others"]
"""own: the whole row is the person's; part: some values of the row are the person's; ids: the row holds ids and times
only, which stay; others: the row is another person's, and Clerk holds the same data."""

PurgeBy = Literal["scrub", "delete"]

# A round empties all present data; the next round, data that arrived meanwhile.
_MOST_ROUNDS: Final = 20
_MOST_ATTEMPTS: Final = 5

_IDENTIFIERS: Final = "select clerk_sync.identifiers_of(%s)"
_UNVERIFIED: LiteralString = """
    select array(
        select distinct lower(value #>> '{{}}')
        from {users} as u
        cross join unnest(
            array[
                '$.email_addresses[*] ? (@.verified == false).email_address',
                '$.external_accounts[*] ? (@.verified == false).email_address',
                '$.enterprise_accounts[*] ? (@.verified == false).email_address'
            ]::jsonpath[]
        ) as place
        cross join lateral jsonb_path_query(to_jsonb(u), place) as value
        where u.clerk_id = any(%s) and value #>> '{{}}' <> ''
        order by 1
    )
"""
_OTHERS: Final = "select clerk_sync.words_of_others(%s, %s)"
_HELD: Final = (
    "select place, kind, id, verdict, content from clerk_sync.find_person(%s, %s) order by place, kind, id, row_at"
)
_FORGET: Final = "select clerk_sync.forget(%s::jsonb)"
_APPS_ROWS: Final = "select place, column_name, row_count from clerk_sync.apps_rows(%s)"
_IS_DELETED: Final = "select deleted_at is not null from clerk_sync.entities where kind = 'user' and id = %s"
_MENTIONS: Final = "select clerk_sync.words_of(clerk_sync.readable(%s)::text) && %s"


class NotForgotten(Failure):
    """The person is not forgotten, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person, by the ids of their users and by their addresses, phone numbers and wallets in lower case."""

    users: tuple[str, ...]
    words: tuple[str, ...]
    others: Mapping[str, str]
    """Words left out of the search because another user has them in Clerk: the user by the word."""
    unverified: tuple[str, ...]
    """Addresses left out of the search because they are unverified, and may be another person's."""


@dataclass(frozen=True, slots=True)
class Held:
    """A row with data about the person. `kind` and `id`: the Clerk object of the row."""

    place: str
    kind: str | None
    id: str | None
    verdict: Verdict
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AppsRows:
    """Number of the app's rows whose column points to the person's users."""

    place: str
    column_name: str
    row_count: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Numbers of emptied rows, by table, and of rows that could not be deleted, by the refusing constraint."""

    emptied: Mapping[str, int]
    refused: Mapping[str, int]


def find_person(connection: Connection, user_id: str | None, addresses: Sequence[str]) -> Person:
    """The person with this user and these addresses, and all other verified addresses of the user."""
    users = [user_id] if user_id else []
    with _patient(connection):
        [(known,)] = connection.execute(_IDENTIFIERS, [users]).fetchall()
        words = sorted({*known, *(address.lower() for address in addresses)})
        [(others,)] = connection.execute(_OTHERS, [users, words]).fetchall()
        table = sql.Identifier(mirror_schema(connection), "users")
        [(unverified,)] = connection.execute(sql.SQL(_UNVERIFIED).format(users=table), [users]).fetchall()
    looked_for = tuple(word for word in words if word not in others)
    return Person(tuple(users), looked_for, others, tuple(each for each in unverified if each not in words))


def held(connection: Connection, person: Person) -> list[Held]:
    """Every row with data about the person, table by table."""
    with _patient(connection), connection.cursor(row_factory=class_row(Held)) as cursor:
        return cursor.execute(_HELD, [list(person.users), list(person.words)]).fetchall()


def apps_rows(connection: Connection, person: Person) -> list[AppsRows]:
    """Counts the app's rows that point to the person's users."""
    with _patient(connection), connection.cursor(row_factory=class_row(AppsRows)) as cursor:
        return cursor.execute(_APPS_ROWS, [list(person.users)]).fetchall()


def counts(rows: Sequence[Held], *verdicts: Verdict) -> dict[str, int]:
    """Counts the rows with one of these verdicts, by table."""
    return dict(Counter(each.place for each in rows if each.verdict in verdicts))


def check_deleted(connection: Connection, user_id: str) -> None:
    """Raises NotForgotten unless the delete of the user has arrived."""
    known = connection.execute(_IS_DELETED, [user_id]).fetchall()
    if known == [(True,)]:
        return
    state = "is not deleted" if known else "is not known"
    raise NotForgotten(
        f"{user_id} {state} here, and Clerk would send the data again: delete the user in Clerk first; "
        f"if that was done and its event was lost: clerk-supabase resync {user_id}"
    )


def check_only_invited(person: Person, addresses: Sequence[str], rows: Sequence[Held]) -> None:
    """Raises NotForgotten if an address belongs to another user: the user is to be forgotten instead."""
    for address in addresses:
        if owner := person.others.get(address.lower()):
            raise NotForgotten(
                f"{address} is an address of {owner}: delete the user in Clerk, then: clerk-supabase forget {owner}"
            )
    if not person.users and (owners := [each.id for each in rows if each.place.endswith(".users")]):
        raise NotForgotten(f"a deleted user has this address: clerk-supabase forget {owners[0]}")


def forget(connection: Connection, person: Person, *, purge_by: PurgeBy, erased_by: str) -> Forgotten:
    """Empties all data about the person, until nothing is found. Harmless to repeat and to interrupt.

    Raises NotForgotten if there is no end: data keeps arriving, or other transactions hold locks.
    """
    emptied: Counter[str] = Counter()
    refused: dict[str, int] = {}
    words: Sequence[str] = person.words
    for _ in range(_MOST_ROUNDS):
        request = {"users": person.users, "words": words, "purge_by": purge_by, "erased_by": erased_by}
        answer = _forget_once(connection, json.dumps(request))
        if not answer["emptied"]:
            return Forgotten(dict(emptied), refused)
        words = answer["words"]
        emptied.update(answer["emptied"])
        refused |= answer["refused"]
    raise NotForgotten(f"something is left in {', '.join(answer['emptied'])} after {_MOST_ROUNDS} rounds")


def mentions(connection: Connection, person: Person, body: bytes) -> bool:
    """Tells whether the body of an event names the person, by the rule for parked bodies."""
    names = [*person.words, *(user.lower() for user in person.users)]
    [(is_named,)] = connection.execute(_MENTIONS, [body, names]).fetchall()
    return bool(is_named)


def _forget_once(connection: Connection, request: str) -> dict[str, Any]:
    """Runs a round in a single transaction; retries after a conflict with another transaction."""
    for attempts_left in reversed(range(_MOST_ATTEMPTS)):
        try:
            with _patient(connection):
                [(answer,)] = connection.execute(_FORGET, [request]).fetchall()
            return dict(answer)
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise NotForgotten(f"{error.diag.message_primary}; the delete was undone meanwhile") from error
        except (
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
            psycopg.errors.LockNotAvailable,
        ) as error:
            if not attempts_left:
                raise NotForgotten(f"{error.diag.message_primary}; run the command again") from error
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    """A transaction without a limit on its statements: reading every table takes longer than a request may."""
    with connection.transaction():
        connection.execute("set local statement_timeout = 0")
        yield
