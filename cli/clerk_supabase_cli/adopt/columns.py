"""Columns of the app and the values of the mirror that fit: by name and type, and by the values of linked rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.adopt.mapping import PLACEHOLDER
from clerk_supabase_cli.adopt.samples import PREFIXES, Sized
from clerk_supabase_cli.adopt.tables import Column, Table
from clerk_supabase_cli.operate.database import Connection

_FULL_NAME: Final = "nullif(concat_ws(' ', mirror.first_name, mirror.last_name), '')"

# Names without case, blanks and underscores. A name of this list stands for the same value in most apps.
_VALUES: Final[Mapping[Kind, Mapping[str, Sequence[str]]]] = {
    "user": {
        "mirror.email": ("email", "emailaddress", "mail", "primaryemail", "useremail"),
        "mirror.phone": ("phone", "phonenumber", "mobile"),
        "mirror.username": ("username",),
        "mirror.first_name": ("firstname", "givenname", "fname"),
        "mirror.last_name": ("lastname", "familyname", "surname", "lname"),
        "mirror.image_url": (
            *("imageurl", "image", "avatar", "avatarurl", "picture", "pictureurl", "photo", "photourl"),
            *("profileimage", "profileimageurl", "profilepicture"),
        ),
        "mirror.locale": ("locale",),
        "mirror.external_id": ("externalid",),
        _FULL_NAME: ("name", "fullname", "displayname"),
    },
    "organization": {
        "mirror.name": ("name", "orgname", "organizationname", "displayname"),
        "mirror.slug": ("slug", "orgslug"),
        "mirror.image_url": ("imageurl", "image", "logo", "logourl", "avatarurl"),
    },
    "membership": {},
}
_FLAGS: Final[Mapping[str, Sequence[str]]] = {"mirror.email_verified": ("emailverified", "isemailverified")}

# Names that a person often chooses in the app itself: without a linked row that agrees, only new rows take the value.
_CHOSEN: Final = (_FULL_NAME, "mirror.username")
# Rights and money are the app's.
_NEVER: Final = re.compile(r"role|plan|tier|stripe|billing|subscri|customer|price|credit|balance|admin|permission")

# Columns of a membership that name its user or its organization, where the app's keys are Clerk's ids.
_PARENTS: Final = {
    **dict.fromkeys(("user_id", "userId", "clerk_user_id", "clerkUserId"), "mirror.clerk_user_id"),
    **dict.fromkeys(("organization_id", "organizationId", "org_id", "orgId"), "mirror.clerk_org_id"),
    **dict.fromkeys(("clerk_org_id", "clerkOrgId"), "mirror.clerk_org_id"),
}

_ROWS: Final = 1_000
_PAGES: Final = 200
_LEAST_AGREEMENT: Final = 0.8

_AGREEMENT: Final = """
select count(*), {agreeing}
from (select * from {source} where starts_with(t.{key}::text, {prefix}) limit {rows}) as theirs
inner join {mirror} as mirror on mirror.{id} = theirs.{key}::text and mirror.deleted_at is null
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An expression for a column, with a remark for the reader of adopt.toml."""

    column: str
    expression: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Proposals:
    """The columns of a mapping, and columns that were left out."""

    update: Sequence[Proposal]
    on_insert: Sequence[Proposal]
    left_out: Sequence[Proposal]


@dataclass(frozen=True, slots=True)
class Place:
    """A table for a kind."""

    kind: Kind
    sized: Sized
    key: Sequence[str]
    """Columns that identify a row."""
    id_column: str | None
    """The column with the ids of the kind; None for a key made of other ids."""


def propose(connection: Connection, place: Place, mirror: sql.SQL | None) -> Proposals:
    """The columns of the table that fit the mirror."""
    table, kind, key = place.sized.table, place.kind, place.key
    possible = {
        name: expression
        for name, column in table.columns.items()
        if name not in key and (expression := _fitting(kind, table, column))
    }
    linked, agreeing = _agreement(connection, place, mirror, possible) if mirror else (0, {})
    update: list[Proposal] = []
    left_out: list[Proposal] = []
    for name, expression in possible.items():
        agrees = agreeing.get(name, 0)
        remark = f"{agrees} of {linked} linked rows in a sample agree" if linked else "no linked row to compare"
        is_proposed = agrees >= _LEAST_AGREEMENT * linked if linked else expression not in _CHOSEN
        if is_proposed:
            filled = _never_null(table, table.columns[name], expression)
            update.append(Proposal(name, filled, _with_limit(table.columns[name], remark)))
        else:
            left_out.append(Proposal(name, expression, remark))
    taken = {each.column for each in update} | set(key)
    needed = [each for each in table.columns.values() if each.is_needed and each.name not in taken]
    on_insert = [_for_new_row(kind, table, each, possible.get(each.name)) for each in needed]
    named = {each.column for each in on_insert}
    if kind == "membership":
        rights = [name for name in table.columns if _bare(name) == "role" and name not in taken | named]
        remark = "spelled org:admin; without this line, new rows get the default of the column"
        left_out += [Proposal(name, "mirror.role", remark) for name in rights]
    return Proposals(update, on_insert, [each for each in left_out if each.column not in named])


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fitting(kind: Kind, table: Table, column: Column) -> str | None:
    """The expression for a column, by its name and type; None for a column that is the app's."""
    if column.is_generated or column.is_identity or column.name in table.primary or _NEVER.search(_bare(column.name)):
        return None
    by_expression = _VALUES[kind] if column.category == "S" else _FLAGS if column.category == "B" else {}
    if by_expression is _FLAGS and kind != "user":
        return None
    return next((each for each, names in by_expression.items() if _bare(column.name) in names), None)


