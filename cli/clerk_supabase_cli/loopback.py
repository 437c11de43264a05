"""Tells requests of programs on this machine from requests of web pages in its user's browser.

A server on 127.0.0.1 keeps other machines out, but no web pages: any page may send requests there. A page whose own
name resolves to 127.0.0.1 may read the answers, too, but its requests carry that name as their host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

Headers = Iterable[tuple[str, str]]

_OF_THIS_MACHINE: Final = re.compile(r"https?://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.ASCII)
_THIS_MACHINE: Final = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def is_for_this_machine(target: str, headers: Headers) -> bool:
    """Tells whether a request names this machine, and nothing else, as its host.

    *target* is the unchanged request target: a whole URL names a host of its own, and is rejected.
    """
    hosts = [value for name, value in headers if name.lower() == "host"]
    return target.startswith("/") and len(hosts) == 1 and _THIS_MACHINE.fullmatch(hosts[0]) is not None


def is_from_a_browser(headers: Headers) -> bool:
    """Tells whether a request carries a header that browsers always send and that no page can remove.

    `Sec-Fetch-Mode: cors` alone is from Node.js: beside it, browsers send an origin or a site.
    """
    told = {(name.lower(), value) for name, value in headers} - {("sec-fetch-mode", "cors")}
    return any(name == "origin" or name.startswith("sec-fetch-") for name, _ in told)


def is_origin_of_this_machine(origin: str) -> bool:
    """Tells whether pages of this origin come from this machine."""
    return _OF_THIS_MACHINE.fullmatch(origin) is not None


def may_read(target: str, headers: Headers) -> bool:
    """Tells whether a request comes from a program or from a page of this machine, and not from a foreign page."""
    sent = [(name.lower(), value) for name, value in headers]
    if not is_for_this_machine(target, sent):
        return False
    named = dict(sent)
    # A page on localhost is cross-site to 127.0.0.1, but sends its origin with every request whose answer it reads.
    origin = named.get("origin")
    return named.get("sec-fetch-site") != "cross-site" if origin is None else is_origin_of_this_machine(origin)
