"""The steps in the dashboards of Clerk and Supabase that a person takes; `doctor` checks each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clerk_supabase_cli.operate.setup.supabase_settings import PROVIDER, SCHEMAS, Setting


def at_clerk(webhook_url: str = "") -> Iterator[str]:
    """The steps for which Clerk has no API: the endpoint with its events, and the role in session tokens."""
    yield f"In Clerk's dashboard, Webhooks > Add endpoint: {webhook_url or 'the output WebhookUrl of the stack'}"
    yield (
        "  with all events of user, organization, organizationMembership, organizationInvitation and organizationDomain"
    )
    yield "  and, with Clerk's Billing, with all events of subscription, subscriptionItem and paymentAttempt"
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
