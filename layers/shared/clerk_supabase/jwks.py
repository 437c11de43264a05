"""The public keys of one token issuer, fetched from its JWKS and kept.

Whoever checks a token meets no network but for the first time, every five minutes, and once a minute at most when a key
is unknown or a signature does not match: Clerk's `kid` is the id of the instance, so a rotated key may keep its name.
Keys belong to the source they came from; nothing is shared between issuers.
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

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

TTL_SECONDS: Final = 300.0
RECHECK_SECONDS: Final = 60.0
# Who has no keys at all asks again soon; forged tokens share one look.
RETRY_SECONDS: Final = 4.0
# An issuer whose keys cannot be fetched for longer than that issues no tokens either.
STALE_SECONDS: Final = 3600.0
MAX_DOCUMENT_BYTES: Final = 65_536
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 3.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADERS: Final = {"accept": "application/json", "user-agent": "clerk-supabase-sync"}


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """What an issuer signs with at one moment."""

    by_kid: Mapping[str, Sequence[RSAPublicKey]] = field(default_factory=dict)
    of_any_kid: Sequence[RSAPublicKey] = ()
    """Those that came without a name, as a PEM does."""

    def candidates(self, kid: object) -> Sequence[RSAPublicKey]:
        """The keys that a token with this `kid` may be signed with; during a rotation two may share a name."""
        return self.by_kid.get(kid, self.of_any_kid) if isinstance(kid, str) else self.of_any_kid


class KeySource(Protocol):
    """Where a verifier has its keys from."""

    def current(self) -> KeySet:
        """The keys as far as known. Raises KeysUnavailable."""

    def newer_than(self, known: KeySet) -> KeySet | None:
        """Other keys than these, when there may be some: after a signature did not match any of them."""


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """Keys that were configured: no network, and no rotation without a deploy."""

    keys: KeySet

    def current(self) -> KeySet:
        """Always the same."""
        return self.keys

    def newer_than(self, known: KeySet) -> None:
        """There never are."""


class Jwks:
    """The keys behind one URL. Threads share it."""

    def __init__(self, url: str, parse: Callable[[bytes], KeySet], clock: Callable[[], float] = time.monotonic) -> None:
        """*parse* reads a document and raises ValueError when no key in it is of use.

        Raises SettingsError unless the URL is HTTPS; this machine's own may be HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
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
        """The keys, at most five minutes old while the issuer answers, and an hour more while it does not.

        Raises KeysUnavailable.
        """
        now = self._clock()
        if now >= self._refresh_after:
            # One thread fetches. The others go on with what is there, or wait if that is nothing.
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
        """Looks again, once a minute at most; another thread's look counts."""
        with self._lock:
            now = self._clock()
            if self._keys is known and now >= self._recheck_after:
                self._recheck_after = now + RECHECK_SECONDS
                self._try_to_fetch()
            return None if self._keys is known else self._keys

    def _refresh(self) -> None:
        now = self._clock()
        # Another thread may have done it while this one waited.
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
            # Piece by piece: neither size nor time is for the other side to decide.
            while piece := response.read1(MAX_DOCUMENT_BYTES):
                document += piece
                if len(document) > MAX_DOCUMENT_BYTES or time.monotonic() > deadline:
                    raise ValueError("too large or too slow")
            return document
        finally:
            # Never back into the pool half-read; the next fetch is minutes away anyway.
            response.close()
