"""`clerk-supabase token`: checks a token, and makes tokens for this machine."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Final

import click

from clerk_supabase.errors import TokenRejected
from clerk_supabase.settings import SettingsError, issuers_in
from clerk_supabase.tokens.claims import Claims, Organization, legacy_claims, session_claims
from clerk_supabase.tokens.entitlements import how_to_spell
from clerk_supabase.tokens.jwks import FixedKeys, KeySet, KeySource
from clerk_supabase.tokens.publishable_key import frontend_api, jwks_url_of
from clerk_supabase.tokens.verifiers import (
    Compact,
    IssuerChoice,
    LegacyVerifier,
    SessionVerifier,
    jwks,
    keys_in_pem,
    taken_apart,
)
from clerk_supabase_cli.default_command import GroupWithDefault
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.setup.token_report import Report, schema_of
from clerk_supabase_cli.options import optional_database_url_option
from clerk_supabase_cli.printing import say
from clerk_supabase_cli.project import private_place
from clerk_supabase_cli.standin.deliveries import session_event
from clerk_supabase_cli.standin.token_mint import (
    LOCAL_ISSUER,
    LOCAL_JWT_SECRET,
    SYSTEM_PERMISSION,
    Mint,
    SigningKey,
    legacy_token,
    public_key_file,
)
from clerk_supabase_cli.token_argument import token_of

_WELL_KNOWN: Final = "/.well-known/jwks.json"
_ENTITLEMENT: Final = re.compile(r"(u|user|o|org|organization):([^:,\s]+)")


@click.group("token", cls=GroupWithDefault)
def token_command() -> None:
    """Check a token, or make a token for this machine. `token TOKEN` checks, and `token mint` makes.

    \b
    Examples:
      clerk-supabase token -
      clerk-supabase token mint --user user_2abc --org org_2abc
    """


@token_command.command("verify")
@click.argument("given", metavar="TOKEN")
@click.option(
    "--publishable-key",
    envvar="CLERK_PUBLISHABLE_KEY",
    help="Names the issuer and the address of the keys.  [env: CLERK_PUBLISHABLE_KEY]",
)
@click.option(
    "--frontend-api-url",
    envvar="CLERK_FRONTEND_API_URL",
    default="",
    help="Issuers, separated by commas, instead of the publishable key's.  [env: CLERK_FRONTEND_API_URL]",
)
@click.option("--jwks-url", help="Address of the keys.")
@click.option("--pem", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the public key.")
@click.option(
    "--issuer",
    "issuers",
    multiple=True,
    help="Allowed iss; by default taken from the key or the address. Repeatable: each issuer has its own keys.",
)
@click.option(
    "--secret",
    envvar="SUPABASE_JWT_SECRET",
    help="JWT secret of the Supabase project, for tokens of the former template.  [env: SUPABASE_JWT_SECRET]",
)
@click.option("--authorized-party", "parties", multiple=True, help="Allowed origin in azp; repeatable.")
@optional_database_url_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def verify_command(
    *,
    given: str,
    publishable_key: str | None,
    frontend_api_url: str,
    jwks_url: str | None,
    pem: Path | None,
    issuers: tuple[str, ...],
    secret: str | None,
    parties: tuple[str, ...],
    database_url: str | None,
    as_json: bool,
) -> None:
    """Check TOKEN, and print its claims and its faults. `-` reads the token from standard input.

    A token signed by `token mint` in this checkout needs no option. The printed SQL names the schema of the mirror as
    the database records the name. Exit status 0 only for a checked signature without a fault.

    \b
    Examples:
      clerk-supabase token - --publishable-key pk_live_Y2xlcmsuZXhhbXBsZS5jb20k
      clerk-supabase token - --pem key.pem --issuer https://clerk.example.com
    """
    text = token_of(given)
    try:
        with_keys = _issuers_with_keys(issuers, frontend_api_url, jwks_url, pem)
        if with_keys:
            report = _report(text, *_keys_of_chosen(text, with_keys), secret, parties)
        else:
            keys, issuer = _keys(publishable_key, jwks_url, pem)
            if keys is None:
                keys, issuer = _keys_of_checkout(text)
            report = _report(text, keys, issuers[0] if issuers else issuer, secret, parties)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    if report.claims is not None:
        report = dataclasses.replace(report, mirror=schema_of(database_url))
    if as_json:
        say(report.as_json(), as_it_is=True)
    else:
        for line in report.lines():
            say(line)
        for line in report.statements():
            # A break within a string would change the claims.
            say(line, as_it_is=True)
    if not report.is_good:
        sys.exit(1)


@token_command.command("mint")
@click.option("--user", "user_id", required=True, metavar="ID", help="Clerk id of the user, user_...")
@click.option("--org", "organization_id", metavar="ID", help="Active organization, org_...")
@click.option("--role", default="org:member", show_default=True, help="The user's role in the organization.")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    metavar="org:FEATURE:NAME",
    help="Permission in the organization; repeatable.",
)
@click.option("--plan", "plans", multiple=True, metavar="SCOPE:SLUG", help="Plan, user:pro or org:team; repeatable.")
@click.option("--feature", "features", multiple=True, metavar="SCOPE:SLUG", help="Feature, org:reports; repeatable.")
@click.option("--version", type=click.Choice(["1", "2", "legacy"]), default="2", show_default=True)
@click.option("--lifetime", default=3600, show_default=True, type=click.IntRange(min=1), help="Lifetime in seconds.")
@click.option(
    "--issuer",
    envvar="CLERK_FRONTEND_API_URL",
    default=LOCAL_ISSUER,
    help=f"By default {LOCAL_ISSUER}; .local/env names the issuer of `dev`.  [env: CLERK_FRONTEND_API_URL]",
)
@click.option(
    "--secret",
    envvar="SUPABASE_JWT_SECRET",
    default=LOCAL_JWT_SECRET,
    help="For the version `legacy`; by default the secret of `supabase start`.  [env: SUPABASE_JWT_SECRET]",
)
@click.option(
    "--event", is_flag=True, help="Print an API Gateway event of POST /session with the token, for sam local."
)
def mint_command(
    *,
    user_id: str,
    organization_id: str | None,
    role: str,
    permissions: tuple[str, ...],
    plans: tuple[str, ...],
    features: tuple[str, ...],
    version: str,
    lifetime: int,
    issuer: str,
    secret: str,
    event: bool,
) -> None:
    """Make a token for tests on this machine. Its key lies in .local, and is valid nowhere else.

    \b
    Examples:
      clerk-supabase token mint --user user_2abc
      clerk-supabase token mint --user user_2abc --org org_2abc --role org:admin
      clerk-supabase token mint --user user_2abc --plan user:pro
    """
    if organization_id is None and permissions:
        raise click.UsageError("permissions are given in an organization: name it with --org")
    if not all(permission.count(":") >= 2 and permission.startswith("org:") for permission in permissions):
        raise click.UsageError("a permission is spelled org:FEATURE:NAME")
    if version == "2" and any(permission.startswith(SYSTEM_PERMISSION) for permission in permissions):
        raise click.UsageError(f"Clerk puts no permission of its own ({SYSTEM_PERMISSION}...) into tokens of version 2")
    entitled = {name: _elements(given) for name, given in (("plans", plans), ("features", features))}
    if version != "2" and (plans or features):
        raise click.UsageError("only tokens of version 2 name plans and features")
    if organization_id is None and any(each.startswith("o:") for given in entitled.values() for each in given):
        raise click.UsageError("org: and o: need an active organization: name it with --org, or spell user: for a user")
    organization = None if organization_id is None else Organization(organization_id, None, role, permissions)
    if event and version == "legacy":
        raise click.UsageError("POST /session takes session tokens only, of version 1 or 2")
    if version == "legacy":
        say(legacy_token(user_id, organization, secret=secret, issuer=issuer, lifetime=lifetime))
        say("check it: clerk-supabase token --secret SECRET -", err=True)
        return
    place = private_place()
    mint = Mint(SigningKey.of_checkout(place), issuer)
    token = mint.session(user_id, organization, version=int(version), lifetime=lifetime, **entitled)
    if event:
        say(json.dumps(session_event(token), indent=2), as_it_is=True)
        return
    say(token)
    say(f"check it: clerk-supabase token --pem {public_key_file(place)} --issuer {issuer} -", err=True, as_it_is=True)


def _elements(given: tuple[str, ...]) -> list[str]:
    """Plans or features as a claim spells them: `o:team`. Raises UsageError."""
    elements = []
    for each in given:
        found = _ENTITLEMENT.fullmatch(each)
        if found is None:
            raise click.UsageError(how_to_spell(each))
        elements.append(f"{found[1][0]}:{found[2]}")
    return elements


def _issuers_with_keys(
    issuers: tuple[str, ...], frontend_api_url: str, jwks_url: str | None, pem: Path | None
) -> tuple[str, ...]:
    """Issuers whose keys are at their own addresses. Raises SettingsError when several issuers would share keys."""
    if len(issuers) > 1:
        if jwks_url or pem:
            raise SettingsError("each of several issuers has its own keys: give no --jwks-url and no --pem")
        return issuers_in(",".join(issuers), "--issuer")
    if issuers or jwks_url or pem:
        return ()
    return issuers_in(frontend_api_url, "ClerkFrontendApiUrl (--frontend-api-url)")


def _keys_of_chosen(token: str, issuers: tuple[str, ...]) -> tuple[KeySource, str]:
    """The keys of the issuer named in a token; for an unknown issuer, the keys of the first, which reject the token."""
    try:
        issuer = IssuerChoice.of(issuers).chosen_for(token).issuer
    except TokenRejected:
        issuer = issuers[0]
    return jwks(jwks_url_of(issuer)), issuer


def _keys(publishable_key: str | None, jwks_url: str | None, pem: Path | None) -> tuple[KeySource | None, str]:
    """The source of the keys, and the issuer if the source names it. Raises SettingsError."""
    issuer = ""
    keys: KeySource | None = None
    if publishable_key:
        instance = frontend_api(publishable_key)
        issuer, keys = instance.issuer, jwks(instance.jwks_url)
    if jwks_url:
        keys = jwks(jwks_url)
        if not issuer and jwks_url.endswith(_WELL_KNOWN):
            issuer = jwks_url.removesuffix(_WELL_KNOWN)
    if pem:
        keys = keys_in_pem(pem.read_text(errors="replace"))
    return keys, issuer


def _keys_of_checkout(token: str) -> tuple[KeySource | None, str]:
    """The checkout's own key and the issuer in the token, if that key signed the token."""
    try:
        file = public_key_file(private_place())
        keys = keys_in_pem(file.read_text())
        issuer = session_claims(taken_apart(token).payload).issuer or ""
        SessionVerifier(issuer, keys).authenticate(token)
    except (Failure, OSError, SettingsError, TokenRejected):
        return None, ""
    return keys, issuer


