"""`clerk-supabase event`: prints or sends a sample event of Clerk's, signed now."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import httpx

from clerk_supabase.model.found_kinds import SYNCED_TYPES
from clerk_supabase_cli.event_types import CLERKS_TYPES, becomes
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.local.dev.playing import NotPlayed, RunningInstance
from clerk_supabase_cli.local.dev.running import NotRunning, RunningStack, running_stack
from clerk_supabase_cli.operate.setup.secret_formats import webhook_secret_problem
from clerk_supabase_cli.options import json_option
from clerk_supabase_cli.printing import print_json, printable, say
from clerk_supabase_cli.project import find_root, private_place
from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event, sign, webhook_secret_of
from clerk_supabase_cli.standin.instance.instance import DELETED_BEFORE
from clerk_supabase_cli.standin.instance.live_world import new_id
from clerk_supabase_cli.standin.sample_events import sample_event, sample_names
from clerk_supabase_cli.standin.samples import Json

# Svix's limit for an answer. https://docs.svix.com/receiving/introduction
_ANSWER_SECONDS: Final = 15.0


class NotSent(Failure):
    """No server answered."""


@click.command("event")
@click.argument("name", metavar="TYPE", required=False)
@click.option(
    "--list",
    "is_list",
    is_flag=True,
    help="List all event types of Clerk: the table of each, or the reason why it becomes no row.",
)
@click.option("--id", "object_id", help="Clerk id of the event's object; by default the sample's own.")
@click.option(
    "--send",
    is_flag=True,
    help="Post the event to the stack run by `dev`, and print the answer. Clerk's stand-in knows the object then.",
)
@click.option("--url", help="Post the event to this URL instead.")
@click.option(
    "--secret",
    envvar="CLERK_WEBHOOK_SIGNING_SECRET",
    help="Signing secret, whsec_...; by default the secret of `dev`.  [env: CLERK_WEBHOOK_SIGNING_SECRET]",
)
@json_option
def event_command(
    name: str | None,
    object_id: str | None,
    *,
    is_list: bool,
    send: bool,
    url: str | None,
    secret: str | None,
    as_json: bool,
) -> None:
    """Sign a sample event now, and print or send the event. The printed form is for `sam local invoke`.

    TYPE is the name of a file in events/clerk, such as user.created. A signature is valid for five minutes, so a stored
    event would be rejected. Exit status of --send: 0 for an answer of 2xx, 1 for any other answer.

    \b
    Examples:
      clerk-supabase event --list
      clerk-supabase event user.created --send
      clerk-supabase event user.updated --id user_2abc
    """
    if is_list:
        _print_types(sample_names(find_root()), as_json=as_json)
        return
    if name is None:
        raise click.UsageError("name the TYPE of the event, such as user.created; --list prints all types.")
    secret = secret or _local_secret(private_place())
    if problem := webhook_secret_problem(secret):
        raise click.UsageError(f"the signing secret {problem}")
    event = sample_event(find_root(), name, object_id)
    request = sign(event, secret)
    if not send and not url:
        say(json.dumps(api_gateway_event(request), indent=2), as_it_is=True)
        return
    if not url:
        stack = running_stack(private_place())
        url = stack.webhook_url
        # A wrong signature is not Clerk's, so Clerk knows nothing of the event.
        if secret == stack.webhook_secret:
            _teach(stack, name, event)
    if not _is_accepted(name, event, request, url, as_json=as_json):
        sys.exit(1)


def _is_accepted(name: str, event: Json, request: SignedRequest, url: str, *, as_json: bool) -> bool:
    """Sends an event and prints the answer. False: the answer is none of 2xx."""
    about, svix_id = event["data"].get("id", ""), request.headers["svix-id"]
    if not as_json:
        say(f"{name} of {about} as {svix_id} to {url}")
    answer = _post(url, request)
    # The answer is foreign text: any server may listen there.
    text = answer.text[:200]
    if as_json:
        sent = {"type": name, "object_id": about, "svix_id": svix_id, "url": url}
        print_json({**sent, "status": answer.status_code, "answer": text})
    else:
        say(f"{answer.status_code} {printable(text)}")
        if name.startswith("session.") and text == "not synced":
            say("sessions become rows only in a stack with SessionsDays above 0")
    return answer.is_success


def _print_types(samples: Sequence[str], *, as_json: bool) -> None:
    """Prints each event type of Clerk, and of kinds that the app has added; types of one family together."""
    types = list(dict.fromkeys((*CLERKS_TYPES, *SYNCED_TYPES)))
    families = list(dict.fromkeys(name.partition(".")[0] for name in types))
    types.sort(key=lambda name: families.index(name.partition(".")[0]))
    if as_json:
        print_json([{"type": name, "has_sample": name in samples, "becomes": becomes(name)} for name in types])
        return
    for name in types:
        say(printable(f"{name:<34}{'sample' if name in samples else '-':<8}{becomes(name)}"))


def _teach(stack: RunningStack, name: str, event: Json) -> None:
    """Lets the stand-in for Clerk know the object of the event, and says if the object was deleted before."""
    try:
        with RunningInstance(stack) as instance:
            instance.do("learn", {"event": event})
    except NotPlayed as rejection:
        say(printable(str(rejection)), err=True)
        object_id = event["data"]["id"]
        if rejection.code == DELETED_BEFORE and str(rejection).startswith(object_id):
            say("Its tombstone in Postgres keeps the row deleted, whatever this event says. With a new id:", err=True)
            again = f"clerk-supabase event {name} --send --id {new_id(object_id.partition('_')[0])}"
            say(f"  {again}", err=True, as_it_is=True)


def _local_secret(root: Path) -> str:
    """The signing secret of the running stack; without a stack, the secret of the next stack."""
    try:
        return running_stack(root).webhook_secret
    except NotRunning:
        return webhook_secret_of(root)


def _post(url: str, request: SignedRequest) -> httpx.Response:
    try:
        # A proxy from the environment could not reach this machine's loopback.
        with httpx.Client(timeout=_ANSWER_SECONDS, trust_env=False) as client:
            return client.post(url, content=request.body, headers=dict(request.headers))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotSent(f"no server answered at {url}: {type(error).__name__} {error}") from error
