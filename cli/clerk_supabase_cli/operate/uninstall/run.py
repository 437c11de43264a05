"""Removes everything that the migrations and commands of this project made in a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.migrations import ALONE, applied, newer_than, read_migrations
from clerk_supabase_cli.operate.install.mirror import mirror_schema
from clerk_supabase_cli.operate.install.preflight_names import holds_ours
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.operate.objects.manifest import read_manifest
from clerk_supabase_cli.operate.uninstall.dependents import Ours
from clerk_supabase_cli.operate.uninstall.order import drops
from clerk_supabase_cli.operate.uninstall.plan import Removal, Role, plan

_LOCK_SECONDS = 2.0


class NotUninstalled(Failure):
    """Nothing was removed, for the reason in the message."""


def look(connection: Connection, root: Path) -> Removal:
    """Everything that would be removed. Raises NotUninstalled for a database of a newer version."""
    with connection.transaction():
        manifest = read_manifest(root).rendered(mirror_schema(connection))
        recorded = applied(connection)
        if newer := newer_than([migration.name for migration in read_migrations(root)], recorded):
            raise NotUninstalled(
                f"the database is of a newer version than this command, with {', '.join(newer)}: "
                "use the command of that version, which knows all objects"
            )
        return plan(connection, manifest, has_ours=bool(recorded) or holds_ours(connection, manifest))


def remove(
    connection: Connection,
    url: str,
    root: Path,
    report: Callable[[str], None],
    *,
    lock_seconds: float = _LOCK_SECONDS,
) -> Sequence[Role]:
    """Removes the schemas in one transaction, and then the roles; returns the roles, with the reasons for kept roles.

    The transaction is tried a few times, and waits for no lock for long. An interrupted run can be repeated.
    Raises NotUninstalled and LockedByOthers.
    """
    if look(connection, root).schemas:
        in_turns(connection, url, lambda: _remove(connection, root), lock_seconds=lock_seconds, report=report)
    return [_without(connection, role) for role in look(connection, root).roles]


def _remove(connection: Connection, root: Path) -> None:
    connection.execute(ALONE)
    if connection.execute("select to_regprocedure('clerk_sync.unexpose(name)') is not null").fetchall() == [(True,)]:
        connection.execute("select count(*) from clerk_sync.unexpose(null)")
    # Other sessions may have changed objects since the question was answered.
    found = look(connection, root)
    if found.stops:
        raise NotUninstalled("nothing was removed, because something needs these objects by now: run the command again")
    ours = Ours.read(connection, list(found.schemas))
    statements = [
        *(statement for table in found.secured for statement in table.statements),
        *found.others,
        *drops(connection, {"classes": ours.classes, "functions": ours.functions, "types": ours.types}),
        *(f"drop schema {sql.Identifier(name).as_string(connection)}" for name in found.schemas),
    ]
    try:
        # In one message: locks on tables of the app, and of Supabase, are kept no longer than necessary.
        connection.execute("; ".join(statements).encode(), prepare=False)
    except psycopg.errors.DependentObjectsStillExist as error:
        detail = " ".join((error.diag.message_detail or "").split())
        raise NotUninstalled(
            f"nothing was removed: {error.diag.message_primary} ({detail}); remove or move that object, "
            "and run the command again"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotUninstalled(
            f"nothing was removed: {error.diag.message_primary}; connect as the owner of all these objects"
        ) from error


def _without(connection: Connection, role: Role) -> Role:
    if role.kept_because:
        return role
    statement = sql.SQL("drop role {}").format(sql.Identifier(role.name))
    try:
        connection.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DependentObjectsStillExist) as error:
        return Role(role.name, f"{error.diag.message_primary}; as a superuser: drop role {role.name}")
    return role
