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
_ATTEMPTS: Final = 3
_MACHINERY: Final = "clerk_sync"
_EXISTS: Final = "select to_regnamespace(%s) is not null"

Status = Literal["set", "unchanged", "failed", "skipped"]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the project, and what became of it."""

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
                *([Setting(PROVIDER, "skipped", obstacle)] if obstacle else [register(api, each) for each in issuers]),
                _expose_mirror(api, access.database_url),
            ]
    except (SupabaseFailed, NoProject) as error:
        return [Setting("supabase", "failed", str(error))]


def shown(settings: Sequence[Setting]) -> Iterator[str]:
    """A line for each setting, and a line if there was nothing to change."""
    for each in settings:
        yield f"{each.status:<10}{each.name}: {each.words}"
    if settings and all(each.status == "unchanged" for each in settings):
        yield "nothing to change at Supabase"


def register(api: ManagementApi, issuer: str) -> Setting:
    """Adds a provider for the issuer, unless there is one. Raises TokenNotTaken."""
    try:
        found = api.providers()
        if of_issuer(found, issuer):
            return Setting(PROVIDER, "unchanged", f"Supabase takes the tokens of {issuer}{remarks(found, issuer)}")
        _add(api, issuer)
        found = _read_back(api, api.providers, lambda seen: any(each.has_keys for each in of_issuer(seen, issuer)))
    except TokenNotTaken:
        raise
    except SupabaseFailed as error:
        return Setting(PROVIDER, "failed", str(error))
    if not of_issuer(found, issuer):
        return Setting(PROVIDER, "failed", f"{issuer} was added, but Supabase does not list it: run this again")
    words = f"Supabase takes the tokens of {issuer} from now on{remarks(found, issuer)}"
    return Setting(PROVIDER, "set", words)


def serve(api: ManagementApi, schema: str) -> Setting:
    """Adds the schema behind the exposed schemas, unless it is one of them. Raises TokenNotTaken."""
    try:
        before = api.schemas()
        if not before:
            words = "the Data API is off; switch it on first: Integrations, Data API, in Supabase's dashboard"
            return Setting(SCHEMAS, "skipped", words)
        if schema in before:
            return Setting(SCHEMAS, "unchanged", f"the Data API serves {schema}{_warning(before)}")
        wanted = [*before, schema]
        api.serve(wanted)
        found = _read_back(api, api.schemas, lambda schemas: schemas == wanted)
    except TokenNotTaken:
        raise
    except SupabaseFailed as error:
        return Setting(SCHEMAS, "failed", str(error))
    if schema not in found:
        return Setting(SCHEMAS, "failed", f"{schema} was added, but Supabase does not list it: run this again")
    return Setting(SCHEMAS, "set", f"the Data API serves {schema} from now on{_warning(found)}")


def exposed_of(access: Access, schemas: Sequence[str]) -> list[str]:
    """Those of the schemas that the Data API of their project serves; none without a token. Raises SupabaseFailed."""
    if not (access.token and schemas and ref_in_connection_string(access.database_url)):
        return []
    with access.api() as api:
        return [name for name in api.schemas() if name in schemas]


def withdraw(access: Access, schemas: Sequence[str]) -> None:
    """Takes schemas out of the exposed schemas; the others keep their order. Raises SupabaseFailed."""
    if not schemas:
        return
    with access.api() as api:
        wanted = [name for name in api.schemas() if name not in schemas]
        api.serve(wanted)
        if set(schemas) & set(_read_back(api, api.schemas, wanted.__eq__)):
            raise SupabaseFailed("nothing was removed: Supabase still lists the exposed schemas as before")


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


def remarks(providers: Sequence[Provider], issuer: str) -> str:
    """Remarks about a registered issuer, each after a semicolon: missing keys, and providers of other issuers."""
    ours = of_issuer(providers, issuer)
    said = "" if any(each.has_keys for each in ours) else "; it has not read the keys yet"
    if names := [each.name for each in providers if each not in ours]:
        said += f"; it also takes the tokens of {', '.join(names)}, which stay"
    return said


def serves_machinery(schemas: Sequence[str]) -> bool:
    """Tells whether the Data API serves the schema that is for no app."""
    return _MACHINERY in schemas


def _expose_mirror(api: ManagementApi, database_url: str) -> Setting:
    schema, reason = schema_to_expose(database_url, api.http.ref)
    return serve(api, schema) if schema else Setting(SCHEMAS, "skipped", reason)


def _add(api: ManagementApi, issuer: str) -> None:
    """Adds a provider. After a request without an answer, looks whether it was carried out. Raises SupabaseFailed."""
    for attempt in range(_ATTEMPTS):
        try:
            api.add_provider(issuer)
        except SupabaseUnavailable:
            if attempt + 1 == _ATTEMPTS or not api.http.rest(_PAUSES[attempt]):
                raise
            if not of_issuer(api.providers(), issuer):
                continue
        return


def _read_back(api: ManagementApi, read: Callable[[], Value], is_as_wanted: Callable[[Value], bool]) -> Value:
    """The value as soon as it is as wanted, or the last value seen. Raises SupabaseFailed."""
    value = read()
    for pause in _PAUSES:
        if is_as_wanted(value) or not api.http.rest(pause):
            break
        value = read()
    return value


def _warning(schemas: Sequence[str]) -> str:
    return f"; remove {_MACHINERY} from the exposed schemas, which no app needs" if serves_machinery(schemas) else ""
