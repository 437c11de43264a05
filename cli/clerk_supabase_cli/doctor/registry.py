"""All checks of the doctor, in the order of an event's way. A new check: a generator of findings, and a line here."""

from __future__ import annotations

from typing import Final

from clerk_supabase_cli.doctor.checks import (
    ages,
    clerk,
    database,
    feeds,
    flow,
    grants,
    objects,
    policies,
    realtime,
    versions,
    webhooks,
)
from clerk_supabase_cli.doctor.verdicts import Check

CHECKS: Final = (
    Check("stack", "the deployed stack and the settings of its functions", flow.stack),
    Check("database", "the database, as the tables' owner", database.database),
    Check(
        "webhook-secret",
        "format of the signing secret, and its equality with the given secret",
        webhooks.webhook_secret,
    ),
    Check(
        "round-trip",
        "a signed event through the public URL to its row",
        webhooks.round_trip,
        waits_for_canary=True,
    ),
    Check("event-types", "types of events that never arrived", webhooks.event_types),
    Check("instance", "one Clerk instance: secret key, webhooks, database", clerk.instance),
    Check(
        "other-instances",
        "events of Clerk instances that the database does not mirror",
        clerk.other_instances,
    ),
    Check("clerk-keys", "Clerk's public keys", clerk.keys),
    Check("clerk-discovery", "the document read first by Supabase", clerk.discovery),
    Check("clerk-domain", "whether Supabase takes the domain", clerk.domain),
    Check("token", "role and version of a session token", clerk.token),
    Check("supabase-auth", "whether Supabase takes the session token", clerk.supabase),
    Check(
        "supabase-settings",
        "Clerk among the providers of the Supabase project, the mirror among its exposed schemas",
        clerk.supabase_settings,
    ),
    Check("worker-address", "pooler, IP and user of sync's connection string", database.worker_address),
    Check(
        "session-address",
        "pooler, IP and user of the session function's connection string",
        database.session_address,
    ),
    Check("database-tls", "the check of the server's certificate by the functions", database.database_tls),
    Check("worker-login", "sync's login and rights, with its own code", database.worker_login),
    Check("session-login", "the session function's login, as a user", database.session_login),
    Check("worker-rights", "the rights of clerk_sync_worker, and no more", database.worker_rights),
    Check("session-rights", "the rights of clerk_sync_session, and no more", database.session_rights),
    Check("role-settings", "settings of the roles, as set by the migrations", database.role_settings),
    Check("retention", "whether the database allows the stack's HoldBackDays and similar times", database.retention),
    Check("versions", "one major version of the database, the functions and the command", versions.versions),
    Check("migrations", "all applied, and unaltered", database.migrations),
    Check("objects", "functions, tables, triggers and rights, as made by the migrations", objects.objects),
    Check("feeds", "tables of the app that follow the mirror: triggers, functions, unfed rows", feeds.feeds),
    Check(
        "row-level-security",
        "on for every table and secured bucket, without a way around",
        policies.row_level_security,
    ),
    Check("grants", "the rights of the API's roles for policies and apps", grants.grants),
    Check(
        "realtime",
        "published tables: policies that fail with Clerk's token, tables of clerk_sync",
        realtime.realtime,
    ),
    Check("queues", "number and age of waiting events; dead letters", flow.queues),
    Check("parked", "events that could not be applied", flow.parked),
    Check("alarms", "armed, with a subscriber, and silent", flow.alarms),
    Check("reconcile", "results and times of the last comparisons", flow.reconcile),
    Check("compared", "age of the last comparison of each kind", ages.compared),
)
