"""Triggers that block the new type of a column, and statements for making the triggers again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.adopt.supabase_auth.rewriting import REQUESTING, rewritten
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

# A trigger names a column in its condition, or behind `update of`.
_TRIGGERS: Final = """
    select
        format('drop trigger %%I on %%s', t.tgname, t.tgrelid::regclass),
        pg_get_triggerdef(t.oid),
        case t.tgenabled
            when 'D' then format('alter table %%s disable trigger %%I', t.tgrelid::regclass, t.tgname)
            when 'R' then format('alter table %%s enable replica trigger %%I', t.tgrelid::regclass, t.tgname)
            when 'A' then format('alter table %%s enable always trigger %%I', t.tgrelid::regclass, t.tgname)
        end
    from pg_trigger as t
    where not t.tgisinternal and t.tgparentid = 0 and exists (
        select from pg_depend as d
        inner join unnest(%(relations)s::oid[], %(numbers)s::int[]) as moved (relation, number)
            on (d.refobjid, d.refobjsubid) = (moved.relation, moved.number)
        where d.classid = 'pg_trigger'::regclass and d.objid = t.oid and d.refclassid = 'pg_class'::regclass
    )
    order by 1
"""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger of the app."""

    drop: str
    definition: str
    state: str | None
    """The statement for the state of the trigger, if not simply enabled."""

    def statements(self) -> list[str]:
        """Statements for making the trigger again, with Clerk's ids."""
        return [rewritten(self.definition, REQUESTING), *([self.state] if self.state else [])]


def triggers(connection: Connection, columns: Sequence[UserColumn]) -> list[Trigger]:
    """The triggers with a column of these in their definition."""
    where = {"relations": [c.relation for c in columns], "numbers": [c.number for c in columns]}
    return [Trigger(*row) for row in connection.execute(_TRIGGERS, where)]
