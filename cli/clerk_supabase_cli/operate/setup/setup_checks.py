"""Checks of a Clerk instance: the conditions under which Supabase accepts its tokens."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import urllib3

from clerk_supabase.errors import KeysUnavailable, TokenRejected
from clerk_supabase.settings import issuers_in
from clerk_supabase.tokens.publishable_key import FrontendApi, jwks_url_of
from clerk_supabase.tokens.verifiers import IssuerChoice, jwks

# The Supabase CLI's form of a Clerk domain. https://github.com/supabase/cli, pkg/config/config.go
_DEVELOPMENT: Final = re.compile(r"[a-z0-9-]+\.clerk\.accounts\.dev")
_PRODUCTION: Final = re.compile(r"clerk(\.[a-z0-9-]+){2,}")
_TIMEOUT: Final = urllib3.Timeout(connect=5, read=5)
_LARGEST_DOCUMENT: Final = 65_536

Status = str
OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check."""

    name: str
    status: Status
    words: str


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance seen at one of its issuers: the address in the publishable key, or a proxy for that address."""

    host: str
    issuer: str

    @classmethod
    def of(cls, named: FrontendApi, urls: str = "") -> list[Instance]:
        """*urls*: issuers instead of the issuer in the key, separated by commas. Raises SettingsError."""
        issuers = issuers_in(urls, "ClerkFrontendApiUrl (--frontend-api-url)") or (named.issuer,)
        return [cls(named.host, issuer) for issuer in issuers]


def checks(instances: Sequence[Instance], token: str = "") -> Iterator[Check]:
    """Runs all checks, even after a failed check."""
    for instance in instances:
        yield keys(instance)
        yield discovery(instance)
    yield domain(instances[0])
    yield role(instances, token)


def obstacle_to_register(found: Iterable[Check]) -> str:
    """The reason why the instance should not be registered at Supabase yet; empty for good keys and a good document."""
    bad = [check.name for check in found if check.status == FAILED and check.name in {"keys", "discovery"}]
    return f"not registered, because a check failed: {' and '.join(dict.fromkeys(bad))}" if bad else ""


def config_toml(instance: Instance) -> str:
    """The lines for supabase/config.toml."""
    return f'[auth.third_party.clerk]\nenabled = true\ndomain = "{instance.host}"\n'


def keys(instance: Instance) -> Check:
    """Checks that Clerk's public keys can be fetched."""
    url = jwks_url_of(instance.issuer)
    try:
        found = jwks(url).current()
    except KeysUnavailable:
        return Check(
            "keys",
            FAILED,
            f"no signing key could be fetched from {url}: {_why_no_keys(urlsplit(url).hostname or '')}",
        )
    return Check("keys", OK, f"{len(found.by_kid)} signing key(s) at {url}")


def _why_no_keys(host: str) -> str:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return (
            f"DNS has no address of {host}, which --publishable-key names: copy the key again from Clerk's dashboard "
            "(API keys), or check DNS on this machine"
        )
    return "the host has an address: check the network and the proxy of this machine, and try again"


def discovery(instance: Instance) -> Check:
    """Checks that the discovery document, which Supabase reads first, names this issuer and these keys."""
    url = f"{instance.issuer}/.well-known/openid-configuration"
    try:
        document = _fetched(url)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Check("discovery", FAILED, f"{url}: {type(error).__name__}; Supabase reads this document first")
    if not isinstance(document, dict) or document.get("issuer") != instance.issuer:
        return Check("discovery", FAILED, f"{url} names another issuer: Supabase would reject tokens")
    if document.get("jwks_uri") != jwks_url_of(instance.issuer):
        return Check("discovery", FAILED, f"{url} says that the keys are elsewhere (jwks_uri)")
    return Check("discovery", OK, f"{url} names the issuer {instance.issuer}")


def domain(instance: Instance) -> Check:
    """Checks that Supabase takes the domain."""
    if _DEVELOPMENT.fullmatch(instance.host) or _PRODUCTION.fullmatch(instance.host):
        return Check("domain", OK, f"the Supabase CLI takes {instance.host}")
    words = (
        f"the Supabase CLI takes clerk.<your domain> or <name>.clerk.accounts.dev, not {instance.host}: "
        "a proxied Frontend API cannot be used with `supabase start`"
    )
    return Check("domain", FAILED, words)


def role(instances: Sequence[Instance], token: str) -> Check:
    """Checks that a session token makes its bearer `authenticated` at Supabase, and names the token's version."""
    if not token:
        return Check("role", SKIPPED, "no token was given (--token -), so role: authenticated was not checked")
    try:
        claims = IssuerChoice.of(instance.issuer for instance in instances).verify(token)
    except (TokenRejected, KeysUnavailable) as error:
        return Check("role", FAILED, f"the token is not good: {error}; see: clerk-supabase token -")
    if claims.role != "authenticated":
        words = "the session token has no role: authenticated; activate Supabase at dashboard.clerk.com/setup/supabase"
        return Check("role", FAILED, words)
    words = f"the session token has role: authenticated, in version {claims.version.removeprefix('v')}"
    if claims.version != "v2":
        return Check("role", WARNING, f"{words}, which Clerk has deprecated; its dashboard changes it under Updates")
    return Check("role", OK, words)


def _fetched(url: str) -> object:
    with urllib3.PoolManager(num_pools=1, retries=False) as http:
        response = http.request("GET", url, timeout=_TIMEOUT, redirect=False, preload_content=False)
        try:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            document: object = json.loads(response.read(_LARGEST_DOCUMENT))
            return document
        finally:
            response.close()
