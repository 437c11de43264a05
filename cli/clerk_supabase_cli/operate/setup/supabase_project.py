"""The project of Supabase that a URL or a connection string belongs to.

The name of a project is its ref of 20 small letters. The ref stands in the project's URL (https://REF.supabase.co), in
the host of a direct connection (db.REF.supabase.co) and in the user of a pooled connection (postgres.REF). A custom
domain holds no ref.

Sources: `ProjectRefPattern` and `ProjectHostPattern` in apps/cli-go/internal/utils/misc.go, and `GetPoolerConfig` in
connect.go, of https://github.com/supabase/cli; https://supabase.com/docs/guides/database/connecting-to-postgres
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from clerk_supabase.errors import SetUpWrong
from clerk_supabase.postgres.connection_string import parse
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL

_REF: Final = re.compile(r"[a-z]{20}")
_OF_URL: Final = re.compile(r"([a-z]{20})\.supabase\.(?:co|red)")
_OF_HOST: Final = re.compile(r"db\.([a-z]{20})\.supabase\.(?:co|red)")


class NoProject(Failure):
    """No project of Supabase is named, or more than one."""


def ref_in_url(url: str) -> str:
    """The ref in the URL of a project; empty for a custom domain and for a project on this machine."""
    try:
        found = _OF_URL.fullmatch(urlsplit(url.strip()).hostname or "")
    except ValueError:
        return ""
    return found[1] if found else ""


def ref_in_connection_string(text: str) -> str:
    """The ref in a connection string; empty for a database elsewhere, and for a string that cannot be used."""
    try:
        parts = parse(text, DATABASE_URL)
    except SetUpWrong:
        return ""
    if found := _OF_HOST.fullmatch(parts.host.lower()):
        return found[1]
    ref = parts.user.partition(".")[2]
    return ref if _REF.fullmatch(ref) else ""


def project_ref(supabase_url: str, database_url: str) -> str:
    """The ref of the one project that the URL and the connection string name. Raises NoProject."""
    of_url, of_database = ref_in_url(supabase_url), ref_in_connection_string(database_url)
    if of_url and of_database and of_url != of_database:
        raise NoProject(
            f"the project's URL is of {of_url}, and {DATABASE_URL} of {of_database}: name the same project in both"
        )
    if not (of_url or of_database):
        raise NoProject(
            "the project is not known: name its URL, https://<project>.supabase.co, in SUPABASE_URL, or its connection "
            f"string in {DATABASE_URL}"
        )
    return of_url or of_database
