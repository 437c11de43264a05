"""Signed requests to a service of AWS over one connection. Signer, HTTP client and credentials are AWS's own."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as NotInTime
from datetime import UTC, datetime
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Final

from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignedBodyHeaderType,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.exceptions import AwsCrtError
from awscrt.http import HttpClientConnection, HttpHeaders, HttpRequest
from awscrt.io import (
    ClientBootstrap,
    ClientTlsContext,
    DefaultHostResolver,
    EventLoopGroup,
    SocketOptions,
    TlsContextOptions,
)

from clerk_supabase.aws.addresses import Addresses
from clerk_supabase.aws.endpoints import Endpoint, Service
from clerk_supabase.aws.failures import AwsFailed

# Errors of a request that has begun, errors before, and an unknown name.
_LOST: Final = AwsCrtError, RuntimeError, socket.gaierror

# In one attempt; the next attempt goes on with the next address.
_MOST_ADDRESSES: Final = 2
LOOKUP_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 2.0


class SignedHttp:
    """Requests to one endpoint. The connection stays open between requests. Not for several threads.

    Before the first request there is no connection, no thread and no encryption, which a snapshot would keep.
    """

    def __init__(self, service: Service, endpoint: Endpoint, region: str, environment: Mapping[str, str]) -> None:
        self._service = service
        self._endpoint = endpoint
        self._region = region
        self._credentials = _credentials(environment)
        self._socket_options = SocketOptions()
        self._socket_options.connect_timeout_ms = round(CONNECT_SECONDS * 1000)
        self._connection: HttpClientConnection | None = None
        self._addresses = Addresses(endpoint.host, endpoint.port)
        self._failures = 0
        """The number of addresses that failed; the next connection goes to the address after these."""

    def post(self, headers: Sequence[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer. Raises AwsFailed without an answer in time."""
        try:
            return self._post(headers, body)
        except NotInTime as error:
            # An address that accepts connections and never answers.
            self._failures += self._connection is not None
            self.close()
            raise AwsFailed(f"{self._endpoint.url} did not answer in time") from error
        except _LOST as error:
            self.close()
            raise AwsFailed(f"{self._endpoint.url} could not be reached: {error}") from error

    def close(self) -> None:
        """Ends the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def sign(self, headers: Sequence[tuple[str, str]], body: bytes, moment: datetime) -> HttpRequest:
        """The request with its signature, which is as old as the moment."""
        request = HttpRequest("POST", "/", HttpHeaders([("Host", self._endpoint.authority), *headers]), BytesIO(body))
        signing = AwsSigningConfig(
            algorithm=AwsSigningAlgorithm.V4,
            credentials_provider=self._credentials,
            region=self._region,
            service=self._service.name,
            date=moment,
            signed_body_value=hashlib.sha256(body).hexdigest(),
            signed_body_header_type=AwsSignedBodyHeaderType.NONE,
        )
        signed: HttpRequest = aws_sign_request(request, signing).result(READ_SECONDS)
        return signed

    def _post(self, headers: Sequence[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        if self._connection is not None:
            try:
                return self._answer(self._connection, headers, body)
            except _LOST:
                # A service ends idle connections, also while Lambda has frozen this environment.
                self.close()
        self._connection = self._connect()
        return self._answer(self._connection, headers, body)

    def _connect(self) -> HttpClientConnection:
        """A connection to the first address that accepts one: a VPC endpoint has one address per zone.

        awscrt by itself tries one IPv4 and one IPv6 address, and gives up. A later connection begins with the address
        that accepted the last one.
        """
        addresses = self._addresses.found_within(LOOKUP_SECONDS)
        for _ in addresses[1:_MOST_ADDRESSES]:
            with contextlib.suppress(NotInTime, *_LOST):
                return self._connect_to(addresses[self._failures % len(addresses)])
        return self._connect_to(addresses[self._failures % len(addresses)])

    def _connect_to(self, address: str) -> HttpClientConnection:
        tls = None
        if self._endpoint.is_encrypted:
            tls = _tls().new_connection_options()
            tls.set_server_name(self._endpoint.host)
        place = address, self._endpoint.port
        opening = HttpClientConnection.new(*place, _bootstrap(), self._socket_options, tls)
        try:
            connection: HttpClientConnection = opening.result(CONNECT_SECONDS)
        except (NotInTime, *_LOST):
            self._failures += 1
            raise
        return connection

    def _answer(
        self, connection: HttpClientConnection, headers: Sequence[tuple[str, str]], body: bytes
    ) -> tuple[int, bytes]:
        parts: list[bytes] = []
        request = self.sign(headers, body, datetime.now(UTC))
        stream = connection.request(request, on_body=lambda chunk, **_: parts.append(bytes(chunk)))
        stream.activate()
        status: int = stream.completion_future.result(READ_SECONDS)
        return status, b"".join(parts)


def _credentials(environment: Mapping[str, str]) -> AwsCredentialsProvider:
    """The credentials that Lambda gives a function.

    The chain of all providers needs certificates of the operating system, and Lambda's image has none.
    """
    if not environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return AwsCredentialsProvider.new_environment()
    from clerk_supabase.aws.container_credentials import ContainerCredentials  # noqa: PLC0415 - loads http.client

    return AwsCredentialsProvider.new_delegate(ContainerCredentials(environment))


@functools.cache
def _bootstrap() -> ClientBootstrap:
    loops = EventLoopGroup(1)
    return ClientBootstrap(loops, DefaultHostResolver(loops))


@functools.cache
def _tls() -> ClientTlsContext:
    options = TlsContextOptions()
    options.override_default_trust_store_from_path(None, str(_trusted()))
    return ClientTlsContext(options)


def _trusted() -> Path:
    """The certificates that boto3 trusts: nobody knows which certificates an operating system has."""
    # Only finds the folder: botocore is not imported.
    found = find_spec("botocore")
    if found is None or found.origin is None:
        raise FileNotFoundError("the layer has no botocore, whose certificates are trusted")
    return Path(found.origin).with_name("cacert.pem")
