"""Credentials of an environment that Lambda has restored from a snapshot: a local address has them, not variables.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import msgspec
from awscrt.auth import AwsCredentials

ADDRESS: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_TOKEN: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105 - the name of a variable
_TIMEOUT_SECONDS: Final = 1.0
_OK: Final = 200
# A request that is signed now must still be valid when it arrives.
_MARGIN: Final = timedelta(minutes=5)


class _Told(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: datetime


class ContainerCredentials:
    """The newest credentials. Call the object for each request; only shortly before they expire it asks again."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._told: _Told | None = None

    def __call__(self) -> AwsCredentials:
        """Credentials that are valid now. Raises OSError, http.client.HTTPException or msgspec.MsgspecError."""
        if self._told is None or datetime.now(UTC) >= self._told.expiration - _MARGIN:
            self._told = self._ask()
        told = self._told
        return AwsCredentials(told.access_key_id, told.secret_access_key, told.token, told.expiration)

    def _ask(self) -> _Told:
        address = urlsplit(self._environment[ADDRESS])
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_SECONDS)
        try:
            headers = {"Authorization": self._environment.get(_TOKEN, "")}
            connection.request("GET", address._replace(scheme="", netloc="").geturl(), headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != _OK:
            raise http.client.HTTPException(f"the address of the credentials answered {answer.status}")
        return msgspec.json.decode(content, type=_Told)
