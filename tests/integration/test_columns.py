"""Columns of the tables: which of them may hold nothing, and why."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from tests.kit.databases import Database, rows

# Every other column always holds a value.
NULLABLE: Final[dict[str, set[str]]] = {
    # Fields that Clerk leaves out, fields unknown in a stub, and the time of a delete.
    "clerk.users": {
        *("created_at", "deleted_at", "email", "external_id", "first_name", "image_url", "last_name"),
        *("legal_accepted_at", "locale", "phone", "primary_web3_wallet_id", "username"),
    },
    "clerk.users_public": {"avatar_url", "deleted_at", "first_name", "last_name", "username"},
    "clerk.organizations": {
        *("created_at", "created_by", "deleted_at", "image_url", "max_allowed_memberships", "name", "slug"),
    },
    "clerk.organization_memberships": {"created_at", "deleted_at", "role_name"},
    "clerk.organization_invitations": {
        *("accepted_by", "created_at", "deleted_at", "email_address", "expires_at", "inviter_id", "role_name"),
        "status",
    },
    "clerk.organization_domains": {"affiliation_email_address", "created_at", "deleted_at", "enrollment_mode", "name"},
    "clerk.permissions": {"created_at", "deleted_at", "description", "key", "name", "type"},
    "clerk.roles": {"created_at", "deleted_at", "description", "key", "name"},
    "clerk.waitlist_entries": {"created_at", "deleted_at", "email_address", "status"},
    "clerk.sessions": {"active_until", "browser_name", "created_at", "deleted_at", "device_type", "ends_at", "status"},
    # One of the two payers; fields that one form of an object lacks; moments that have not come.
    "clerk.subscriptions": {
        *("active_at", "canceled_at", "clerk_org_id", "clerk_user_id", "created_at", "deleted_at", "ended_at"),
        *("past_due_at", "payer_id", "status"),
    },
    "clerk.subscription_items": {
        *("amount", "clerk_org_id", "clerk_subscription_id", "clerk_user_id", "created_at", "currency", "deleted_at"),
        *("payer_id", "period_end", "period_start", "plan_id", "plan_name", "plan_period", "plan_slug", "seats"),
        "status",
    },
    "clerk.plans": {
        *("amount", "annual_amount", "created_at", "currency", "deleted_at", "description", "for_payer_type"),
        *("free_trial_days", "name", "slug"),
    },
    "clerk.payment_attempts": {
        *("amount", "billing_date", "charge_type", "clerk_org_id", "clerk_user_id", "created_at", "currency"),
        *("decline_code", "deleted_at", "failed_at", "failure_code", "paid_at", "payer_id", "payment_id"),
        *("statement_id", "status", "subscription_item_ids", "subtotal", "tax"),
    },
    "clerk_sync.private_metadata": {"deleted_at"},
    # Times of events that have not happened to an object.
    "clerk_sync.entities": {"delete_recorded_at", "delete_run", "deleted_at", "purged_at", "shown_at"},
    # An operator's change has no webhook; an insert has no old values, and a delete no new ones.
    "clerk_sync.audit_log": {"new_values", "old_values", "svix_id"},
    # psql applies a migration without a checksum.
    "clerk_sync.migrations": {"checksum"},
    # An unreadable body names nothing, and the body of a deleted user is removed.
    "clerk_sync.parked_events": {
        *("body", "discarded_at", "discarded_by", "entity_id", "event_type", "replayed_at", "user_id"),
    },
    # A view has columns, a function has a definition.
    "clerk_sync.exposed": {"columns", "definition"},
    "clerk_sync.feeds": {"filled_after", "suspended_until"},
    "clerk_sync.links": {"undone_at", "undone_by"},
    # An open move to another instance has no end, and not every user has an address or a successor.
    "clerk_sync.instance_switches": {"from_instance", "moved_at", "ended_at", "outcome"},
    "clerk_sync.successors": {"external_id", "address", "new_id", "found_by", "reason"},
    # An object that the mirror has is found by its id.
    "clerk_sync.unfed_rows": {"key_of_gone"},
    # Results of steps that a run has not done, and options that were not given.
    "clerk_sync.reconcile_runs": {
        *("allow_deletes", "allow_emptied", "finished_at", "is_silent", "lease", "lease_until", "newest_change"),
        *("newest_delivery", "reason", "undone_at"),
    },
    "clerk_sync.reconcile_windows": {"ends_at", "reached", "starts_at"},
    "clerk_sync.reconcile_findings": {"emptied", "fields", "observed_at", "sent_at", "window_number"},
    "clerk_sync.sweeps": {"compared_at", "settling_run"},
}


def test_a_column_holds_nothing_only_where_something_may_be_unknown(shared_database: Database) -> None:
    found = defaultdict(set)
    with shared_database.connect() as connection:
        for table, column in rows(
            connection,
            """
            select c.oid::regclass::text, a.attname
            from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid
            where c.relkind in ('r', 'p') and c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
            and a.attnum > 0 and not a.attisdropped and not a.attnotnull
            """,
        ):
            found[table].add(column)
    assert found == NULLABLE
