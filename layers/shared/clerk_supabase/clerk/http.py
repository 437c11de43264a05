"""GET requests to Clerk's Backend API within its rate limit. No other module of Clerk's API knows urllib3.

Sources: https://clerk.com/docs/reference/backend-api and .../guides/how-clerk-works/system-limits
"""

from __future__ import annotations

import ipaddress
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from clerk_supabase.clerk.address import BASE_URL
from clerk_supabase.clerk.pages import Unreadable
from clerk_supabase.clerk.rate_limit import TokenBucket
from clerk_supabase.errors import (
    BillingUnavailable,
    ClerkKeyRejected,
    ClerkRejected,
    ClerkUnavailable,
    DomainsUnavailable,
    GoneFromClerk,
    OrganizationsUnavailable,
    OutOfTime,
    TooLongToWait,
)
from clerk_supabase.telemetry import logger
from clerk_supabase.version import USER_AGENT

if TYPE_CHECKING:
    from clerk_supabase.credentials import Credential

API_VERSION: Final = "2026-05-12"
# Requests in ten seconds, by the prefix of the secret key.
_LIMITS: Final = {"sk_live_": 1000, "sk_test_": 100}
_WINDOW_SECONDS: Final = 10.0
_DEFAULT_SHARE: Final = 0.5

_ATTEMPTS: Final = 6
_FIRST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 20.0
# As long as the function may run: no invocation outlasts a longer pause. Clerk's own windows are 10 seconds long.
_LONGEST_WAIT_SECONDS: Final = 900.0
_CONNECT_SECONDS: Final = 5.0
# For one read. Clerk needs seconds for a page of 500 in a large instance.
_READ_SECONDS: Final = 30.0
# More than the threads of a run need: a connection is opened when a thread needs one, and kept.
_CONNECTIONS: Final = 32
_CHUNK: Final = 1 << 18
# 500 users with the largest metadata that Clerk allows are some 15 MB.
_LARGEST_BODY: Final = 32 << 20
_LONGEST_CODE: Final = 100
_DAY: Final = 86_400_000
# No other code means this: an expired plan or a firewall, too, answers an organization path with 402 or 403.
_SWITCHED_OFF: Final = "organization_not_enabled_in_instance"
_DOMAINS_SWITCHED_OFF: Final = "organization_domains_not_enabled"
# Of any feature, so only the path shows that Billing is meant: https://clerk.com/docs/guides/development/errors/backend-api
_FEATURE_SWITCHED_OFF: Final = "feature_not_enabled"

Parameters = Sequence[tuple[str, str | int]]
Read = TypeVar("Read")


