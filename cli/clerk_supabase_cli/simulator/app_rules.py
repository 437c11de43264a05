"""The app in the same database: its triggers refuse, skip, alter or delay writes, and its transactions lock rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.operate.database import Connection

_TEXTS: Final[Mapping[Kind, str]] = {
    "user": "first_name",
    "membership": "role_name",
    "invitation": "role_name",
    "waitlist_entry": "email_address",
    "session": "device_type",
    "subscription": "payer_id",
    "subscription_item": "plan_name",
    "payment_attempt": "payment_id",
}
TABLES: Final[Mapping[str, tuple[str, str, str]]] = {
    kind: (facts.table, facts.key, _TEXTS.get(kind, "name")) for kind, facts in FACTS.items() if facts.is_in_mirror
}
"""By kind: table, key, and a mirrored column of text."""

REFUSALS: Final = ("23514", "23503", "P0001", "AP001")
"""SQLSTATEs of a permanent refusal: the event can never be applied."""
OBSTACLES: Final = ("40001", "57014", "55P03")
"""SQLSTATEs of a temporary failure, as in an outage."""

# The triggers read the rules from a table, so a rule is added or removed without a change of the schema.
_MAKE: Final = """
create table public.app_rules (id text, rule text, primary key (id, rule));
grant select on public.app_rules to public;
create function public.app_refuses() returns trigger language plpgsql as $$
declare
    key constant text := to_jsonb(case tg_op when 'DELETE' then old else new end) ->> tg_argv[0];
    rule text;
begin
    for rule in select r.rule from public.app_rules as r where r.id = key loop
        if rule = 'slow' then
            perform pg_sleep(0.02);
        elsif rule like 'delete %' then
            if tg_op = 'DELETE' then
                raise exception 'the app keeps its row' using errcode = substr(rule, 8);
            end if;
        elsif rule = 'skip' then
            if tg_op <> 'DELETE' then
                return null;
            end if;
        elsif rule = 'alter' then
            if tg_op <> 'DELETE' then
                new := jsonb_populate_record(new, jsonb_build_object(tg_argv[1], 'Altered'));
            end if;
        elsif rule <> 'rewrite' and tg_op <> 'DELETE' then
            raise exception 'the app says no' using errcode = rule;
        end if;
    end loop;
    return case tg_op when 'DELETE' then old else new end;
end $$;
create function public.app_rewrites() returns trigger language plpgsql as $$
begin
    if exists (
        select from public.app_rules as r where r.id = to_jsonb(new) ->> tg_argv[0] and r.rule = 'rewrite'
    ) and to_jsonb(new) ->> tg_argv[1] is distinct from 'Rewritten' then
        execute format('update %s set %I = ''Rewritten'' where %I = $1', tg_relid::regclass, tg_argv[1], tg_argv[0])
        using to_jsonb(new) ->> tg_argv[0];
    end if;
    return null;
end $$;
grant execute on function public.app_refuses(), public.app_rewrites() to public;
"""
_TRIGGERS: Final = """
create trigger app_refuses before insert or update or delete on clerk.{table}
for each row execute function public.app_refuses({key}, {column});
create trigger app_rewrites after insert or update on clerk.{table}
for each row execute function public.app_rewrites({key}, {column});
"""
_REMOVE: Final = """
drop function if exists public.app_refuses, public.app_rewrites cascade;
drop table if exists public.app_rules;
"""


@contextmanager
def installed(connection: Connection) -> Iterator[None]:
    """Installs the triggers of the app for the `with` block; there is no rule yet."""
    connection.execute(_MAKE)
    for table, key, column in TABLES.values():
        connection.execute(
            sql.SQL(_TRIGGERS).format(table=sql.Identifier(table), key=sql.Literal(key), column=sql.Literal(column))
        )
    yield
    connection.execute(_REMOVE)


class AppRules:
    """The rules in force, and the row locked by the app."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rules: dict[str, set[str]] = {}
        self._lock: Connection | None = None
        self._locked = ""
        self.has_ever_refused = False
        """Tells whether there was ever a rule or a lock, because of which an event may be parked."""

    def begin(self, connection: Connection, object_id: str, rule: str) -> None:
        """Adds a rule to a row."""
        connection.execute("insert into public.app_rules values (%s, %s) on conflict do nothing", [object_id, rule])
        self._rules.setdefault(object_id, set()).add(rule)
        self.has_ever_refused = True

    def lock(self, kind: str, object_id: str) -> None:
        """Locks a row until `unlock`, in a transaction left open."""
        self.unlock()
        table, key, _ = TABLES[kind]
        self._lock = psycopg.connect(self._url)
        select = sql.SQL("select from clerk.{} where {} = %s for update")
        self._lock.execute(select.format(sql.Identifier(table), sql.Identifier(key)), [object_id])
        self._locked = object_id
        self.has_ever_refused = True

    def unlock(self) -> None:
        """Ends the transaction with the lock."""
        if self._lock is not None:
            self._lock.close()
        self._lock, self._locked = None, ""

    def lift(self, connection: Connection) -> None:
        """Removes all rules and the lock."""
        self.unlock()
        connection.execute("delete from public.app_rules")
        self._rules.clear()

    def ids(self, *rules: str) -> set[str]:
        """Ids of the objects under any of these rules; without arguments, under any rule or the lock."""
        found = {object_id for object_id, those in self._rules.items() if not rules or those & set(rules)}
        return found | ({self._locked} - {""} if not rules else set())
