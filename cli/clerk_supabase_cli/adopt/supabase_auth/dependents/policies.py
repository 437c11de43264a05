"""Policies that block the new type of a column, and their statements with Clerk's ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from clerk_supabase_cli.adopt.supabase_auth.rewriting import caller_for, rewritten, still_calls
from clerk_supabase_cli.adopt.supabase_auth.user_columns import UserColumn
from clerk_supabase_cli.operate.database import Connection

_POLICIES: Final = """
    select
        p.polrelid,
        p.polrelid::regclass::text,
        quote_ident(p.polname),
        format('drop policy %%I on %%s', p.polname, p.polrelid::regclass),
        format(
            'create policy %%I on %%s as %%s for %%s to %%s', p.polname, p.polrelid::regclass,
            case when p.polpermissive then 'permissive' else 'restrictive' end,
            case p.polcmd
                when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all'
            end,
            (select string_agg(coalesce(quote_ident(r.rolname), 'public'), ', ' order by r.rolname)
            from unnest(p.polroles) as given (id) left join pg_roles as r on r.oid = given.id)
        ),
        array(
            select coalesce(r.rolname::text, 'public')
            from unnest(p.polroles) as given (id) left join pg_roles as r on r.oid = given.id
        ),
        pg_get_expr(p.polqual, p.polrelid),
        pg_get_expr(p.polwithcheck, p.polrelid),
        format('comment on policy %%I on %%s is %%L', p.polname, p.polrelid::regclass, d.description),
        d.description is not null,
        array(
            select distinct k.refobjid::bigint from pg_depend as k
            inner join unnest(%(relations)s::oid[], %(numbers)s::int[]) as moved (relation, number)
                on (k.refobjid, k.refobjsubid) = (moved.relation, moved.number)
            where k.classid = 'pg_policy'::regclass and k.objid = p.oid and k.refclassid = 'pg_class'::regclass
        )
    from pg_policy as p
    left join pg_description as d on d.classoid = 'pg_policy'::regclass and d.objoid = p.oid
    order by 2, 3
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of the app."""

    relation: int
    table: str
    name: str
    drop: str
    head: str
    roles: list[str]
    qual: str | None
    check: str | None
    comment: str
    has_comment: bool
    reads: list[int]
    """Tables whose moved columns stand in the policy's expressions."""

    @property
    def asks(self) -> bool:
        """Tells whether the expressions of the policy would change."""
        caller = caller_for(self.roles)
        return any(text is not None and rewritten(text, caller) != text for text in (self.qual, self.check))

    @property
    def is_for_everybody(self) -> bool:
        """Tells whether the policy holds for more roles than authenticated."""
        return self.roles != ["authenticated"]

    @property
    def still_calls(self) -> bool:
        """Tells whether a call stays that no token of Clerk's answers, such as auth.email()."""
        return any(still_calls(text) for text in self._clauses().values())

    def statements(self) -> list[str]:
        """Statements that make the policy again, with Clerk's ids."""
        clauses = self._clauses()
        create = " ".join([self.head, *(f"{word} ({text})" for word, text in clauses.items())])
        return [create, *([self.comment] if self.has_comment else [])]

    def alteration(self) -> str:
        """The statement that changes the policy's expressions in place."""
        clauses = " ".join(f"{word} ({text})" for word, text in self._clauses().items())
        return f"alter policy {self.name} on {self.table} {clauses}"

    def _clauses(self) -> dict[str, str]:
        caller = caller_for(self.roles)
        given = {"using": self.qual, "with check": self.check}
        return {word: rewritten(text, caller) for word, text in given.items() if text is not None}


def policies(connection: Connection, columns: Sequence[UserColumn]) -> list[Policy]:
    """All policies of the database, each with the *columns* in its expressions."""
    found: list[Any] = connection.execute(
        _POLICIES, {"relations": [c.relation for c in columns], "numbers": [c.number for c in columns]}
    ).fetchall()
    return [Policy(*row) for row in found]
