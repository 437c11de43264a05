"""Third-party providers and exposed schemas of a Supabase project, in Supabase's Management API.

`GET` and `POST /v1/projects/{ref}/config/auth/third-party-auth` list and create providers, by `oidc_issuer_url`,
`jwks_url` or `custom_jwks`. `GET` and `PATCH /v1/projects/{ref}/postgrest` read and change `db_schema`, names separated
by commas; a `PATCH` leaves values alone that its body does not name. The answer to this `GET` also holds `jwt_secret`,
with which anybody could sign tokens: this module never keeps that value. The answer to a `POST` for an issuer that is
registered already is not documented, so that callers look first.

Source, also of the permissions: packages/api/src/generated/openapi.json in https://github.com/supabase/cli
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.operate.setup.management_http import ManagementHttp, SupabaseFailed

_PROVIDERS: Final = "/config/auth/third-party-auth"
_DATA_API: Final = "/postgrest"


@dataclass(frozen=True, slots=True)
class Provider:
    """A third-party provider, whose tokens the project takes."""

    issuer: str
    jwks_url: str
    has_keys: bool
    """False: Supabase has not read the keys of the provider yet."""

    @property
    def name(self) -> str:
        """The address of the provider, for people."""
        return self.issuer or self.jwks_url or "a provider with keys of its own"


@dataclass(frozen=True, slots=True)
class ManagementApi:
    """The two settings of one project."""

    http: ManagementHttp

    def providers(self) -> list[Provider]:
        """All third-party providers of the project. Raises SupabaseFailed."""
        answer = self.http.request("GET", _PROVIDERS, "auth_config_read")
        if not isinstance(answer, list):
            raise _unreadable("list of third-party providers")
        return [_provider(each) for each in answer]

    def add_provider(self, issuer: str) -> None:
        """Adds a provider. A second call may add a second provider of this issuer. Raises SupabaseFailed."""
        self.http.request("POST", _PROVIDERS, "auth_config_write", {"oidc_issuer_url": issuer})

    def schemas(self) -> list[str]:
        """The schemas that the Data API serves, in their order; none if the API is off. Raises SupabaseFailed.

        Supabase's command reads an empty `db_schema` as an API that is off, and takes blanks around names away:
        apps/cli-go/pkg/config/api.go.
        """
        answer = self.http.request("GET", _DATA_API, "data_api_config_read")
        found = answer.get("db_schema") if isinstance(answer, dict) else None
        if not isinstance(found, str):
            raise _unreadable("description of the Data API")
        return [name.strip() for name in found.split(",") if name.strip()]

    def serve(self, schemas: list[str]) -> None:
        """Serves these schemas, in this order, and changes no other setting. Raises SupabaseFailed."""
        self.http.request("PATCH", _DATA_API, "data_api_config_write", {"db_schema": ",".join(schemas)})


def _provider(said: object) -> Provider:
    """A provider of the list. Raises SupabaseFailed."""
    if not isinstance(said, dict):
        raise _unreadable("third-party provider")
    issuer, jwks_url = (said.get(name) or "" for name in ("oidc_issuer_url", "jwks_url"))
    if not isinstance(issuer, str) or not isinstance(jwks_url, str):
        raise _unreadable("third-party provider")
    # The member is absent where the API does not tell, and null until Supabase has read the keys.
    return Provider(issuer, jwks_url, has_keys=said.get("resolved_at", "") is not None)


def _unreadable(what: str) -> SupabaseFailed:
    return SupabaseFailed(f"Supabase's Management API answered no {what}: run this again later")
