"""The mirror's schema among the exposed schemas of Supabase's API, which answers nothing while a schema is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clerk_supabase_cli.operate.setup.management_api import ManagementApi
from clerk_supabase_cli.operate.setup.management_http import ACCESS_TOKEN, SupabaseFailed
from clerk_supabase_cli.operate.setup.supabase_project import ref_in_connection_string
from clerk_supabase_cli.operate.setup.supabase_settings import Access, read_back


def exposed_of(access: Access, schemas: Sequence[str]) -> list[str]:
    """The schemas of these that the API of the project serves; none without an access token. Raises SupabaseFailed."""
    if not (access.token and schemas and ref_in_connection_string(access.database_url)):
        return []
    with _asked(access) as api:
        return [name for name in api.schemas() if name in schemas]


def withdraw(access: Access, schemas: Sequence[str]) -> None:
    """Takes the schemas out of the exposed schemas; the others keep their order. Raises SupabaseFailed."""
    if not schemas:
        return
    with _asked(access) as api:
        wanted = [name for name in api.schemas() if name not in schemas]
        api.serve(wanted)
        if set(schemas) & set(read_back(api, api.schemas, wanted.__eq__)):
            raise SupabaseFailed("Supabase still lists the exposed schemas as before: run this again")


@contextmanager
def _asked(access: Access) -> Iterator[ManagementApi]:
    try:
        with access.api() as api:
            yield api
    except SupabaseFailed as error:
        raise SupabaseFailed(f"nothing was removed: {error}; or unset {ACCESS_TOKEN}") from error
