"""Looks for everything that would stop the migrations, before the first statement. Only reads.

Each finding names the safe remedy. No remedy drops an object of the app.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.preflight_names import clashes, schemas
from clerk_supabase_cli.operate.install.preflight_rights import rights
from clerk_supabase_cli.operate.install.preflight_types import InTheWay, Plan
from clerk_supabase_cli.operate.objects.manifest import Manifest

OLDEST: Final = 15
NEWEST: Final = 18

_SERVER: Final = """
    select
        current_setting('server_version'), current_setting('server_version_num')::integer / 10000,
        pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean
"""
# A superuser, or on Supabase the owner, may have made triggers that reject or change statements of others.
_EVENT_TRIGGERS: Final = """
    select quote_ident(e.evtname), e.evtfoid::regproc::text
    from pg_event_trigger as e
    where e.evtenabled in ('O', 'A') and e.evtevent in ('ddl_command_start', 'ddl_command_end', 'sql_drop')
    and e.evtname !~ '^(pgrst_|issue_)'
    and not exists (
        select from pg_depend as d
        where d.classid = 'pg_event_trigger'::regclass and d.objid = e.oid and d.deptype = 'e'
    )
    order by 1
"""
# Not to_regprocedure(), which fails without the right to use the schema.
_HAS_JWT: Final = """
    select exists (
        select from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'auth' and p.proname = 'jwt' and p.pronargs = 0
    )
"""


def in_the_way(connection: Connection, plan: Plan, manifest: Manifest) -> list[InTheWay]:
    """Everything that would stop the migrations of a plan, and notes on what might; empty if nothing is known."""
    found = list(_server(connection))
    if plan.missing and not any(each.stops for each in found):
        found += [*rights(connection, plan), *schemas(connection, plan), *clashes(connection, plan, manifest)]
        found += [*_event_triggers(connection), *_without_supabase(connection)]
    return found


def _server(connection: Connection) -> Iterator[InTheWay]:
    [(version, major, is_standby, is_read_only)] = connection.execute(_SERVER).fetchall()
    if major < OLDEST:
        yield InTheWay(
            f"the server is Postgres {version}; this version works with Postgres {OLDEST} to {NEWEST}",
            "upgrade the server: at Supabase under Settings, Infrastructure",
        )
    elif major > NEWEST:
        yield InTheWay(
            f"the server is Postgres {version}; this version was tried with Postgres {OLDEST} to {NEWEST}",
            "try the migrations on a copy first: clerk-supabase migrate --dry-run",
            stops=False,
        )
    if is_standby:
        yield InTheWay("the server is a standby, which takes no writes", "connect to the primary server")
    elif is_read_only:
        yield InTheWay(
            "the database is read-only (default_transaction_read_only is on)",
            "Supabase switches a project to read-only when its disk is full: enlarge the disk or delete data. If it "
            "was set by hand for this role or database: alter role ... reset default_transaction_read_only",
        )


def _event_triggers(connection: Connection) -> Iterator[InTheWay]:
    for name, function in connection.execute(_EVENT_TRIGGERS):
        yield InTheWay(
            f"the event trigger {name} runs {function} at every statement of a migration, and may reject a statement",
            f"clerk-supabase migrate --dry-run tries it; if it rejects one: alter event trigger {name} disable, "
            "migrate, and enable it again",
            stops=False,
        )


def _without_supabase(connection: Connection) -> Iterator[InTheWay]:
    [(has_jwt,)] = connection.execute(_HAS_JWT).fetchall()
    if not has_jwt:
        yield InTheWay(
            "there is no function auth.jwt(), which policies of apps call: this server is not Supabase",
            "if a policy needs it: clerk-supabase migrate --plain-postgres, or psql -f sql/plain_postgres.sql",
            stops=False,
        )


def stopping(found: Sequence[InTheWay]) -> list[InTheWay]:
    """The findings that stop the migrations."""
    return [each for each in found if each.stops]
