"""Checks of the webhooks: the signing secret, the round trip of a test event, and the types that arrived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx

from clerk_supabase.model.found_kinds import FACTS, SYNCED_TYPES
from clerk_supabase_cli.doctor.canary import Arrived, Sent, send, wait_for
from clerk_supabase_cli.doctor.patient import HOW_TO_NAME_THE_DATABASE, NotLookedAt, Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, warn
from clerk_supabase_cli.loopback import is_origin_of_this_machine
from clerk_supabase_cli.operate.setup.secret_formats import webhook_secret_problem
from clerk_supabase_cli.printing import how_long

_WHERE_THE_SECRET_IS: Final = "copy the Signing Secret of the endpoint: Clerk's dashboard, Webhooks"  # noqa: S105 - no secret, only where it is found
_ADVICE_BY_STATUS: Final[Mapping[int, str]] = {
    200: "the deployed functions are older than this checkout: sam build && sam deploy",
    401: "compare the stack's secret with the endpoint's Signing Secret in Clerk's dashboard; a new value is picked up "
    "within a minute, without a deploy",
    403: "compare ClerkInstanceId with the instance, or look for a resource policy or a firewall before the API",
    404: "is this the stack that Clerk's endpoint points to? compare its URL with the output WebhookUrl",
    429: "the API lets no more through: raise ThrottleRate, or try again",
    503: "SQS or Secrets Manager did not answer ingest; its log says which: aws logs tail /aws/lambda/<stack>-ingest",
}
# Not the kinds that a parameter of the stack switches on.
_EXPECTED: Final = tuple(name for name, meaning in SYNCED_TYPES.items() if not FACTS[meaning.kind].parameter)
_ARRIVED_TYPES: Final = "select distinct event_type from clerk_sync.deliveries"


def webhook_secret(patient: Patient) -> Iterator[Finding]:
    """Checks the formats of the stored and of the given secret, and that both agree."""
    given = patient.named.webhook_secret
    if given:
        problem = webhook_secret_problem(given)
        if problem:
            yield fail(f"CLERK_WEBHOOK_SIGNING_SECRET {problem}", _WHERE_THE_SECRET_IS)
        else:
            yield ok("the secret that was given is whsec_ and base64")
    stored = patient.stored_webhook_secret()
    if problem := webhook_secret_problem(stored):
        yield fail(f"the stack's secret {problem}", _WHERE_THE_SECRET_IS)
    elif given and not set(given.split()) & set(stored.split()):
        yield fail("the stack holds another secret than the one that was given", _WHERE_THE_SECRET_IS)
    else:
        number = len(stored.split())
        rotation = "" if number == 1 else f"; {number} are accepted, remove the old ones a day after the rotation"
        yield ok(f"the stack's secret is whsec_ and base64{rotation}")


def round_trip(patient: Patient) -> Iterator[Finding]:
    """Sends a signed canary to the public URL, and waits for its row."""
    secret = patient.webhook_secret()
    if webhook_secret_problem(secret):
        raise NotLookedAt("there is no secret to sign with, as said above")
    url = patient.stack().webhook_url
    try:
        sent = send(url, secret, patient.functions().ingest.clerk_instance_id)
    except httpx.HTTPError as error:
        yield fail(f"{url} cannot be reached: {type(error).__name__}", "try it from elsewhere; does the stage exist?")
        return
    if sent.status != 202:
        todo = _ADVICE_BY_STATUS.get(sent.status, "the function failed; see: aws logs tail /aws/lambda/<stack>-ingest")
        yield fail(f"{url} answered {sent.status} to a signed event, not 202", todo)
        return
    if not patient.named.database_url:
        yield warn("the API took a signed event; its arrival was not checked", HOW_TO_NAME_THE_DATABASE)
        return
    with patient.database() as connection:
        yield _arrival(sent, wait_for(sent, connection, patient.named.canary_seconds), patient.named.canary_seconds)


def _arrival(sent: Sent, arrived: Arrived | None, seconds: float) -> Finding:
    answered = f"answered after {how_long(sent.answered_at - sent.sent_at)}"
    if arrived is None:
        return fail(
            f"a signed event was {answered}, but was not in the database {how_long(seconds)} later ({sent.svix_id})",
            "clerk-supabase status says where events wait; the log of sync says why: "
            "aws logs tail /aws/lambda/<stack>-sync",
        )
    return ok(
        f"a signed event was {answered}, and was in the database after {how_long(arrived.total_seconds)} "
        f"({how_long(arrived.queue_seconds)} from accepted to committed)"
    )


def event_types(patient: Patient) -> Iterator[Finding]:
    """Names the synced types of events without an arrival."""
    with patient.database() as connection:
        arrived = {name for (name,) in connection.execute(_ARRIVED_TYPES)}
    missing = [name for name in _EXPECTED if name not in arrived]
    if len(missing) == len(_EXPECTED):
        families = ", ".join(dict.fromkeys(name.partition(".")[0] for name in missing))
        yield warn(
            "no webhook of Clerk's ever arrived",
            f"is the output WebhookUrl entered as an endpoint in Clerk's dashboard? Subscribe it to all of {families}",
        )
    elif missing and _is_standin(patient.named.clerk_api_url):
        arrived_types = len(_EXPECTED) - len(missing)
        yield ok(f"{arrived_types} of {len(_EXPECTED)} types have arrived; the stand-in for Clerk sends all of them")
    elif missing:
        yield warn(
            f"{len(missing)} of {len(_EXPECTED)} types never arrived: {', '.join(missing)}",
            "see that they are ticked: Clerk's dashboard, Webhooks, the endpoint, Subscribed events; "
            "some are rare, and an instance without organizations sends no events about them",
        )
    else:
        yield ok(f"all {len(_EXPECTED)} types that are always synced have arrived")


def _is_standin(clerk_api_url: str) -> bool:
    """Tells whether the stand-in for Clerk answers at this address: its endpoint is subscribed to all types."""
    address = urlsplit(clerk_api_url)
    return is_origin_of_this_machine(f"{address.scheme}://{address.netloc}")
