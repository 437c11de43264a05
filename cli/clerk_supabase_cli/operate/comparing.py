"""Run a comparison on the operator's machine: the database, Clerk's API and the queue, opened and closed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import click

from clerk_supabase.aws.queue import Queue
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.connection_string import parse, with_parameter
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.records import RunDetails
from clerk_supabase.reconcile.repairs import DirectRepairs, QueueRepairs
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.telemetry import logger
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL
from clerk_supabase_cli.operate.queues import Queues, client
from clerk_supabase_cli.printing import StandardError

_KEY_VARIABLE: Final = "CLERK_SECRET_KEY"
# More are counted by the run, and not worth a table.
_MOST_GROUPED: Final = 100_000
# As long as the role of the worker waits. The owner's role has no limit, and the app may keep a lock for hours.
_LOCK_SECONDS: Final = 5.0
_NOT_COMPLETE: Final = 3


class NoSuchRun(Failure):
    """No comparison has this number."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A comparison and the record of earlier ones."""

    reconcile: Reconcile
    runs: Runs


@contextmanager
def open_runs(database_url: str) -> Iterator[Runs]:
    """The record of comparisons in the database."""
    with closing(Store(_owners(database_url), lock_seconds=_LOCK_SECONDS)) as store:
        yield Runs(store)


@contextmanager
def open_reconcile(
    database_url: str,
    clerk_api_url: str,
    queues: Queues | None,
    settings: ReconcileSettings,
) -> Iterator[Tools]:
    """A comparison whose repairs go through the sync queue of *queues*, or without one are applied at once.

    Takes the secret key from the environment. Raises UsageError.
    """
    try:
        http = ClerkHttp(_secret_key(), clerk_api_url)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    url = queues.urls.get("sync") if queues else None
    repairs = (
        QueueRepairs(Queue(client("sqs"), url), keep_private_metadata=settings.keep_private_metadata)
        if url
        else DirectRepairs(keep_private_metadata=settings.keep_private_metadata)
    )
    with closing(http), open_runs(database_url) as runs, _log_on_stderr():
        yield Tools(Reconcile(http, runs, repairs, settings), runs)


def _owners(database_url: str) -> Fixed:
    """The connection string of the owner: TLS if the server has it, unless the string says more."""
    says_how = "sslmode" in parse(database_url, DATABASE_URL).parameters
    return Fixed(database_url if says_how else with_parameter(database_url, "sslmode", "prefer"), DATABASE_URL)


def _secret_key() -> Fixed:
    """The key in the environment. Raises UsageError."""
    key = os.environ.get(_KEY_VARIABLE, "")
    if not key:
        raise click.UsageError(
            f"Put the secret key of Clerk's Backend API (sk_live_... or sk_test_...) into {_KEY_VARIABLE}. "
            "It is no option, because options can be read by everybody on this machine."
        )
    return Fixed(key, _KEY_VARIABLE)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Warnings only: what the functions log for CloudWatch would be in the way of what is printed."""
    handler, level = logger.registered_handler, logger.log_level
    before = handler.setStream(StandardError()) if isinstance(handler, logging.StreamHandler) else None
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        if isinstance(handler, logging.StreamHandler) and before is not None:
            handler.setStream(before)


def details_of(runs: Runs, run_id: int) -> RunDetails:
    """One comparison with all it found. Raises NoSuchRun."""
    details = runs.show(run_id, limit=_MOST_GROUPED)
    if details is None:
        raise NoSuchRun(f"there is no run {run_id}; try: clerk-supabase reconcile runs")
    return details


def exit_for(report: Report) -> None:
    """Ends the command with the status that the state of the comparison has."""
    if report.state == "failed":
        sys.exit(1)
    if report.state != "complete":
        sys.exit(_NOT_COMPLETE)
