"""Requests to Supabase's Management API, with retries, its rate limit, and errors that say what to do.

Holds the access token: no error and no repr of this module repeats the token.

- 401 is answered for an unknown token, and 403 for a token without a permission, whose body lists
  `missing_permissions`: https://supabase.com/changelog/scoped-personal-access-tokens-ga
- 120 requests a minute for each user and project; then 429 until `X-RateLimit-Reset`, in seconds:
  https://supabase.com/docs/reference/api/introduction
- `GET /v1/projects/{ref}` names the status of a project, such as `INACTIVE`: packages/api/src/generated/openapi.json in
  https://github.com/supabase/cli
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from clerk_supabase_cli.failure import Failure

if TYPE_CHECKING:
    import httpx

BASE_URL: Final = "https://api.supabase.com"
ACCESS_TOKEN: Final = "SUPABASE_ACCESS_TOKEN"  # noqa: S105 - the name of a variable
"""The variable with the token, as for Supabase's own command: apps/cli-go/internal/utils/access_token.go."""

_TOKENS_PAGE: Final = "https://supabase.com/dashboard/account/tokens"
# Supabase's command knows sbp_ and sbp_oauth_ with 40 hexadecimal digits; scoped tokens are newer than that pattern.
_TOKEN: Final = re.compile(r"sbp_[A-Za-z0-9_]{16,200}")
_PERMISSION: Final = re.compile(r"[a-z_:]{1,60}")
_STATE: Final = re.compile(r"[A-Z_]{1,30}")
_ACTIVE: Final = "ACTIVE_"
_PAUSED: Final = "INACTIVE"

_LARGEST_BODY: Final = 1 << 20
_ATTEMPTS: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_RESET_SECONDS: Final = 60
_LONGEST_MESSAGE: Final = 200
_OF_NETWORK: Final = "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"
_CANNOT_BE_SAID: Final = ("sbp_", "Bearer ")

Method = Literal["GET", "POST", "PATCH"]


class SupabaseFailed(Failure):
    """The Management API did not do what it was asked, for the reason in the message, which holds no secret."""


class TokenNotTaken(SupabaseFailed):
    """The access token is none, or Supabase does not know the token: no other request can succeed."""


class SupabaseUnavailable(SupabaseFailed):
    """No answer, or an error of the server: the request may have been carried out."""


