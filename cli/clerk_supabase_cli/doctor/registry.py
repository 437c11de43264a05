"""All checks of the doctor, in the order of an event's way. A new check: a generator of findings, and a line here."""

from __future__ import annotations

from typing import Final

from clerk_supabase_cli.doctor import (
    age_checks,
    clerk_checks,
    database_checks,
    feed_checks,
    flow_checks,
    grant_checks,
    object_checks,
    policy_checks,
    realtime_checks,
    version_checks,
    webhook_checks,
)
from clerk_supabase_cli.doctor.verdicts import Check

CHECKS: Final = (
    Check("stack", "the deployed stack and the settings of its functions", flow_checks.stack),
    Check("database", "the database, as the tables' owner", database_checks.database),
    Check(
        "webhook-secret",
        "format of the signing secret, and its equality with the given secret",
        webhook_checks.webhook_secret,
    ),
    Check(
        "round-trip",
        "a signed event through the public URL to its row",
        webhook_checks.round_trip,
        waits_for_canary=True,
    ),
    Check("event-types", "types of events that never arrived", webhook_checks.event_types),
    Check("instance", "one Clerk instance: secret key, webhooks, database", clerk_checks.instance),
    Check(
        "other-instances",
        "events of Clerk instances that the database does not mirror",
        clerk_checks.other_instances,
    ),
    Check("clerk-keys", "Clerk's public keys", clerk_checks.keys),
    Check("clerk-discovery", "the document read first by Supabase", clerk_checks.discovery),
    Check("clerk-domain", "whether Supabase takes the domain", clerk_checks.domain),
    Check("token", "role and version of a session token", clerk_checks.token),
    Check("supabase-auth", "whether Supabase takes the session token", clerk_checks.supabase),
    Check(
        "supabase-settings",
        "Clerk among the providers of the Supabase project, the mirror among its exposed schemas",
        clerk_checks.supabase_settings,
    ),
    Check("worker-address", "pooler, IP and user of sync's connection string", database_checks.worker_address),
    Check(
        "session-address",
        "pooler, IP and user of the session function's connection string",
        database_checks.session_address,
    ),
    Check("database-tls", "the check of the server's certificate by the functions", database_checks.database_tls),
    Check("worker-login", "sync's login and rights, with its own code", database_checks.worker_login),
    Check("session-login", "the session function's login, as a user", database_checks.session_login),
    Check("worker-rights", "the rights of clerk_sync_worker, and no more", database_checks.worker_rights),
    Check("session-rights", "the rights of clerk_sync_session, and no more", database_checks.session_rights),
    Check("role-settings", "settings of the roles, as set by the migrations", database_checks.role_settings),
    Check(
        "retention", "whether the database allows the stack's HoldBackDays and similar times", database_checks.retention
    ),
    Check("versions", "one major version of the database, the functions and the command", version_checks.versions),
    Check("migrations", "all applied, and unaltered", database_checks.migrations),
    Check("objects", "functions, tables, triggers and rights, as made by the migrations", object_checks.objects),
    Check("feeds", "tables of the app that follow the mirror: triggers, functions, unfed rows", feed_checks.feeds),
    Check(
        "row-level-security",
        "on for every table and secured bucket, without a way around",
        policy_checks.row_level_security,
    ),
    Check("grants", "the rights of the API's roles for policies and apps", grant_checks.grants),
    Check(
        "realtime",
        "published tables: policies that fail with Clerk's token, tables of clerk_sync",
        realtime_checks.realtime,
    ),
    Check("queues", "number and age of waiting events; dead letters", flow_checks.queues),
    Check("parked", "events that could not be applied", flow_checks.parked),
    Check("alarms", "armed, with a subscriber, and silent", flow_checks.alarms),
    Check("reconcile", "results and times of the last comparisons", flow_checks.reconcile),
    Check("compared", "age of the last comparison of each kind", age_checks.compared),
)
