"""SQL of the plan: every row without an id, with its user or with the reason why it is left to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, LiteralString

from psycopg import sql

from clerk_supabase_cli.adopt.links.proofs import Proofs
from clerk_supabase_cli.adopt.tables import Column, Table

# Two addresses are the same if they are equal letter by letter, except for the case of A to Z. Clerk keeps addresses in
# small letters; a table of the app may not. lower() of any other collation would fold more letters: the Kelvin sign
# becomes a k. A plus, a dot, a look-alike and another normal form make another address.
ADDRESS: Final = """
case when {0}::text collate "C" ~ '^[^@[:space:]]+@[^@[:space:]]+$' then lower({0}::text collate "C") end
"""

PLAN: Final = """
with {batch}
theirs as materialized (
    select
        {row_key} as row_key, {named_id} as named_id, {own_key} as own_key, {address} as address,
        coalesce({is_verified}, false) as is_verified
    from {table} as theirs where theirs.{key} is null and {is_of_batch}
),

-- Rows with an id count, too: an address of two rows proves neither.
addresses as (
    select a.address, count(*) as rows
    from (select {address} as address from {table} as theirs where {has_address_of_batch}) as a
    where a.address is not null group by a.address
),

taken as (
    select distinct theirs.{key}::text as clerk_id from {table} as theirs
    where theirs.{key} is not null and {is_taken_in_batch}
),

people as materialized (
    select
        mirror.clerk_id, mirror.external_id, mirror.email_verified, {mirror_address} as address,
        taken.clerk_id is not null as is_taken
    from {mirror} as mirror left join taken on taken.clerk_id = mirror.clerk_id
    where mirror.deleted_at is null and {is_named_in_batch}
),

owners as (
    select
        p.address, count(*) filter (where p.email_verified) as verified,
        min(p.clerk_id) filter (where p.email_verified) as clerk_id,
        bool_or(p.is_taken) filter (where p.email_verified) as is_taken
    from people as p where p.address is not null group by p.address
),

by_id as (
    select t.row_key, 1 as rank, 'id' as found_by, t.named_id as clerk_id, t.address, t.own_key, case
        when p.clerk_id is null then 'unknown'
        when p.is_taken then 'taken'
        when count(*) over (partition by t.named_id) > 1 then 'ambiguous'
    end as reason
    from theirs as t left join people as p on p.clerk_id = t.named_id
    where t.named_id is not null
),

by_external_id as (
    select
        t.row_key, 2 as rank, 'external_id' as found_by, min(p.clerk_id) as clerk_id, t.address, t.own_key, case
            when count(*) > 1 then 'ambiguous'
            when bool_or(p.is_taken) then 'taken'
            -- An external_id such as 7 may be the number of something else.
            when bool_or(o.verified = 1 and o.clerk_id <> p.clerk_id and a.rows = 1 and t.is_verified)
                then 'contradicted'
        end as reason
    from theirs as t
    inner join people as p on p.external_id = t.own_key
    left join owners as o on o.address = t.address
    left join addresses as a on a.address = t.address
    where t.named_id is null
    group by t.row_key, t.address, t.own_key
),

by_email as (
    select
        t.row_key, 3 as rank, 'email' as found_by, case when o.verified = 1 then o.clerk_id end as clerk_id, t.address,
        t.own_key, case
            when t.address is null then 'no_address'
            when o.address is null then 'nobody'
            when o.verified = 0 then 'unverified'
            when o.verified > 1 or a.rows > 1 then 'ambiguous'
            when not t.is_verified then 'unverified_here'
            when o.is_taken then 'taken'
        end as reason
    from theirs as t left join owners as o on o.address = t.address left join addresses as a on a.address = t.address
    where t.named_id is null and not exists (select from by_external_id as e where e.row_key = t.row_key)
),

judged as (
    select * from by_id union all select * from by_external_id union all select * from by_email
),