class _Passing(Exception):
    """A failure that another attempt may not meet, in a few words."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reset: str
    """The header with the seconds until the rate limit allows requests again."""
    said: Any
    """The parsed JSON; None for anything else."""

    def member(self, name: str) -> Any:
        """A member of a JSON object; None without it."""
        return self.said.get(name) if isinstance(self.said, dict) else None


class ManagementHttp:
    """Requests about one project. Not thread-safe."""

    def __init__(
        self,
        token: str,
        ref: str,
        base_url: str = BASE_URL,
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """*patience*: the seconds for all requests together, their retries and pauses. Raises SupabaseFailed."""
        if not _TOKEN.fullmatch(token):
            raise TokenNotTaken(
                f"{ACCESS_TOKEN} is no access token of an account, which begins with sbp_: make one at {_TOKENS_PAGE}"
            )
        self.ref = ref
        self._http = _client(_checked(base_url), token)
        self._clock = clock
        self._sleep = sleep
        self._deadline = clock() + patience

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def request(self, method: Method, path: str, permission: str, body: Mapping[str, str] | None = None) -> Any:
        """The JSON of a good answer; None for another body. *permission*: the right that a scoped token needs.

        Raises SupabaseFailed.

        A POST is not repeated after a failure, because the first request may have been carried out.
        """
        attempts = 1 if method == "POST" else _ATTEMPTS
        for attempt in range(attempts):
            try:
                return self._good(self._allowed(method, path, body), permission)
            except _Passing as error:
                reason = str(error)
                if attempt + 1 < attempts and not self.rest(_FIRST_PAUSE_SECONDS * 2**attempt):
                    break
        raise SupabaseUnavailable(
            self._why_inactive()
            or f"Supabase's Management API does not answer ({reason}): see status.supabase.com, or run this again later"
        )

    def rest(self, seconds: float) -> bool:
        """Sleeps; returns False at once if the patience would end before."""
        if self._clock() + seconds > self._deadline:
            return False
        self._sleep(seconds)
        return True

    def _allowed(self, method: Method, path: str, body: Mapping[str, str] | None) -> _Answer:
        """The first answer that is not 429. Raises _Passing, and SupabaseFailed if the wait would be too long."""
        while (answer := self._answer(method, path, body)).status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = _seconds(answer.reset)
            if not self.rest(seconds):
                raise SupabaseFailed(
                    f"Supabase's Management API allows no more requests for {seconds} s (429): run this again then"
                )
        return answer

    def _answer(self, method: Method, path: str, body: Mapping[str, str] | None = None) -> _Answer:
        """One answer, whatever its status below 500. Raises _Passing."""
        import httpx  # noqa: PLC0415 - see _client()

        address = f"/v1/projects/{self.ref}{path}"
        try:
            with self._http.stream(method, address, json=body) as answer:
                content = b""
                for part in answer.iter_raw():
                    content += part
                    if len(content) > _LARGEST_BODY or self._clock() > self._deadline:
                        raise _Passing("its answer does not end")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Only the type: the text may repeat a header.
            raise _Passing(type(error).__name__) from None
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Passing(f"status {answer.status_code}")
        return _Answer(answer.status_code, answer.headers.get("x-ratelimit-reset", ""), _parsed(content))

    def _good(self, answer: _Answer, permission: str) -> Any:
        """The JSON of an answer to a request that was carried out, or None. Raises SupabaseFailed."""
        match answer.status:
            case status if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return answer.said
            case HTTPStatus.UNAUTHORIZED:
                raise TokenNotTaken(
                    f"Supabase does not take the token in {ACCESS_TOKEN} (401), which is mistyped, expired or deleted: "
                    f"make another at {_TOKENS_PAGE}"
                )
            case HTTPStatus.FORBIDDEN:
                raise SupabaseFailed(
                    f"the token in {ACCESS_TOKEN} may not do this in the project {self.ref} (403): make a token with "
                    f"{_missing(answer) or permission} for this project at {_TOKENS_PAGE}"
                )
            case HTTPStatus.NOT_FOUND:
                raise SupabaseFailed(
                    f"Supabase finds no project {self.ref} for the token in {ACCESS_TOKEN} (404): compare the name "
                    "with the address of the project's dashboard"
                )
            case status:
                said = self._why_inactive() or f"Supabase's Management API answered {status}{_message(answer)}"
                raise SupabaseFailed(said)

    def _why_inactive(self) -> str:
        """The explanation for a project that is paused or changes; empty for another project, or without the right."""
        try:
            state = self._answer("GET", "").member("status")
        except _Passing:
            return ""
        if not isinstance(state, str) or not _STATE.fullmatch(state) or state.startswith(_ACTIVE):
            return ""
        if state == _PAUSED:
            return f"the project {self.ref} is paused: restore it in its dashboard, then run this again"
        return f"the project {self.ref} is {state}: run this again as soon as it is active"


def _client(base_url: str, token: str) -> httpx.Client:
    """A client that sends the token. Raises SupabaseFailed."""
    # Loaded here, because all commands load this module, and few reach Supabase.
    import httpx  # noqa: PLC0415

    try:
        return httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {token}", "accept": "application/json", "accept-encoding": "identity"},
            timeout=httpx.Timeout(10, connect=5),
            # Another address must not get the token.
            follow_redirects=False,
        )
    except (OSError, ImportError, ValueError, httpx.InvalidURL) as error:
        # A proxy without HTTP, for example, or a file of certificates that is missing.
        raise SupabaseFailed(
            "Supabase's Management API cannot be asked with the proxy or the certificates of this shell "
            f"({type(error).__name__}): correct or unset {_OF_NETWORK}"
        ) from None


def _checked(base_url: str) -> str:
    """The address, if the token may go there. Raises SupabaseFailed."""
    parts = urlsplit(base_url)
    try:
        is_here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_here = False
    if parts.scheme != "https" and not is_here:
        raise SupabaseFailed("the Management API is asked with https only")
    return base_url


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _seconds(reset: str) -> int:
    """The seconds of a header, at least one and at most the documented minute."""
    is_number = reset.isascii() and reset.isdecimal() and len(reset) < len("1000")
    return max(1, min(int(reset), _LONGEST_RESET_SECONDS)) if is_number else _LONGEST_RESET_SECONDS


def _missing(answer: _Answer) -> str:
    """The permissions that a scoped token lacks; empty if the answer names none."""
    found = answer.member("missing_permissions")
    listed = found if isinstance(found, list) else []
    return " and ".join([each for each in listed if isinstance(each, str) and _PERMISSION.fullmatch(each)][:4])


def _message(answer: _Answer) -> str:
    """The API's own words about an error, unless they could repeat a token."""
    found = answer.member("message")
    if not isinstance(found, str) or any(each in found for each in _CANNOT_BE_SAID):
        return ""
    return f": {found[:_LONGEST_MESSAGE]}"
