"""A comparison on the operator's machine: opens and closes the database, Clerk's API and the queue."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import click

from clerk_supabase.aws.queue import Queue
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.connection_string import parse, with_parameter
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs, QueueRepairs
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.records import RunDetails
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.telemetry import logger
from clerk_supabase_cli.event_types import cause_in_words
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import DATABASE_URL, PATIENT, Patience, open_database
from clerk_supabase_cli.operate.queues import Queues, client
from clerk_supabase_cli.printing import StandardError

_KEY_VARIABLE: Final = "CLERK_SECRET_KEY"
# The run counts more findings, but a table of more is of no use.
_MOST_GROUPED: Final = 100_000
# The limit of the worker's role. The owner's role has no limit, and the app may keep a lock for hours.
_LOCK_SECONDS: Final = 5.0
_NOT_COMPLETE: Final = 3


class NoSuchRun(Failure):
    """The number belongs to no comparison."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A comparison, and the record of earlier comparisons."""

    reconcile: Reconcile
    runs: Runs


@contextmanager
def open_runs(database_url: str, patience: Patience = PATIENT, seconds: float | None = None) -> Iterator[Runs]:
    """The record of comparisons in the database. Raises DatabaseFailed, with advice, if it cannot be reached.

    *seconds*: the longest wait for an answer; None: as long as the server takes.
    """
    with open_database(database_url, patience):
        pass
    with closing(Store(_owners(database_url), patience_seconds=seconds, lock_seconds=_LOCK_SECONDS)) as store:
        yield Runs(store)


@contextmanager
def open_reconcile(
    database_url: str,
    clerk_api_url: str,
    queues: Queues | None,
    settings: ReconcileSettings,
    *,
    key: Fixed | None = None,
) -> Iterator[Tools]:
    """A comparison; its repairs go through the sync queue of *queues*, or without a queue are applied at once.

    Takes the secret key from the environment, unless *key* is given. Raises UsageError.
    """
    try:
        http = ClerkHttp(key or _secret_key(), clerk_api_url)
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
    """Logs only warnings, on stderr: the log for CloudWatch would mix with the output of the command."""
    handler, level = logger.registered_handler, logger.log_level
    before = handler.setStream(StandardError()) if isinstance(handler, logging.StreamHandler) else None
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        if isinstance(handler, logging.StreamHandler) and before is not None:
            handler.setStream(before)


def details_of(runs: Runs, run_id: int, *, limit: int = _MOST_GROUPED) -> RunDetails:
    """A comparison with its findings, at most *limit*, for people. Raises NoSuchRun."""
    details = runs.show(run_id, limit=limit)
    if details is None:
        raise NoSuchRun(f"there is no run {run_id}; try: clerk-supabase reconcile runs")
    findings = [replace(each, cause=cause_in_words(each.kind, each.cause)) for each in details.findings]
    return replace(details, findings=findings)


def exit_for(report: Report) -> None:
    """Ends the command with the exit status for the state of the comparison."""
    if report.state == "failed":
        sys.exit(1)
    if report.state != "complete":
        sys.exit(_NOT_COMPLETE)
