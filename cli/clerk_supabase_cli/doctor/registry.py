"""Everything the doctor looks at, in the order of the road. A new check is a generator of findings, and a line here."""

from __future__ import annotations

from typing import Final

from clerk_supabase_cli.doctor import (
    age_checks,
    clerk_checks,
    database_checks,
    flow_checks,
    grant_checks,
    object_checks,
    policy_checks,
    webhook_checks,
)
from clerk_supabase_cli.doctor.verdicts import Check

CHECKS: Final = (
    Check("stack", "the deployed stack and the settings of its functions", flow_checks.stack),
    Check("database", "the database, as the tables' owner", database_checks.database),
    Check(
        "webhook-secret", "format of the signing secret, and that it is the one given", webhook_checks.webhook_secret
    ),
    Check(
        "round-trip",
        "a signed event through the public URL to its row",
        webhook_checks.round_trip,
        waits_for_canary=True,
    ),
    Check("event-types", "which types of events never arrived", webhook_checks.event_types),
    Check("instance", "one Clerk instance: secret key, webhooks, database", clerk_checks.instance),
    Check("clerk-keys", "Clerk's public keys", clerk_checks.keys),
    Check("clerk-discovery", "the document that Supabase reads first", clerk_checks.discovery),
    Check("clerk-domain", "whether Supabase takes the domain", clerk_checks.domain),
    Check("token", "role and version of a session token", clerk_checks.token),
    Check("supabase-auth", "whether Supabase takes the session token", clerk_checks.supabase),
    Check("worker-address", "pooler, IP and user of sync's connection string", database_checks.worker_address),
    Check("session-address", "the same of the session function's", database_checks.session_address),
    Check("database-tls", "what the functions ask of the server's certificate", database_checks.database_tls),
    Check("worker-login", "sync's way into the database, as it takes it", database_checks.worker_login),
    Check("session-login", "the session function's way in, as a user", database_checks.session_login),
    Check("worker-rights", "what clerk_sync_worker may do, and no more", database_checks.worker_rights),
    Check("session-rights", "what clerk_sync_session may do, and no more", database_checks.session_rights),
    Check("role-settings", "settings of the roles, as the migrations made them", database_checks.role_settings),
    Check("retention", "whether the database follows the stack's HoldBackDays and the like", database_checks.retention),
    Check("migrations", "all applied, and unaltered", database_checks.migrations),
    Check("objects", "functions, tables, triggers, rights: as the migrations make them", object_checks.objects),
    Check(
        "row-level-security", "on for every table, with nothing that leads around it", policy_checks.row_level_security
    ),
    Check("grants", "what policies and apps need of the API's rights", grant_checks.grants),
    Check("queues", "how many events wait, for how long; dead letters", flow_checks.queues),
    Check("parked", "events that nobody could apply", flow_checks.parked),
    Check("alarms", "armed, heard by somebody, and silent", flow_checks.alarms),
    Check("reconcile", "how and when the last comparisons ended", flow_checks.reconcile),
    Check("compared", "how long ago all of each kind was compared", age_checks.compared),
)
