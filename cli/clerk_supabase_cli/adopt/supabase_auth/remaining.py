"""Objects with calls of Supabase Auth after a move, with the statement or the advice against each call."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.callers import Caller, Callers, callers
from clerk_supabase_cli.adopt.supabase_auth.claims import counterpart
from clerk_supabase_cli.adopt.supabase_auth.dependents.policies import policies
from clerk_supabase_cli.adopt.supabase_auth.dependents.views import views
from clerk_supabase_cli.adopt.supabase_auth.plan import new_default
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn, by_key, left_by_values
from clerk_supabase_cli.operate.database import Connection

# A file in a folder named after the uuid of its owner, as Supabase's guides teach.
_FOLDERS: Final = """
    select count(*), count(distinct u.id)
    from storage.objects as o
    inner join auth.users as u on u.id::text = split_part(o.name, '/', 1)
"""
_HAS_STORAGE: Final = "select to_regclass('storage.objects') is not null"
_ADVICE: Final = {
    "function": "write it again with clerk.requesting_user_id(), which returns text",
    "view": "create it again with clerk.requesting_user_id(), and with (security_invoker = on)",
    "default": "alter table ... alter column ... set default clerk.requesting_user_id(), once the column is text",
    "constraint": "drop it, or write it again without the caller",
    "generated column": "drop it, or write it again without the caller",
    "trigger": "create it again with clerk.requesting_user_id()",
}


@dataclass(frozen=True, slots=True)
class Remaining:
    """An object with a call of Supabase Auth, and the advice for the object."""

    what: str
    todo: str


def not_moved_by_keys(connection: Connection) -> list[Remaining]:
    """The columns that a move leaves out; comparisons with moved columns are false from then on."""
    return [
        Remaining(f"column {name} with uuids of users", f"move it, too: --column {shlex.quote(name)}")
        for name in left_by_values(connection)
    ]


def remaining(connection: Connection) -> list[Remaining]:
    """The objects that a move does not change: each fails with Clerk's token, lacks a claim, or never runs."""
    found = callers(connection)
    columns = by_key(connection)
    moved = _moved(connection, columns)
    failing = [each for each in found.callers if each.fails and (each.kind, each.table, each.name) not in moved]
    return [
        *_policies(connection, failing),
        *_others(failing),
        *_claims(found),
        *_triggers(found),
        *_folders(connection),
    ]


def _moved(connection: Connection, columns: Sequence[UserColumn]) -> set[tuple[str, str | None, str]]:
    """The policies, views and defaults changed by a move of the columns: kind, table and name."""
    tables = {each.relation for each in columns}
    return {
        *(
            ("policy", each.table, each.name)
            for each in policies(connection, columns)
            if each.asks and (each.reads or each.relation in tables)
        ),
        *(("view", each.name, each.bare_name) for each in views(connection, columns)),
        *(("default", each.printed_table, each.column) for each in columns if new_default(each)),
    }


def _policies(connection: Connection, failing: Sequence[Caller]) -> list[Remaining]:
    by_name = {(policy.table, policy.name): policy for policy in policies(connection, [])}
    left: list[Remaining] = []
    for caller in failing:
        if caller.kind != "policy":
            continue
        policy = by_name.get((caller.table or "", caller.name))
        if policy is not None and policy.asks:
            todo = policy.alteration()
        else:
            todo = f"it calls {', '.join(caller.through or caller.calls)}: write the function or the policy again"
        left.append(Remaining(f"policy {caller.name} on {caller.table}", todo))
    return left


def _others(failing: Sequence[Caller]) -> list[Remaining]:
    return [
        Remaining(f"{caller.kind} {caller.name}{_place(caller)}", _ADVICE[caller.kind])
        for caller in failing
        if caller.kind != "policy"
    ]


def _claims(found: Callers) -> list[Remaining]:
    return [
        Remaining(
            f"{each.kind} {each.name}{_place(each)}",
            f"the claim {claim} is not in Clerk's token, and null: {counterpart(claim)}",
        )
        for each in found.callers
        for claim in each.claims
    ]


def _triggers(found: Callers) -> list[Remaining]:
    return [
        Remaining(
            f"trigger {trigger.name} on {trigger.table}",
            f"no user of Clerk fires it: a trigger on clerk.users may call {trigger.function} in its place",
        )
        for trigger in found.triggers
    ]


def _place(caller: Caller) -> str:
    return f" of {caller.table}" if caller.table and caller.kind not in ("function", "view") else ""


def _folders(connection: Connection) -> list[Remaining]:
    [(has_storage,)] = connection.execute(_HAS_STORAGE).fetchall()
    if not has_storage:
        return []
    [(files, users)] = connection.execute(_FOLDERS).fetchall()
    if not files:
        return []
    return [
        Remaining(
            f"{files} files of {users} users in folders named after a uuid",
            "move them with the Storage API, or let the policy look up the folder's owner",
        )
    ]
