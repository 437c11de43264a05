"""Two settings of a Supabase project: Clerk as third-party provider, and the mirror among the exposed schemas.

With an access token, both are set and read back; settings of other people stay as they are. PostgREST answers no
request while an exposed schema does not exist (https://github.com/PostgREST/postgrest/issues/5080): a schema is exposed
only after a look into the database of the same project, and `uninstall` takes the schema out of the list first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from clerk_supabase.errors import SetUpWrong
from clerk_supabase.tokens.publishable_key import jwks_url_of
from clerk_supabase_cli.operate.database import DATABASE_URL, DatabaseFailed, open_database
from clerk_supabase_cli.operate.install.mirror import DEFAULT, recorded_schema
from clerk_supabase_cli.operate.setup.management_api import ManagementApi, Provider
from clerk_supabase_cli.operate.setup.management_http import (
    ACCESS_TOKEN,
    BASE_URL,
    ManagementHttp,
    SupabaseFailed,
    SupabaseUnavailable,
    TokenNotTaken,
)
from clerk_supabase_cli.operate.setup.supabase_project import NoProject, project_ref, ref_in_connection_string

PROVIDER: Final = "third-party-auth"
SCHEMAS: Final = "exposed-schemas"

# Some 15 seconds: the answer to a read may be older than the last change.
_PAUSES: Final = (0.25, 0.5, 1, 2, 4, 8)
# Of a request that adds a provider.
_LONGEST_PAUSE_SECONDS: Final = 1
_MACHINERY: Final = "clerk_sync"
_EXISTS: Final = "select to_regnamespace(%s) is not null"

Status = Literal["set", "unchanged", "failed", "skipped"]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the project, and the result of the attempt to make the setting."""

    name: str
    status: Status
    words: str

    @property
    def is_done(self) -> bool:
        """Tells whether nobody has to set the setting by hand."""
        return self.status in {"set", "unchanged"}


@dataclass(frozen=True, slots=True)
class Access:
    """An access token, and the project as the operator names it."""

    supabase_url: str
    database_url: str = field(repr=False)
    base_url: str = BASE_URL
    token: str = field(default_factory=lambda: os.environ.get(ACCESS_TOKEN, "").strip(), repr=False)
    """Empty without a token. Never an argument, which every user of the machine could read."""

    @contextmanager
    def api(self, patience: float = 150.0) -> Iterator[ManagementApi]:
        """The Management API for the project. Raises SupabaseFailed and NoProject."""
        ref = project_ref(self.supabase_url, self.database_url)
        http = ManagementHttp(self.token, ref, self.base_url, patience=patience)
        try:
            yield ManagementApi(http)
        finally:
            http.close()


def set_up(access: Access, issuers: Sequence[str], obstacle: str = "") -> list[Setting]:
    """Registers the issuers unless an obstacle is named, and exposes the mirror's schema; nothing without a token.

    A failure is a setting with its reason.
    """
    if not access.token:
        return []
    try:
        with access.api() as api:
            return [
                _made(PROVIDER, lambda: Setting(PROVIDER, "skipped", obstacle) if obstacle else register(api, issuers)),
                _made(SCHEMAS, lambda: expose_mirror(api, access.database_url)),
            ]
    except (SupabaseFailed, NoProject) as error:
        return [Setting("supabase", "failed", str(error))]


def shown(settings: Sequence[Setting]) -> Iterator[str]:
    """A line for each setting, and a line if there was nothing to change."""
    for each in settings:
        yield f"{each.status:<10}{each.name}: {each.words}"
    if settings and all(each.status == "unchanged" for each in settings):
        yield "nothing to change at Supabase"


def register(api: ManagementApi, issuers: Sequence[str]) -> Setting:
    """Adds a provider for each issuer without one. Raises SupabaseFailed."""
    found = api.providers()
    missing = [issuer for issuer in issuers if not of_issuer(found, issuer)]
    if not missing:
        return Setting(PROVIDER, "unchanged", said_of(found, issuers))
    for issuer in missing:
        _add(api, issuer)

    def are_there(seen: Sequence[Provider]) -> bool:
        return all(any(each.has_keys for each in of_issuer(seen, issuer)) for issuer in issuers)

    found = read_back(api, api.providers, are_there)
    if lost := [issuer for issuer in missing if not of_issuer(found, issuer)]:
        raise SupabaseFailed(f"Supabase does not list {', '.join(lost)}, which was added: run this again")
    return Setting(PROVIDER, "set", f"from now on, {said_of(found, issuers)}")


