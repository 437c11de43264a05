"""A table of the app that follows the mirror's users, and everything of the app that stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.types.json import Jsonb

from clerk_supabase_cli.operate.database import Connection

if TYPE_CHECKING:
    from clerk_supabase_cli.simulator.episodes.stage import Stage

_RULES: Final = ("23514", "40001", "57014", "P0004", "slow", "skip")
_MAPPING: Final = {
    "kind": "user",
    "table": "public.fed_people",
    "key": {"clerk": "mirror.clerk_id"},
    "update": {"name": "mirror.first_name", "email": "mirror.email"},
    "on_delete": "delete",
}
# Unlike other rules of the app, these reach no table of the mirror: they park no event.
_MAKE: Final = """
create table public.fed_people (
    id uuid primary key default gen_random_uuid(), clerk text unique, name text, email text
);
create table public.fed_rules (id text primary key, rule text);
create function public.fed_fails() returns trigger language plpgsql as $$
declare
    given text := (select r.rule from public.fed_rules as r where r.id = new.clerk);
begin
    if given = 'slow' then
        perform pg_sleep(0.02);
    elsif given = 'skip' then
        return null;
    elsif given is not null then
        raise exception 'the app says no' using errcode = given;
    end if;
    return new;
end $$;
create trigger fed_fails before insert or update on public.fed_people
for each row execute function public.fed_fails();
"""
_REMOVE: Final = """
drop table public.fed_people, public.fed_rules;
drop function public.fed_fails();
"""
_PREPARE: Final = "select clerk_sync.prepare_feed(%s)"
_BEGIN: Final = """
insert into clerk_sync.feeds (feed_id, kind, target, mapping) overriding system value
values (%s, 'user', 'public.fed_people', %s) on conflict do nothing returning feed_id
"""
_FILL: Final = "select clerk_sync.fill_feed(jsonb_build_object('feed', %s::integer, 'limit', 10000))"
_RETRY: Final = """select clerk_sync.retry_unfed('{"limit": 1000, "seconds": 10}')"""
_UNFED: Final = "select u.object_id, u.code, u.reason from clerk_sync.unfed_rows as u order by u.object_id"
_SOMEBODY: Final = "select u.clerk_id from clerk.users as u order by u.clerk_id"
_OLD_HANDLER: Final = (
    "insert into public.fed_people (clerk, name) values (%s, 'Late') on conflict (clerk) do update set name = 'Late'",
    "delete from public.fed_people where clerk = %s",
)
_WRONG: Final = """
select w.id, w.action
from clerk_sync.differing_feed_{number}(array(select u.clerk_id from clerk.users as u)) as d
cross join lateral (
    select i, 'insert' from unnest(d.to_insert) as i
    union all select i, 'update' from unnest(d.to_update) as i
    union all select i, 'delete' from unnest(d.to_delete) as i
) as w (id, action)
where exists (select from clerk_sync.feeds) and not exists (
    select from clerk_sync.unfed_rows as u where u.object_id = w.id
)
"""


class FedTable:
    """The app's table, made once; a feed writes it from the step `begin` of an episode on."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._lock: Connection | None = None
        self._excused: set[str] = set()

    @classmethod
    @contextmanager
    def installed(cls, connection: Connection) -> Iterator[FedTable]:
        """Makes the table and the feed for the `with` block; no feed is on yet."""
        connection.execute(_MAKE)
        [(number,)] = connection.execute(_PREPARE, [Jsonb(_MAPPING)]).fetchall()
        connection.execute("select clerk_sync.switch_feed(%s)", [number])
        made = cls(connection, number)
        made.reset()
        yield made
        made.reset()
        connection.execute(_BEGIN, [number, Jsonb(_MAPPING)])
        connection.execute("select clerk_sync.drop_feed(%s)", [number])
        connection.execute(_REMOVE)

    def reset(self) -> None:
        """Switches the feed off, and forgets all rows and rules."""
        self.lift()
        self._excused.clear()
        self._connection.execute("delete from clerk_sync.feeds")
        self._connection.execute("delete from public.fed_people")

    def lift(self) -> None:
        """Ends the rules and the lock of the app."""
        self.unlock()
        self._connection.execute("delete from public.fed_rules")

    def unlock(self) -> None:
        """Ends the transaction that holds the lock."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    def begin(self) -> None:
        """Fills the table, and lets the table follow the mirror from now on."""
        for (feed_id,) in self._connection.execute(_BEGIN, [self._number, Jsonb(_MAPPING)]).fetchall():
            self._connection.execute(_FILL, [feed_id])

    def rule(self, object_id: str, rule: str) -> None:
        """Adds a rule for a row. No error tells the feed of a skipped row."""
        if rule == "skip":
            self._excused.add(object_id)
        self._connection.execute(
            "insert into public.fed_rules values (%s, %s) on conflict do nothing", [object_id, rule]
        )

    def lock(self, url: str, object_id: str) -> None:
        """Locks a row in a transaction left open."""
        if self._lock is None:
            self._lock = psycopg.connect(url)
            self._lock.execute("select from public.fed_people where clerk = %s for update", [object_id])

    def write_late(self, object_id: str, statement: str) -> None:
        """Writes as the old handler does. A lock may stop the handler, too."""
        self._excused.add(object_id)
        try:
            self._connection.execute(statement.encode(), [object_id])
        except psycopg.Error:
            return

    def wrong_now(self) -> Iterator[str]:
        """Rows that differ from the mirror and are not unfed, except rows whose difference only a comparison finds."""
        yield from (what for object_id, what in self._differing() if object_id not in self._excused)

    def wrong_at_rest(self) -> Iterator[str]:
        """Rows that differ from the mirror or are unfed, after a comparison and a retry with nothing in the way."""
        self._connection.execute(_RETRY)
        yield from (f"at rest, {what}" for _, what in self._differing())
        for object_id, code, reason in self._connection.execute(_UNFED):
            yield f"at rest, the app's row of {object_id} is unfed ({code}: {reason}), though nothing is in its way"

    def _differing(self) -> Iterator[tuple[str, str]]:
        statement = _WRONG.format(number=self._number)
        for object_id, action in self._connection.execute(statement.encode()):
            yield object_id, f"the app's row of {object_id} differs from the mirror ({action}), and is not unfed"


def begin(stage: Stage, _: Random) -> None:
    """The app's table follows the mirror from now on."""
    stage.theatre.fed.begin()


def fails(stage: Stage, chance: Random) -> None:
    """The app's table fails, delays or skips some rows."""
    begin(stage, chance)
    for object_id in _some(stage, chance):
        stage.theatre.fed.rule(object_id, chance.choice(_RULES))


def locks(stage: Stage, chance: Random) -> None:
    """A transaction of the app locks a row of its table."""
    begin(stage, chance)
    for object_id in _some(stage, chance)[:1]:
        stage.theatre.fed.lock(stage.theatre.url, object_id)


def writes_late(stage: Stage, chance: Random) -> None:
    """The pasted handler of before writes and deletes rows."""
    for object_id in _some(stage, chance):
        stage.theatre.fed.write_late(object_id, chance.choice(_OLD_HANDLER))


def _some(stage: Stage, chance: Random) -> list[str]:
    found = [object_id for (object_id,) in stage.admin.execute(_SOMEBODY)]
    return chance.sample(found, min(3, len(found)))
