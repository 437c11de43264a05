"""Compares Clerk with Postgres and repairs differences, for as long as the function may run."""

import os
import time
from dataclasses import asdict
from typing import Any

from clerk_supabase.aws import cold_start  # isort: split

from aws_lambda_powertools.utilities.typing import LambdaContext

from clerk_supabase.aws import clients as aws
from clerk_supabase.aws.queue import Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.clerk.address import BASE_URL
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.errors import ClerkSupabaseError, OtherVersion
from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import QueueRepairs
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.request import request_of
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.settings import ReconcileFunctionSettings
from clerk_supabase.telemetry import logger, measured

RESERVE_SECONDS = 30  # for the last page, the checkpoint and the metrics
settings = ReconcileFunctionSettings.from_environment(os.environ)
rules = ReconcileSettings.from_environment(os.environ)
secrets_manager = aws.secrets_manager()
store = Store(Secret(secrets_manager, settings.database_secret_arn), settings.database_ca_file)
clerk_key = Secret(secrets_manager, settings.clerk_secret_key_arn)
clerk_http = ClerkHttp(clerk_key, settings.clerk_api_url or BASE_URL, share=settings.rate_limit_share)
repairs = QueueRepairs(Queue(aws.sqs(), settings.sync_queue_url), keep_private_metadata=rules.keep_private_metadata)
reconcile = Reconcile(clerk_http, Runs(store), repairs, rules)
cold_start.ended()


class RunFailed(Exception):
    """The run failed. With this error, Lambda tries once more, and then reports the failure."""


@measured
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    if (request := request_of(event)).mode == "full" and not request.dry_run:
        Housekeeping(store, settings.keep).run()
    try:
        report = reconcile.run(request, deadline)
    except OtherVersion as error:
        # No failed run: another attempt of Lambda would come too early, and the next schedule tries again.
        logger.error("run waiting", reason=str(error))
        return {"state": "waiting", "reason": str(error)}
    except ClerkSupabaseError as error:
        logger.error("the run did not begin, or did not end", reason=str(error))
        raise
    if report.state == "failed":
        raise RunFailed(report.reason)
    return asdict(report)