def _report(token: str, keys: KeySource | None, issuer: str, secret: str | None, parties: tuple[str, ...]) -> Report:
    """Raises SettingsError and KeysUnavailable."""
    try:
        compact = taken_apart(token)
    except TokenRejected as problem:
        return Report(None, None, signature_checked=False, problems=[problem])
    # Chooses among the given keys; each verifier accepts only its own algorithm.
    is_legacy = compact.header.get("alg") == "HS256"
    verifier: LegacyVerifier | SessionVerifier
    if secret and (is_legacy or keys is None):
        verifier = LegacyVerifier(secret, issuer=issuer)
    elif keys is None:
        return _unchecked(compact, issuer, parties, is_legacy=is_legacy)
    elif not issuer:
        raise SettingsError("name the issuer of the token with --issuer: https:// and the Frontend API's host")
    else:
        verifier = SessionVerifier(issuer, keys, authorized_parties=parties)
    try:
        claims = verifier.authenticate(token)
    except TokenRejected as problem:
        said = _said(compact, is_legacy=is_legacy)
        shown = said if isinstance(said, Claims) else None
        return Report(compact.header, shown, signature_checked=True, problems=[problem])
    return Report(compact.header, claims, signature_checked=True, problems=list(verifier.problems(claims)))


def _unchecked(compact: Compact, issuer: str, parties: tuple[str, ...], *, is_legacy: bool) -> Report:
    said = _said(compact, is_legacy=is_legacy)
    if isinstance(said, TokenRejected):
        return Report(compact.header, None, signature_checked=False, problems=[said])
    if is_legacy:
        # Any secret will do: the claims are judged without the signature.
        problems = LegacyVerifier(LOCAL_JWT_SECRET, issuer=issuer).problems(said)
    else:
        anybody = issuer or said.issuer or "unknown"
        problems = SessionVerifier(anybody, FixedKeys(KeySet()), authorized_parties=parties).problems(said)
    return Report(compact.header, said, signature_checked=False, problems=list(problems))


def _said(compact: Compact, *, is_legacy: bool) -> Claims | TokenRejected:
    """The claims of the token, proven or not."""
    try:
        return legacy_claims(compact.payload) if is_legacy else session_claims(compact.payload)
    except TokenRejected as problem:
        return problem