def expose_mirror(api: ManagementApi, database_url: str) -> Setting:
    """Exposes the mirror's schema, if it is in the database of the project. Raises SupabaseFailed."""
    schema, reason = schema_to_expose(database_url, api.http.ref)
    return expose(api, schema) if schema else Setting(SCHEMAS, "skipped", reason)


def expose(api: ManagementApi, schema: str) -> Setting:
    """Adds the schema behind the exposed schemas, unless it is one of them. Raises SupabaseFailed."""
    found = api.schemas()
    if not found:
        words = "the Data API is off: switch it on in Supabase's dashboard, Integrations > Data API, and run this again"
        return Setting(SCHEMAS, "skipped", words)
    is_new = schema not in found
    if is_new:
        wanted = [*found, schema]
        api.serve(wanted)
        found = read_back(api, api.schemas, wanted.__eq__)
    if schema not in found:
        raise SupabaseFailed(f"Supabase does not list {schema}, which was added: run this again")
    words = f"{'from now on, ' if is_new else ''}Supabase's API serves {schema}"
    if serves_machinery(found):
        words += f"; take {_MACHINERY} out of the exposed schemas, because it is for no app"
    return Setting(SCHEMAS, "set" if is_new else "unchanged", words)


def schema_to_expose(database_url: str, ref: str) -> tuple[str, str]:
    """The name of the mirror's schema in the database of a project, or an empty name and the reason."""
    if not database_url:
        return "", f"the name of the mirror's schema is read from the database: name it with {DATABASE_URL}"
    if ref_in_connection_string(database_url) != ref:
        return "", f"{DATABASE_URL} does not name the project {ref}: take the connection string of its dashboard"
    try:
        with open_database(database_url) as connection:
            schema = recorded_schema(connection)
            is_there = bool(schema) and connection.execute(_EXISTS, [schema]).fetchone() == (True,)
    except (DatabaseFailed, SetUpWrong) as error:
        return "", f"the database cannot be read: {error}"
    return (schema or DEFAULT, "") if is_there else ("", "there is no mirror yet: run clerk-supabase migrate first")


def of_issuer(providers: Sequence[Provider], issuer: str) -> list[Provider]:
    """The providers with the keys of an issuer."""
    return [
        each
        for each in providers
        if each.issuer.rstrip("/") == issuer or (not each.issuer and each.jwks_url == jwks_url_of(issuer))
    ]


def said_of(providers: Sequence[Provider], issuers: Sequence[str]) -> str:
    """A sentence about registered issuers, with missing keys and the providers of others."""
    ours = [each for issuer in issuers for each in of_issuer(providers, issuer)]
    said = f"Supabase takes the tokens of {' and '.join(issuers)}"
    if not all(each.has_keys for each in ours):
        said += "; it has not read all keys yet"
    if any(len(of_issuer(providers, issuer)) > 1 for issuer in issuers):
        said += "; an issuer is registered twice, and once is enough"
    if names := [each.name for each in providers if each not in ours]:
        said += f"; it also takes the tokens of {', '.join(names)}, which stay"
    return said


def serves_machinery(schemas: Sequence[str]) -> bool:
    """Tells whether the Data API serves the schema that is for no app."""
    return _MACHINERY in schemas


def _made(name: str, make: Callable[[], Setting]) -> Setting:
    """The setting, or its failure. Raises TokenNotTaken, because no other setting can succeed."""
    try:
        return make()
    except TokenNotTaken:
        raise
    except SupabaseFailed as error:
        return Setting(name, "failed", str(error))


def _add(api: ManagementApi, issuer: str) -> None:
    """Adds a provider. After a failure, looks whether the provider is there all the same. Raises SupabaseFailed."""
    for pause in _PAUSES:
        try:
            api.add_provider(issuer)
        except SupabaseFailed as error:
            if not api.http.rest(pause):
                raise
            # Carried out without an answer, or another `setup` was faster.
            if not of_issuer(api.providers(), issuer):
                if isinstance(error, SupabaseUnavailable) and pause <= _LONGEST_PAUSE_SECONDS:
                    continue
                raise
        return


def read_back(api: ManagementApi, read: Callable[[], Value], is_as_wanted: Callable[[Value], bool]) -> Value:
    """The value as soon as it is as wanted, or the last value seen. Raises SupabaseFailed."""
    value = read()
    for pause in _PAUSES:
        if is_as_wanted(value) or not api.http.rest(pause):
            break
        value = read()
    return value
