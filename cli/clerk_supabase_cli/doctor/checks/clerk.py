"""Checks of the Clerk instance, and of its tokens at Supabase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import httpx

from clerk_supabase.clerk.pages import Instance as ClerkInstance
from clerk_supabase_cli.adopt.switching.state import read_state
from clerk_supabase_cli.doctor.patient import NotLookedAt, Patient
from clerk_supabase_cli.doctor.verdicts import Finding, Verdict, fail, ok, warn
from clerk_supabase_cli.operate.install.mirror import DEFAULT, mirror_schema
from clerk_supabase_cli.operate.monitor.database_state import read_wrong_instances
from clerk_supabase_cli.operate.monitor.problems import instance_problems
from clerk_supabase_cli.operate.setup import setup_checks
from clerk_supabase_cli.operate.setup.management_api import Provider
from clerk_supabase_cli.operate.setup.management_http import ACCESS_TOKEN, SupabaseFailed
from clerk_supabase_cli.operate.setup.setup_checks import FAILED, OK, SKIPPED, WARNING
from clerk_supabase_cli.operate.setup.supabase_project import NoProject
from clerk_supabase_cli.operate.setup.supabase_settings import Access, of_issuer, said_of, serves_machinery
from clerk_supabase_cli.printing import counted, in_utc

_VERDICTS: Final[Mapping[str, Verdict]] = {
    OK: Verdict.OK,
    WARNING: Verdict.WARN,
    FAILED: Verdict.FAIL,
    SKIPPED: Verdict.SKIPPED,
}
_MANAGEMENT_SECONDS: Final = 20.0
_TIMEOUT: Final = httpx.Timeout(10, connect=5)
_SCHEMA_NOT_SERVED: Final = "PGRST106"
_SAME_INSTANCE: Final = (
    "development and production are instances of their own, with keys, webhooks and databases of their own: "
    "find out which of these is wrong before anything is reconciled"
)
_OF_ANOTHER: Final = (
    "if the database mirrors the right instance, remove the endpoint of the other in Clerk's dashboard; otherwise: "
    "clerk-supabase switch-instance"
)


def instance(patient: Patient) -> Iterator[Finding]:
    """Checks that the secret key, the webhooks and the database belong to the same Clerk instance."""
    with patient.clerk() as clerk:
        of_key = clerk.instance().value
    of_webhooks, stage = "", ""
    if patient.has_stack:
        of_webhooks = patient.functions().ingest.clerk_instance_id
        stage = patient.stack().parameters.get("Stage", "")
    of_database = ""
    if patient.named.database_url:
        with patient.database() as connection:
            row = connection.execute("select instance_id from clerk_sync.instance").fetchone()
        of_database = row[0] if row else ""
    yield from compare_instances(of_key, of_webhooks, of_database, stage)


def compare_instances(of_key: ClerkInstance, of_webhooks: str, of_database: str, stage: str) -> Iterator[Finding]:
    """Compares the instance of the secret key with the others; an empty name is not compared.

    *of_webhooks*: the parameter ClerkInstanceId; *of_database*: recorded by the first comparison.
    """
    key = f"the secret key is of {of_key.id} ({of_key.environment_type or 'unknown'})"
    others = {"the stack takes webhooks of": of_webhooks, "the database mirrors": of_database}
    wrong = [f"{what} {other}" for what, other in others.items() if other and other != of_key.id]
    if wrong:
        yield fail(f"{key}, but {' and '.join(wrong)}", _SAME_INSTANCE)
    else:
        named = [name for name, value in (("the stack", of_webhooks), ("the database", of_database)) if value]
        yield ok(f"{key}, and so {'are' if len(named) > 1 else 'is'} {' and '.join(named)}" if named else key)
    if stage == "prod":
        if of_key.environment_type == "development":
            yield warn(f"a stack for production has the key of a development instance, {of_key.id}", _SAME_INSTANCE)
        if not of_webhooks:
            yield warn(
                "webhooks of any instance are taken, if the signature is right",
                f"set the parameter ClerkInstanceId={of_key.id}",
            )


def other_instances(patient: Patient) -> Iterator[Finding]:
    """Checks that no other Clerk instance sends events, and that no move to another instance is open."""
    with patient.database() as connection:
        found = read_wrong_instances(connection)
        state = read_state(connection)
    for problem in instance_problems(found):
        yield fail(problem, _OF_ANOTHER)
    if switch := state.switch:
        yield warn(
            f"the move of the database to {switch.to_instance} is open since {in_utc(switch.began_at)} UTC",
            "clerk-supabase switch-instance: it says what is left to do",
        )
    elif not any(each.is_recent for each in found):
        total = sum(each.events for each in found)
        ever = f"; {counted(total)} of others before, none within a day" if total else ""
        yield ok(f"events are of {state.instance or 'no instance yet'} alone{ever}")


def _of_setup(look: Callable[[setup_checks.Instance], setup_checks.Check]) -> Callable[[Patient], Iterator[Finding]]:
    def check(patient: Patient) -> Iterator[Finding]:
        for instance in patient.instances():
            found = look(instance)
            yield Finding(_VERDICTS[found.status], found.words)

    return check


keys = _of_setup(setup_checks.keys)
discovery = _of_setup(setup_checks.discovery)


def domain(patient: Patient) -> Iterator[Finding]:
    """Checks that Supabase takes the domain, which is the same for every issuer of the instance."""
    found = setup_checks.domain(patient.instances()[0])
    yield Finding(_VERDICTS[found.status], found.words)


def token(patient: Patient) -> Iterator[Finding]:
    """Checks the claims that Supabase needs in a session token."""
    found = setup_checks.role(patient.instances(), patient.named.token)
    yield Finding(_VERDICTS[found.status], found.words)


def supabase(patient: Patient) -> Iterator[Finding]:
    """Checks that Supabase's API takes the session token, by a request from outside."""
    named = patient.named
    if not (named.supabase_url and named.supabase_key and named.token):
        raise NotLookedAt(
            "needs --supabase-url, the project's publishable key in SUPABASE_ANON_KEY, and a session token (--token -)"
        )
    url = f"{named.supabase_url.rstrip('/')}/rest/v1/users_public"
    headers = {"apikey": named.supabase_key, "authorization": f"Bearer {named.token}"}
    params = {"select": "clerk_id", "limit": "1"}
    schema = _schema_of_mirror(patient)
    table = f"{schema}.users_public"
    try:
        answer = httpx.get(url, params=params, headers=headers | {"accept-profile": schema}, timeout=_TIMEOUT)
        if _code(answer) == _SCHEMA_NOT_SERVED:
            # The app may use a view of `clerk-supabase expose` instead.
            table = "the view users_public in the API's first schema"
            answer = httpx.get(url, params=params, headers=headers, timeout=_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield fail(
            f"{url} cannot be reached: {type(error).__name__}", "compare it with Project URL in Supabase's settings"
        )
        return
    yield _answer_of_supabase(answer.status_code, _code(answer), table, schema)


def supabase_settings(patient: Patient) -> Iterator[Finding]:
    """Checks the settings that `setup` makes at Supabase, as its Management API shows them."""
    named = patient.named
    if not named.supabase_access_token:
        raise NotLookedAt(f"needs {ACCESS_TOKEN}, an access token of your account at Supabase")
    access = Access(named.supabase_url, named.database_url, named.management_api_url, token=named.supabase_access_token)
    try:
        with access.api(patience=_MANAGEMENT_SECONDS) as api:
            yield from _exposed(patient, api.schemas())
            yield from _registered(patient, api.providers())
    except NoProject as error:
        raise NotLookedAt(str(error)) from error
    except SupabaseFailed as error:
        yield fail(str(error), "")


def _exposed(patient: Patient, schemas: Sequence[str]) -> Iterator[Finding]:
    schema = _schema_of_mirror(patient)
    if serves_machinery(schemas):
        yield fail("Supabase's API serves clerk_sync, which is for no app", "remove it from the exposed schemas")
    if schema in schemas:
        yield ok(f"Supabase's API serves {schema}")
    else:
        yield warn(
            f"Supabase's API does not serve {schema}",
            "clerk-supabase setup; an app needs it unless the app uses views of clerk-supabase expose, or only SQL",
        )


def _registered(patient: Patient, providers: Sequence[Provider]) -> Iterator[Finding]:
    issuers = [each.issuer for each in patient.instances()]
    missing = [issuer for issuer in issuers if not of_issuer(providers, issuer)]
    if missing:
        listed = ", ".join(each.name for each in providers) or "nobody"
        yield fail(f"Supabase takes no tokens of {' and '.join(missing)}, but of {listed}", "clerk-supabase setup")
    else:
        yield ok(said_of(providers, issuers))


def _schema_of_mirror(patient: Patient) -> str:
    """The name in the database; the usual name, if no database was named."""
    try:
        with patient.database() as connection:
            return mirror_schema(connection)
    except NotLookedAt:
        return DEFAULT


def _answer_of_supabase(status: int, code: str, table: str, schema: str) -> Finding:
    said = f"{status}{f' {code}' if code else ''}"
    if status == 200:
        return ok(f"Supabase takes the session token, and {table} is served")
    if status == 401:
        return fail(
            f"Supabase does not take the session token ({said})",
            "Authentication, Sign In / Providers, Third Party Auth: add Clerk with the domain that "
            "clerk-supabase setup prints; a token lives 60 seconds, a rotated key may take half an hour to arrive",
        )
    if status == 403:
        return fail(f"the bearer of the token may not read {table} ({said})", "clerk-supabase setup --token -")
    if status == 404 or code == "42P01":
        return fail(
            f"Supabase's API does not serve {table} ({said})",
            f"in Supabase's dashboard: Integrations, Data API, Settings, Exposed schemas: add {schema}; or views in "
            "public: clerk-supabase expose; before both: clerk-supabase migrate",
        )
    return fail(f"Supabase's API answered {said}", "status.supabase.com, or the project is paused")


def _code(answer: httpx.Response) -> str:
    """PostgREST's own code of an error."""
    try:
        said = answer.json()
    except ValueError:
        return ""
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, str) and code.isalnum() and len(code) <= 12 else ""
