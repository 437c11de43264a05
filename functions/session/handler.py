"""Answers a signed-in user with the user's own row, and writes a missing row first."""

import os
import time
from typing import Any

from clerk_supabase.aws import cold_start  # isort: split

from clerk_supabase.aws import clients as aws
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.clerk.address import BASE_URL
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.postgres.connection import SESSION_PATIENCE_SECONDS
from clerk_supabase.postgres.store import Store
from clerk_supabase.session import Session
from clerk_supabase.settings import SessionSettings
from clerk_supabase.telemetry import measured

settings = SessionSettings.from_environment(os.environ)
secrets_manager = aws.secrets_manager()
secret = Secret(secrets_manager, settings.session_database_secret_arn)
secret.read_ahead()
session = Session(
    settings,
    Store(secret, settings.database_ca_file, SESSION_PATIENCE_SECONDS),
    ClerkHttp(Secret(secrets_manager, settings.clerk_secret_key_arn), settings.clerk_api_url or BASE_URL),
    clock_ms=lambda: time.time_ns() // 1_000_000,
)
cold_start.ended()


@measured
def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return session.answer(event).to_api_gateway()
