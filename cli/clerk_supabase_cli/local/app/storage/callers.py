"""Transactions in the role and with the claims of a caller, so that the policies decide.

Sources: https://github.com/supabase/storage, src/http/plugins/jwt.ts, src/internal/database/postgres/scope.ts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import jwt
import psycopg
from psycopg.rows import DictRow, dict_row

from clerk_supabase_cli.local.app.storage.answers import denied

Claims = Mapping[str, Any]

SERVICE: Final[Claims] = {"role": "service_role"}
"""Storage itself, for what no policy decides."""
_ROLES: Final = ("anon", "authenticated", "service_role")
_SCOPE: Final = """
    select set_config('role', %s, true), set_config('request.jwt.claims', %s, true),
    set_config('storage.allow_delete_query', 'true', true)
"""


class Callers:
    """The callers of a project, told by their tokens."""

    def __init__(self, database_url: str, keys: Sequence[Mapping[str, Any]]) -> None:
        """*database_url*: of a role that may become the API's roles; *keys*: the keys (JWK) of accepted tokens."""
        self._url = database_url
        self._keys = [jwt.PyJWK(dict(key)) for key in keys]

    def claims(self, authorization: str) -> Claims:
        """The claims of the token in a header. Raises StorageError unless one of the keys has signed the token."""
        token = re.sub(r"(?i)^bearer\s+", "", authorization)
        try:
            header = jwt.get_unverified_header(token)
            for key in self._keys:
                if key.algorithm_name == header.get("alg") and key.key_id in {None, header.get("kid")}:
                    options: Any = {"verify_aud": False}
                    claims: Claims = jwt.decode(token, key, algorithms=[key.algorithm_name], options=options)
                    return claims
        except jwt.InvalidTokenError as error:
            raise denied(str(error)) from error
        raise denied("signature verification failed")

    @contextmanager
    def transaction(self, claims: Claims) -> Iterator[psycopg.Connection[DictRow]]:
        """A transaction of a caller. Raises StorageError for a role that the API does not have."""
        role = claims.get("role", "anon")
        if role not in _ROLES:
            raise denied("Access denied: Invalid role")
        with psycopg.connect(self._url, row_factory=dict_row) as database:
            database.execute(_SCOPE, [role, json.dumps(claims)])
            yield database
