"""Files for Clerk's import, written while the users are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, LiteralString

from psycopg import sql

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import columns_of, see_all_rows, users_query
from clerk_supabase_cli.adopt.supabase_auth.export.exported import MOST_METADATA, AppMetadataSide, OldUser, exported
from clerk_supabase_cli.adopt.supabase_auth.export.safe_place import alone_in, prepared_folder, private_file
from clerk_supabase_cli.operate.database import Connection

USERS: Final = "users.json"
"""The users, in the form of Clerk's own export."""
LEFT_OUT: Final = "left_out.ndjson"
"""Everything that is left out, an object in each line."""

_ROWS_AT_ONCE: Final = 500
# An address is shared only among users who verified the address: nobody takes an address from its owner by signing up.
_USERS: Final[LiteralString] = """
    with users as ({users}),

    shared_emails as (
        select lower(e.email) as email from users as e
        where e.email_confirmed_at is not null and e.deleted_at is null group by 1 having count(*) > 1
    ),

    shared_phones as (
        select ltrim(e.phone, '+') as phone from users as e
        where e.phone_confirmed_at is not null and e.deleted_at is null group by 1 having count(*) > 1
    )

    select
        u.id::text,
        u.email,
        u.email_confirmed_at is not null,
        u.email is not null and lower(u.email) in (select s.email from shared_emails as s where s.email is not null),
        u.phone,
        u.phone_confirmed_at is not null,
        u.phone is not null
        and ltrim(u.phone, '+') in (select s.phone from shared_phones as s where s.phone is not null),
        u.encrypted_password,
        case when not m.is_too_long then u.raw_user_meta_data::text end,
        case when not m.is_too_long then u.raw_app_meta_data::text end,
        m.is_too_long,
        coalesce(u.banned_until > now(), false),
        u.deleted_at is not null,
        coalesce(u.is_anonymous, false),
        {has_second_factor},
        -- Python has no date outside these years.
        case when u.created_at between '1000-01-01' and '9999-01-01' then u.created_at end
    from users as u
    cross join lateral (
        select coalesce(octet_length(u.raw_user_meta_data::text), 0) > {longest}
        or coalesce(octet_length(u.raw_app_meta_data::text), 0) > {longest}
    ) as m (is_too_long)
    order by u.id
"""
_HAS_SECOND_FACTOR: Final = sql.SQL(
    "exists (select from auth.mfa_factors as f where f.user_id = u.id and f.status::text = 'verified')"
)


@dataclass(frozen=True, slots=True)
class Export:
    """Written files, and the numbers of users in them."""

    users_file: str
    left_out_file: str
    users: int
    passwords: dict[str, int]
    """Exported passwords by hasher."""
    left_out: dict[str, int]
    """Numbers of users, addresses and so on that are left out."""


def export(connection: Connection, folder: Path, side: AppMetadataSide) -> Export:
    """Writes both files; a file of before is replaced only when the new file is complete.

    Raises UnsafePlace and NotSupabaseAuth.
    """
    query = _query(connection)
    folder = prepared_folder(folder, [USERS, LEFT_OUT, f"{USERS}.new", f"{LEFT_OUT}.new"])
    passwords: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    users = 0
    with alone_in(folder), private_file(folder / LEFT_OUT) as left_out_file, private_file(folder / USERS) as users_file:
        users_file.write("[")
        for old in _read(connection, query):
            user, missing = exported(old, side)
            for each in missing:
                left_out[each.what] += 1
                left_out_file.write(f"{json.dumps(asdict(each))}\n")
            if user is not None:
                users_file.write(",\n" if users else "\n")
                users_file.write(json.dumps(user))
                users += 1
                passwords[user.get("password_hasher", "none")] += 1
        users_file.write("\n]\n")
    return Export(
        str(folder / USERS),
        str(folder / LEFT_OUT),
        users,
        dict(sorted(passwords.items())),
        dict(sorted(left_out.items())),
    )


def _query(connection: Connection) -> sql.Composed:
    has_factors = bool(columns_of(connection, "auth.mfa_factors"))
    return sql.SQL(_USERS).format(
        users=users_query(connection),
        has_second_factor=_HAS_SECOND_FACTOR if has_factors else sql.SQL("false"),
        # Twice the limit, because Postgres prints blanks that Clerk does not count.
        longest=sql.Literal(2 * MOST_METADATA),
    )


def _read(connection: Connection, query: sql.Composed) -> Iterator[OldUser]:
    """All users, a few hundred at once, so that memory does not grow with their number."""
    with connection.transaction(), closing(connection.cursor(name="old_users")) as cursor:
        connection.execute("set transaction read only")
        see_all_rows(connection)
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(query)
        for row in cursor:
            yield OldUser(*row)