def _agreement(
    connection: Connection, place: Place, mirror: sql.SQL, possible: Mapping[str, str]
) -> tuple[int, dict[str, int]]:
    """The number of linked rows in a sample, and of the rows that agree with the mirror, by column."""
    if place.id_column is None or not possible:
        return 0, {}
    query = sql.SQL(_AGREEMENT).format(
        agreeing=sql.SQL(", ").join(
            sql.SQL(
                "count(*) filter (where "
                'lower(theirs.{}::text collate "C") is not distinct from lower(({})::text collate "C"))'
            ).format(sql.Identifier(name), sql.SQL(expression))
            for name, expression in possible.items()
        ),
        source=place.sized.sampled(_PAGES, "t"),
        key=sql.Identifier(place.id_column),
        prefix=sql.Literal(PREFIXES[place.kind]),
        rows=sql.Literal(_ROWS),
        mirror=mirror,
        id=sql.Identifier(FACTS[place.kind].key),
    )
    [(linked, *agreeing)] = connection.execute(query).fetchall()
    return linked, dict(zip(possible, agreeing, strict=False))


def _never_null(table: Table, column: Column, expression: str) -> str:
    """The expression, with another value for a NOT NULL column where Clerk has none."""
    if not column.not_null or column.category == "B":
        return expression
    # An empty text for several rows would break a unique column.
    is_unique = any(column.name in each for each in table.uniques)
    if expression == "mirror.email" and is_unique:
        return "coalesce(mirror.email, mirror.clerk_id || '@no-address.invalid')"
    if expression == "mirror.username" or is_unique:
        own_id = "mirror.clerk_org_id" if expression in _VALUES["organization"] else "mirror.clerk_id"
        return f"coalesce({expression}, {own_id})"
    return f"coalesce({expression}, '')"


def _with_limit(column: Column, remark: str) -> str:
    if column.most_characters:
        return f"{remark}; a value longer than {column.most_characters} characters is not written"
    return remark


def _for_new_row(kind: Kind, table: Table, column: Column, expression: str | None) -> Proposal:
    """A value for a NOT NULL column without a default, or a placeholder."""
    bare = _bare(column.name)
    is_unique_id = column.name in table.primary and len(table.primary) == 1
    if expression:
        return Proposal(column.name, _never_null(table, column, expression), "only new rows")
    if kind == "membership" and column.name in _PARENTS and column.category == "S":
        return Proposal(column.name, _PARENTS[column.name])
    if kind == "membership" and bare == "role" and column.category == "S":
        return Proposal(column.name, "mirror.role", "spelled org:admin; only new rows: later changes are the app's")
    if _NEVER.search(bare):
        return _to_do(column, "a right or a price, which the app decides")
    if column.type_name == "uuid" and is_unique_id:
        return Proposal(column.name, "gen_random_uuid()", "the primary key")
    if column.category == "S" and is_unique_id:
        return Proposal(column.name, "gen_random_uuid()::text", "the primary key, which your ORM makes itself")
    if column.category == "D" and bare in {"createdat", "created", "joinedat"}:
        return Proposal(column.name, "coalesce(mirror.created_at, now())")
    if column.category == "D" and bare in {"updatedat", "updated", "modifiedat"}:
        return Proposal(column.name, "now()")
    if column.type_name in {"json", "jsonb"}:
        return Proposal(column.name, f"'{{}}'::pg_catalog.{column.type_name}")
    return _to_do(column, "nothing in the mirror fits")


def _to_do(column: Column, remark: str) -> Proposal:
    return Proposal(column.name, f"{PLACEHOLDER}: a value of the type {column.type}", f"NOT NULL; {remark}")
