"""The public keys of one token issuer, fetched from its JWKS and kept.

A check of a token uses the network the first time, then every five minutes, and at most once a minute when a key is
unknown or a signature does not match: Clerk's `kid` is the id of the instance, so a rotated key may keep its name.
Keys belong to their source; nothing is shared between issuers.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import urllib3

from clerk_supabase.errors import KeysUnavailable
from clerk_supabase.settings import SettingsError
from clerk_supabase.version import USER_AGENT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

TTL_SECONDS: Final = 300.0
RECHECK_SECONDS: Final = 60.0
# Without any keys, the source is asked again soon; forged tokens share that request.
RETRY_SECONDS: Final = 4.0
# An issuer whose keys cannot be fetched for longer than this issues no tokens either.
STALE_SECONDS: Final = 3600.0
MAX_DOCUMENT_BYTES: Final = 65_536
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 3.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADERS: Final = {"accept": "application/json", "user-agent": USER_AGENT}


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """The keys with which an issuer signs at one moment."""

    by_kid: Mapping[str, Sequence[RSAPublicKey]] = field(default_factory=dict)
    of_any_kid: Sequence[RSAPublicKey] = ()
    """Keys without a name, such as a PEM."""

    def candidates(self, kid: object) -> Sequence[RSAPublicKey]:
        """The keys for a token with this `kid`; during a rotation, two keys may share a name."""
        return self.by_kid.get(kid, self.of_any_kid) if isinstance(kid, str) else self.of_any_kid


class KeySource(Protocol):
    """A source of the keys of a verifier."""

    def current(self) -> KeySet:
        """The known keys. Raises KeysUnavailable without a usable key."""

    def newer_than(self, known: KeySet) -> KeySet | None:
        """Other keys than the known keys, none of which matches a signature; None: there are no other keys."""


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """Configured keys: no network, and no rotation without a deploy."""

    keys: KeySet

    def current(self) -> KeySet:
        """The configured keys."""
        return self.keys

    def newer_than(self, known: KeySet) -> None:
        """None: configured keys never change."""


def _is_safe(url: str) -> bool:
    """Tells whether nobody on the way can change the keys: HTTPS, or this machine's own HTTP."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # A bracket without an IPv6 address.
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


class Jwks:
    """The keys behind one URL, shared by all threads."""

    def __init__(self, url: str, parse: Callable[[bytes], KeySet], clock: Callable[[], float] = time.monotonic) -> None:
        """*parse* reads a document, and raises ValueError for a document without a usable key.

        Raises SettingsError unless the URL is HTTPS; this machine's own may be HTTP.
        """
        if not _is_safe(url):
            raise SettingsError(f"the JWKS address must begin with https://: {url}")
        self._url = url
        self._parse = parse
        self._clock = clock
        self._http = urllib3.PoolManager(num_pools=1, headers=_HEADERS)
        self._lock = threading.Lock()
        self._keys = KeySet()
        self._usable_until = -math.inf
        self._refresh_after = -math.inf
        self._recheck_after = -math.inf

    def current(self) -> KeySet:
        """The keys, at most five minutes old while the issuer answers, and an hour more while it is unavailable.

        Raises KeysUnavailable.
        """
        now = self._clock()
        if now >= self._refresh_after:
            # One thread fetches. The other threads use the keys at hand or, without keys, wait.
            if self._lock.acquire(blocking=now >= self._usable_until):
                try:
                    self._refresh()
                finally:
                    self._lock.release()
            now = self._clock()
        if now >= self._usable_until:
            raise KeysUnavailable(f"no keys from {self._url}")
        return self._keys

    def newer_than(self, known: KeySet) -> KeySet | None:
        """Fetches the keys again, at most once a minute for all threads; None: the keys are unchanged."""
        with self._lock:
            now = self._clock()
            if self._keys is known and now >= self._recheck_after:
                self._recheck_after = now + RECHECK_SECONDS
                self._try_to_fetch()
            return None if self._keys is known else self._keys

    def _refresh(self) -> None:
        now = self._clock()
        # Another thread may have fetched the keys while this thread waited.
        if now >= self._refresh_after and not self._try_to_fetch():
            self._refresh_after = self._clock() + (RECHECK_SECONDS if now < self._usable_until else RETRY_SECONDS)

    def _try_to_fetch(self) -> bool:
        try:
            keys = self._parse(self._download())
        except (urllib3.exceptions.HTTPError, ValueError, OSError):
            # The old keys may still be right, and are better than no answer.
            return False
        now = self._clock()
        self._keys = keys
        self._usable_until = now + TTL_SECONDS + STALE_SECONDS
        self._refresh_after = now + TTL_SECONDS
        return True

    def _download(self) -> bytes:
        deadline = time.monotonic() + _CONNECT_SECONDS + _READ_SECONDS
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
        response = self._http.request("GET", self._url, timeout=timeout, retries=False, preload_content=False)
        try:
            # Without retries no redirect is followed either.
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            document = b""
            # Piece by piece, with limits: the server must decide neither the size nor the time.
            while piece := response.read1(MAX_DOCUMENT_BYTES):
                document += piece
                if len(document) > MAX_DOCUMENT_BYTES or time.monotonic() > deadline:
                    raise ValueError("too large or too slow")
            return document
        finally:
            # A half-read connection must not go back into the pool; the next fetch is minutes away anyway.
            response.close()