class ClerkHttp:
    """Requests to one Clerk instance. Thread-safe: all threads share its connections and its part of the rate limit."""

    def __init__(
        self,
        key: Credential,
        base_url: str = BASE_URL,
        *,
        share: float = _DEFAULT_SHARE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        wall_clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`share`: the part of Clerk's rate limit to use, above 0 and at most 1; the app keeps the rest.

        Raises ValueError for an impossible share or base URL.
        """
        if not 0 < share <= 1:
            raise ValueError(f"the share of Clerk's rate limit must be above 0 and at most 1, not {share}")
        self._pool = urllib3.connection_from_url(_checked(base_url), maxsize=_CONNECTIONS, retries=False)
        self._base_path = urlsplit(base_url).path.rstrip("/")
        self._key = key
        self._key_lock = threading.Lock()
        self._share = share
        self._bucket: TokenBucket | None = None
        self._clock = clock
        self._sleep = sleep
        self._wall_clock = wall_clock
        self._chance = chance
        self._calls = 0

    @property
    def calls(self) -> int:
        """Requests sent until now, the repeated ones included."""
        return self._calls

    @property
    def requests_per_second(self) -> float:
        """The requests per second, on average, in this share of the rate limit. Raises ClerkKeyRejected."""
        return self._share * _LIMITS[self._current_key()[:8]] / _WINDOW_SECONDS

    def close(self) -> None:
        """Closes all connections; the next request opens a new connection."""
        self._pool.close()

    def get(
        self,
        path: str,
        parameters: Parameters = (),
        *,
        read: Callable[[bytes, int], Read],
        deadline: float = math.inf,
    ) -> tuple[Read, int]:
        """Send a GET request; return the result of `read(body, moment)`, and the moment (see `observed_at` of an Item).

        The method waits until the rate limit allows the request, and retries after passing failures until `deadline`,
        a moment of the monotonic clock. Raises OutOfTime at the deadline; TooLongToWait when Clerk asks for a pause of
        more than 15 minutes; ClerkUnavailable when the retries failed; a ClerkRejected when a retry cannot help.
        """
        failures = 0
        last: _TryAgain | None = None
        while True:
            self._wait_for_turn(deadline, last)
            try:
                return self._authorized(path, parameters, read, deadline)
            except _TooFast as error:
                last = error
                _tell_long_pause(error)
                self._limit().pause(error.seconds + self._chance())
            except _TryAgain as error:
                last = error
                failures += 1
                if failures == _ATTEMPTS:
                    raise ClerkUnavailable(f"GET {path}: {error} ({failures} times)") from error
                _tell_long_pause(error)
                self._rest(max(error.seconds, self._backoff(failures)), deadline, last)

    # Time

    def _wait_for_turn(self, deadline: float, last: _TryAgain | None) -> None:
        while (seconds := self._limit().take()) > 0:
            self._rest(seconds, deadline, last)
        self._rest(0, deadline, last)

    def _rest(self, seconds: float, deadline: float, last: _TryAgain | None) -> None:
        if self._clock() + seconds >= deadline:
            why = f"; last: {last}" if last else ""
            raise OutOfTime(f"the time for reading from Clerk is up{why}") from last
        if seconds > 0:
            self._sleep(seconds)

    def _backoff(self, failures: int) -> float:
        return self._chance() * min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0**failures)

    def _limit(self) -> TokenBucket:
        if self._bucket is None:
            key = self._current_key()
            with self._key_lock:
                if self._bucket is None:
                    self._bucket = TokenBucket(self._share * _LIMITS[key[:8]], _WINDOW_SECONDS, self._clock)
        return self._bucket

    # The key

    def _authorized(
        self, path: str, parameters: Parameters, read: Callable[[bytes, int], Read], deadline: float
    ) -> tuple[Read, int]:
        key = self._current_key()
        try:
            return self._once(path, parameters, key, read, deadline)
        except ClerkKeyRejected:
            newer = self._newer_key(key)
            if newer is None:
                raise
        return self._once(path, parameters, newer, read, deadline)

    def _newer_key(self, rejected: str) -> str | None:
        """A newer key than the rejected key, if any. Looks at most once for all threads with the same rejected key."""
        with self._key_lock:
            if _checked_key(self._key.value()) == rejected:
                self._key.changed()
            key = _checked_key(self._key.value())
            return None if key == rejected else key

    def _current_key(self) -> str:
        with self._key_lock:
            return _checked_key(self._key.value())

    # One request

    def _once(
        self, path: str, parameters: Parameters, key: str, read: Callable[[bytes, int], Read], deadline: float
    ) -> tuple[Read, int]:
        status, headers, body = self._exchange(path, parameters, key, deadline)
        observed_at = self._moment(headers.get("date", ""))
        if status == 200:
            try:
                return read(body, observed_at), observed_at
            except Unreadable as error:
                raise _TryAgain(f"the answer is {error}") from error
        if status == 429:
            raise _TooFast("Clerk's rate limit is reached (429)", _seconds(headers, _WINDOW_SECONDS))
        if status in (408, 425) or status >= 500:
            raise _TryAgain(f"Clerk answered {status}", _seconds(headers, 0))
        raise _rejection(status, path, body, observed_at)

    def _exchange(
        self, path: str, parameters: Parameters, key: str, deadline: float
    ) -> tuple[int, urllib3.HTTPHeaderDict, bytes]:
        left = max(0.001, deadline - self._clock())
        timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, left), read=min(_READ_SECONDS, left))
        with self._key_lock:
            self._calls += 1
        try:
            response = self._pool.urlopen(
                "GET",
                f"{self._base_path}{path}?{urlencode(parameters)}" if parameters else f"{self._base_path}{path}",
                headers={
                    "authorization": f"Bearer {key}",
                    "clerk-api-version": API_VERSION,
                    "accept": "application/json",
                    # To unpack a page takes longer than to parse the page.
                    "accept-encoding": "identity",
                    "user-agent": USER_AGENT,
                },
                redirect=False,
                timeout=timeout,
                preload_content=False,
            )
            with response:
                body = self._body(response, deadline)
                response.release_conn()
        except (HTTPError, OSError) as error:
            raise _TryAgain(f"the connection failed: {error}") from error
        return response.status, response.headers, body

    def _body(self, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        """Read the whole body. The deadline also ends the body of a server that sends drop by drop."""
        parts: list[bytes] = []
        size = 0
        # Not read(), which waits for all bytes.
        while part := response.read1(_CHUNK, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > _LARGEST_BODY:
                raise ClerkUnavailable(f"the answer is larger than {_LARGEST_BODY >> 20} MiB")
            if self._clock() >= deadline:
                raise OutOfTime("the time for reading from Clerk is up; an answer was still coming in")
        return b"".join(parts)

    def _moment(self, date: str) -> int:
        """The `Date` of an answer in milliseconds; 0 if the header is missing or cannot be true.

        Our own clock serves to reject impossible dates: a version from the far future would win over all true versions.
        """
        try:
            milliseconds = int(parsedate_to_datetime(date).timestamp() * 1000)
        except (ValueError, TypeError, OverflowError):
            return 0
        return milliseconds if 0 <= milliseconds <= self._wall_clock() * 1000 + _DAY else 0


class _TryAgain(Exception):
    """The same request may succeed later, at the earliest in so many seconds."""

    def __init__(self, reason: str, seconds: float = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class _TooFast(_TryAgain):
    """No request may be sent for so many seconds."""


def _tell_long_pause(asked: _TryAgain) -> None:
    """Log a pause longer than one window of Clerk's: without a word, a command would seem to hang."""
    if asked.seconds > _WINDOW_SECONDS:
        logger.warning("waiting, because Clerk asks for a pause", seconds=asked.seconds, reason=str(asked))


def _checked(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme == "https" and parts.hostname:
        return base_url
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return base_url
    raise ValueError(
        f"the address of Clerk's Backend API must begin with https://, unless it is on this machine: {base_url}"
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_key(secret: str) -> str:
    key = secret.strip()
    if key[:8] not in _LIMITS or not key.isascii() or not key.isprintable():
        raise ClerkKeyRejected(
            "the secret does not hold a secret key of Clerk (sk_live_... or sk_test_...): "
            "copy it from API keys in Clerk's dashboard"
        )
    return key


def _seconds(headers: urllib3.HTTPHeaderDict, default: float) -> float:
    """The pause in `Retry-After`, which Clerk sends in whole seconds. Raises TooLongToWait."""
    value = headers.get("retry-after", "").strip()
    seconds = float(value) if value.isascii() and value.isdecimal() else default
    if seconds > _LONGEST_WAIT_SECONDS:
        raise TooLongToWait(
            f"Clerk asks for a pause of {value[:_LONGEST_CODE]} seconds (Retry-After), "
            f"longer than {_LONGEST_WAIT_SECONDS:.0f}"
        )
    return seconds


def _rejection(status: int, path: str, body: bytes, observed_at: int) -> ClerkRejected:
    codes, known = _codes(body)
    said = f"GET {path}: Clerk answered {status}" + (f" ({codes})" if codes else "")
    if status == 401:
        return ClerkKeyRejected(f"{said}: put the instance's present secret key into the secret")
    if _SWITCHED_OFF in known:
        return OrganizationsUnavailable(f"{said}: organizations are switched off in Clerk's dashboard")
    if _DOMAINS_SWITCHED_OFF in known:
        return DomainsUnavailable(f"{said}: verified domains are switched off in Clerk's dashboard")
    if _FEATURE_SWITCHED_OFF in known and "billing" in path.split("/"):
        return BillingUnavailable(f"{said}: Billing is switched off in Clerk's dashboard")
    if status == 404 and "resource_not_found" in known:
        return GoneFromClerk(said, observed_at)
    if status == 402:
        return ClerkRejected(f"{said}: the plan of the instance at Clerk does not include this")
    if not known:
        return ClerkRejected(f"{said}, and not in Clerk's format: is the address of its Backend API right?")
    return ClerkRejected(f"{said}: this is a fault of clerk-supabase-sync, or Clerk has changed")


class _ApiError(msgspec.Struct):
    code: Any = None
    meta: Any = None


class _ApiErrors(msgspec.Struct):
    errors: list[_ApiError] = []


def _codes(body: bytes) -> tuple[str, set[str]]:
    """The codes of Clerk's errors, for people and for programs. Its messages may tell personal data."""
    try:
        errors = msgspec.json.decode(body, type=_ApiErrors).errors
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", set()
    codes: list[str] = []
    for error in errors:
        name = error.meta.get("param_name") if isinstance(error.meta, dict) else None
        codes.append(str(error.code)[:_LONGEST_CODE] + (f" {name}"[:_LONGEST_CODE] if name else ""))
    return ", ".join(codes), {str(error.code) for error in errors}
