"""Groups of tables to be moved together: keys, policies or views compare the columns with each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.dependents.policies import policies
from clerk_supabase_cli.adopt.supabase_auth.dependents.views import views
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

_KEYS: Final = """
    select distinct c.conrelid::bigint, c.confrelid::bigint
    from pg_constraint as c
    cross join lateral unnest(c.conkey, c.confkey) as k (child, parent)
    inner join unnest(%(relations)s::oid[], %(numbers)s::int[]) as moved (relation, number)
        on (c.confrelid, k.parent) = (moved.relation, moved.number)
    where c.contype = 'f'
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """Columns of a single transaction."""

    columns: list[UserColumn]

    @property
    def tables(self) -> list[str]:
        """Schema and name of each table."""
        return [*dict.fromkeys(f"{each.schema}.{each.table}" for each in self.columns)]


def units(connection: Connection, columns: Sequence[UserColumn]) -> list[Unit]:
    """The columns, in the smallest groups for single transactions."""
    moved = {each.relation for each in columns}
    together = [
        *connection.execute(
            _KEYS, {"relations": [c.relation for c in columns], "numbers": [c.number for c in columns]}
        ).fetchall(),
        *({*policy.reads, policy.relation} for policy in policies(connection, columns) if policy.reads),
        *(view.relations for view in views(connection, columns)),
    ]
    group_of = {relation: relation for relation in moved}
    for relations in together:
        _unite(group_of, [relation for relation in relations if relation in moved])
    groups: dict[int, list[UserColumn]] = {}
    for column in columns:
        groups.setdefault(_group(group_of, column.relation), []).append(column)
    return [Unit(found) for found in groups.values()]


def _group(group_of: dict[int, int], relation: int) -> int:
    while group_of[relation] != relation:
        relation = group_of[relation]
    return relation


def _unite(group_of: dict[int, int], relations: Iterable[int]) -> None:
    groups = [_group(group_of, relation) for relation in relations]
    for group in groups[1:]:
        group_of[group] = groups[0]
        groups[0] = _group(group_of, groups[0])
