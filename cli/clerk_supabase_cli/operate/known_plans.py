"""A plan or a feature that somebody asks for, looked up among the mirrored plans of Clerk's Billing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, LiteralString, cast

from psycopg import sql

from clerk_supabase_cli.operate.database import Connection

_TABLE: Final = "select k.relation from clerk_sync.kinds as k where k.kind = 'plan'"
_PLANS: Final[LiteralString] = "select for_payer_type, slug, features from {} where deleted_at is null order by slug"
_SCOPES: Final = {"u": "user", "user": "user", "o": "org", "org": "org", "organization": "org"}
_PAYERS: Final = {"user": "users", "org": "organizations"}
_BRINGS: Final = "clerk-supabase reconcile brings the plans of Clerk"


def doubts_about(connection: Connection, plan: str | None, feature: str | None, *, from_mirror: bool) -> Iterator[str]:
    """Yields a sentence for a plan or a feature that no caller can have, as far as the mirror knows.

    The questions have passed `clerk_sync.entitlements_asked()`. Without any plan in the mirror, only a question to the
    mirror is in doubt, because a stack may not use Clerk's API.
    """
    if not (plan or feature):
        return
    [(table,)] = connection.execute(_TABLE).fetchall()
    statement = sql.SQL(_PLANS).format(sql.SQL(cast("LiteralString", table)))
    plans = connection.execute(statement).fetchall()
    if not plans:
        if from_mirror:
            yield f"no plan of Clerk is known here yet, so nobody passes; {_BRINGS}"
        return
    for what, question in (("plan", plan), ("feature", feature)):
        if question is None:
            continue
        scope, _, slug = question.partition(":")
        of_scope = {name: features for payer, name, features in plans if payer == _SCOPES[scope]}
        if slug in (of_scope if what == "plan" else {each for features in of_scope.values() for each in features}):
            continue
        known = ", ".join(f"{name} ({', '.join(features) or 'no feature'})" for name, features in of_scope.items())
        lacking = f"there is no plan {slug}" if what == "plan" else f"no plan has the feature {slug}"
        yield (
            f"{lacking} for {_PAYERS[_SCOPES[scope]]}, so nobody passes; known: {known or 'none'}; after a change in "
            f"Clerk, {_BRINGS}"
        )
