"""The steps in the dashboards of Clerk and Supabase that a person takes; `doctor` checks each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.event_types import is_compared, what_heals
from clerk_supabase_cli.operate.setup.supabase_settings import PROVIDER, SCHEMAS, Setting


def at_clerk(webhook_url: str = "") -> Iterator[str]:
    """The steps for which Clerk has no API: the endpoint with its events, and the role in session tokens.

    A kind that reconcile cannot compare is named with what repairs it, because its lost events cost a person work.
    """
    yield f"In Clerk's dashboard, Webhooks > Add endpoint: {webhook_url or 'the output WebhookUrl of the stack'}"
    families = [facts.event for facts in FACTS.values() if facts.verbs and not facts.parameter]
    yield f"  with all events of {', '.join(families)}"
    for facts in FACTS.values():
        if facts.parameter:
            yield f"  and, in a stack with {facts.parameter}, of {facts.event}"
    for kind, facts in FACTS.items():
        if not is_compared(kind):
            yield f"  Clerk has no list of {facts.plural}; after lost events: {what_heals(kind)}"
    yield 'At dashboard.clerk.com/setup/supabase, "Activate": session tokens get role: authenticated'


def at_supabase(host: str, settings: Sequence[Setting] = ()) -> Iterator[str]:
    """The steps for the settings that no access token has set."""
    done = {each.name for each in settings if each.is_done}
    if PROVIDER not in done:
        yield f"In Supabase, Authentication > Sign In / Providers > Third Party Auth > Clerk: {host}"
    if SCHEMAS not in done:
        yield (
            "In Supabase, after clerk-supabase migrate, Integrations > Data API > Settings > Exposed schemas: "
            "add clerk, or the name given to migrate --schema"
        )