-- Two proofs may name the same user for two rows: the stronger proof counts.
plan as (
    select
        j.row_key, j.found_by, j.clerk_id, j.address, j.own_key, coalesce(j.reason, case
            when row_number() over (
                partition by j.clerk_id, j.reason is null order by j.rank, j.row_key
            ) > 1 then 'taken'
        end) as reason
    from judged as j
)
"""
LIST: Final = """
select p.row_key::text, p.found_by, p.clerk_id, p.reason from plan as p order by p.reason nulls first, p.row_key
"""
# A plan of a whole table takes seconds, so a batch is judged with the rows and users that matter to the batch alone.
BATCH_OF_PLAN: Final[Mapping[str, LiteralString]] = {
    "batch": """
        batch as materialized (
            select b.row_key, b.row_key::jsonb as "row", b.clerk_id, {primary_of_batch}
            from jsonb_to_recordset({links}) as b (row_key text, clerk_id text)
            cross join lateral jsonb_to_record(b.row_key::jsonb) as k ({key_types})
        ),
    """,
    "is_of_batch": """(
        ({primary}) in (select {primary_names} from batch as b) or {names_id_of_batch} or {has_external_id_of_batch}
    )""",
    "has_address_of_batch": 'lower({email}::text collate "C") in (select t.address from theirs as t)',
    "is_taken_in_batch": "theirs.{key}::text in (select b.clerk_id from batch as b)",
    "is_named_in_batch": """(
        mirror.clerk_id in (select b.clerk_id from batch as b)
        or mirror.external_id in (select t.own_key from theirs as t)
        or lower(mirror.email::text collate "C") in (select t.address from theirs as t)
    )""",
}
# A row of another batch may have a proof for a user of this batch, and a stronger proof.
_NAMES_ID_OF_BATCH: Final = "{named_id} in (select b.clerk_id from batch as b)"
_HAS_EXTERNAL_ID_OF_BATCH: Final = """
{own_key} in (
    select u.external_id from {mirror} as u inner join batch as b on b.clerk_id = u.clerk_id
    where u.external_id is not null and u.deleted_at is null
)
"""
CHOSEN: Final = """
select b.row_key, p.found_by, p.clerk_id, p.address, p.own_key from plan as p
inner join batch as b on b."row" = p.row_key and b.clerk_id = p.clerk_id
where p.reason is null order by p.row_key
"""
# Keys of rows are written and compared in the same zone of time, whoever connects.
SETTINGS: Final = "select set_config('row_security', 'off', true), set_config('TimeZone', 'UTC', true)"


def statement_parts(table: Table, key: Column, mirror: sql.Composable, proofs: Proofs) -> dict[str, sql.Composable]:
    """The parts of every statement about the links of a table; *key* is the column for the id."""
    primary = table.primary
    own_key = proofs.own_key or (primary[0] if len(primary) == 1 else None)
    nothing = sql.SQL("null::text")
    email = proofs.email_column
    aliases = {name: sql.Identifier(f"key_{number}") for number, name in enumerate(primary)}
    texts: dict[str, sql.Composable] = {
        "mirror": mirror,
        "named_id": _text_of(proofs.id_column) if proofs.id_column else nothing,
        "own_key": _text_of(own_key) if own_key else nothing,
    }
    return texts | {
        "table": table.reference,
        "key": sql.Identifier(key.name),
        "key_name": sql.Literal(key.name),
        "relation": sql.Literal(table.name),
        "type": sql.SQL(key.compared_type),
        "row_key": row_key(primary),
        "primary": _listed(sql.Identifier("theirs", name) for name in primary),
        "primary_of_batch": _listed(
            sql.SQL("{} as {}").format(sql.Identifier("k", name), alias) for name, alias in aliases.items()
        ),
        "primary_names": _listed(sql.SQL("b.{}").format(alias) for alias in aliases.values()),
        "key_types": _listed(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(table.columns[name].type)) for name in primary
        ),
        "is_row": sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier("theirs", name), sql.Identifier("k", name)) for name in primary
        ),
        "names_id_of_batch": sql.SQL(_NAMES_ID_OF_BATCH).format(**texts) if proofs.id_column else sql.SQL("false"),
        "has_external_id_of_batch": sql.SQL(_HAS_EXTERNAL_ID_OF_BATCH).format(**texts) if own_key else sql.SQL("false"),
        "email": sql.Identifier("theirs", email) if email else nothing,
        "address": sql.SQL(ADDRESS).format(sql.Identifier("theirs", email)) if email else nothing,
        "mirror_address": sql.SQL(ADDRESS).format(sql.SQL("mirror.email")),
        "is_verified": sql.SQL("({})").format(sql.SQL(proofs.their_verified))
        if proofs.their_verified
        else sql.SQL("true"),
    }


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def row_key(primary: Sequence[str]) -> sql.Composable:
    """The primary key of a row named `theirs`, as JSON."""
    pairs = [sql.SQL("{}, {}").format(sql.Literal(name), sql.Identifier("theirs", name)) for name in primary]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))


def _text_of(column: str) -> sql.Composable:
    return sql.SQL("nullif({}::text collate \"C\", '')").format(sql.Identifier("theirs", column))
