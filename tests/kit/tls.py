"""A Postgres that speaks TLS, with certificates of an authority made for one test."""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_CHUNK: Final = 1 << 16
_PATIENCE_SECONDS: Final = 10.0
_TLS_REQUEST_LENGTH: Final = 8


class Authority:
    """A certificate authority with its files in a folder of the test's."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / f"{name}.pem"
        """The certificate that a client has to trust."""
        self.file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def server(self, address: str) -> ssl.SSLContext:
        """Key and certificate with which a server at this address proves its identity."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        certificate = self._certificate(name, key.public_key()).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        file = self._folder / f"server {address}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + _pem(certificate.sign(self._key, hashes.SHA256())))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class TlsTerminator:
    """Speaks TLS with Postgres's clients and plain text with the server on *target_port*, while the `with` block lasts.

    The embedded server has no TLS of its own. One client at a time is enough here.
    """

    def __init__(self, target_port: int, context: ssl.SSLContext) -> None:
        self._target_port = target_port
        self._context = context
        self._ended = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="tls", daemon=True)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        # Wakes the thread, which waits for a client.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(_PATIENCE_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            # A client that does not trust the certificate breaks the handshake off.
            with client, contextlib.suppress(OSError):
                if self._ended:
                    return
                client.settimeout(_PATIENCE_SECONDS)
                self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        client.recv(_TLS_REQUEST_LENGTH)
        client.sendall(b"S")
        with (
            self._context.wrap_socket(client, server_side=True) as secured,
            socket.create_connection(("127.0.0.1", self._target_port)) as server,
        ):
            while True:
                speaks = (
                    secured if secured.pending() or secured in select.select([secured, server], [], [])[0] else server
                )
                hears = server if speaks is secured else secured
                data = speaks.recv(_CHUNK)
                if not data:
                    return
                hears.sendall(data)
