"""Users of Supabase Auth, counted by the ways in which they sign in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql

from clerk_supabase_cli.adopt.supabase_auth.auth_schema import columns_of, users_query
from clerk_supabase_cli.operate.database import Connection

# By prefix, as Supabase Auth decides; https://github.com/supabase/auth, internal/crypto/password.go
_CENSUS: Final[LiteralString] = """
    with users as ({users})

    select
        count(*),
        count(*) filter (where deleted_at is not null),
        count(*) filter (where banned_until > now()),
        count(*) filter (where is_anonymous),
        count(*) filter (where is_sso_user),
        count(*) filter (where phone_confirmed_at is not null),
        count(*) filter (
            where email_confirmed_at is null and phone_confirmed_at is null and is_anonymous is not true
        ),
        count(*) filter (
            where email_confirmed_at is not null and is_sso_user is not true and coalesce(encrypted_password, '') <> ''
            and coalesce(confirmation_sent_at, recovery_sent_at, invited_at) is null
        ),
        (
            select coalesce(sum(shared.users), 0)::bigint from (
                select count(*) as users from users as e
                where e.email_confirmed_at is not null and e.deleted_at is null
                group by lower(e.email) having count(*) > 1
            ) as shared
        )
    from users
"""
_HASHES: Final[LiteralString] = """
    with users as ({users})

    select
        case
            when encrypted_password ~ '^\\$argon2(d|i|id)\\$' then split_part(encrypted_password, '$', 2)
            when starts_with(encrypted_password, '$fbscrypt$') then 'fbscrypt'
            when encrypted_password ~ '^\\$2[aby]\\$' then 'bcrypt'
            else 'unknown'
        end as hash,
        count(*)
    from users where encrypted_password <> ''
    group by 1
    order by 1
"""
_PROVIDERS: Final = """
    select i.provider, count(distinct i.user_id) from auth.identities as i group by 1 order by 1
"""
_FACTORS: Final = """
    select f.factor_type::text, count(distinct f.user_id) from auth.mfa_factors as f
    where f.status::text = 'verified' group by 1 order by 1
"""


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers of users."""

    passwords: dict[str, int]
    """Users by the kind of their password hash."""
    providers: dict[str, int]
    """Users by provider of an identity; `email` and `phone` are Supabase's own."""
    second_factors: dict[str, int]
    """Users by type of a verified second factor."""
    users: int
    deleted: int
    banned: int
    anonymous: int
    sso: int
    phone: int
    unconfirmed: int
    """Users without a confirmed address or number, anonymous users not counted."""
    confirmed_without_mail: int
    """Users with a password whose address counts as confirmed, although Supabase Auth never sent them a mail."""
    shared_address: int
    """Users whose confirmed address is the confirmed address of another user, too, apart from upper case."""


def census(connection: Connection) -> Census:
    """Counts the users. Raises NotSupabaseAuth."""
    users = users_query(connection)
    [numbers] = connection.execute(sql.SQL(_CENSUS).format(users=users)).fetchall()
    has_identities = bool(columns_of(connection, "auth.identities"))
    has_factors = bool(columns_of(connection, "auth.mfa_factors"))
    return Census(
        dict(connection.execute(sql.SQL(_HASHES).format(users=users))),
        dict(connection.execute(_PROVIDERS)) if has_identities else {},
        dict(connection.execute(_FACTORS)) if has_factors else {},
        *numbers,
    )
