"""The cookies that tell browsers apart, and the redirect that renews a session on a server of the app."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from clerk_supabase_cli.loopback import Headers, is_origin_of_this_machine, may_read
from clerk_supabase_cli.standin.frontend.clients import Client
from clerk_supabase_cli.standin.token_mint import SigningKey

CLIENT_COOKIE: Final = "__client"
_YEAR_SECONDS: Final = 365 * 24 * 3600


def may_ask(target: str, headers: Headers) -> bool:
    """Tells whether a page of this machine, or a program, sent a request; a foreign page may only follow a link."""
    is_link = target.startswith("/v1/client/handshake?") and ("sec-fetch-mode", "navigate") in {
        (name.lower(), value) for name, value in headers
    }
    considered = [pair for pair in headers if not (is_link and pair[0].lower() == "sec-fetch-site")]
    return may_read(target, considered)


def origin_of(url: str) -> str:
    """The origin of a page."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_page_of_this_machine(url: str) -> bool:
    """Tells whether a URL leads to this machine, and fits into a header."""
    # urlsplit() skips line breaks, after which a header of the sender's choice would begin.
    if not (url.isascii() and url.isprintable()):
        return False
    try:
        return is_origin_of_this_machine(origin_of(url))
    except ValueError:
        return False


def cookie(header: str, name: str) -> str:
    """The value of a cookie; empty without one."""
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def suffix(publishable_key: str) -> str:
    """The end of the names of an instance's cookies."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:8]


def client_cookies(client: Client, publishable_key: str) -> list[str]:
    """The browser's id, which no script reads, and the moment of the sign-in, which the app's servers read."""
    signed_in = [
        f"{name}={client.signed_in_at}; Path=/; Max-Age={_YEAR_SECONDS}; SameSite=Lax"
        for name in ("__client_uat", f"__client_uat_{suffix(publishable_key)}")
    ]
    return [f"{CLIENT_COOKIE}={client.id}; Path=/; Max-Age={_YEAR_SECONDS}; SameSite=Lax; HttpOnly", *signed_in]


def handshake_cookie(client: Client, token: str, publishable_key: str, key: SigningKey) -> str:
    """The cookie with which a server of the app renews its own cookies. *token*: empty, if nobody is signed in."""
    lifetime = f"Path=/; SameSite=Lax; Max-Age={_YEAR_SECONDS if token else 0}"
    names = ("__session", f"__session_{suffix(publishable_key)}")
    directives: Iterable[str] = [
        *(f"{name}={token}; {lifetime}" for name in names),
        *client_cookies(client, publishable_key)[1:],
        "__clerk_handshake=; Path=/; Max-Age=0",
    ]
    signed = key.sign({"handshake": list(directives)}, cat=None)
    return f"__clerk_handshake={signed}; Path=/; Max-Age=60; SameSite=Lax"
