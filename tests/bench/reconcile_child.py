"""`python -m tests.bench.reconcile_child`: one run in a process of its own; prints its cost as JSON."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from contextlib import closing
from typing import Any

import click

from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase.reconcile.request import Mode, Request
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.local.clerk_process import KEY
from clerk_supabase_cli.simulator.silence import silent_telemetry


class _TimedHttp(ClerkHttp):
    """An HTTP client that records its time of waiting for Clerk, and has no rate limit."""

    waited = 0.0
    cpu_waited = 0.0

    def _exchange(self, *arguments: Any) -> Any:
        started, cpu_started = time.perf_counter(), time.thread_time()
        try:
            return super()._exchange(*arguments)
        finally:
            self.waited += time.perf_counter() - started
            self.cpu_waited += time.thread_time() - cpu_started


@click.command()
@click.option("--clerk", required=True)
@click.option("--database", required=True)
@click.option("--mode", default="full")
@click.option("--versions-only", is_flag=True)
@click.option("--dry-run", is_flag=True)
@click.option("--threads", default=1, help="With one, what is waited for Clerk can be taken off.")
def main(*, clerk: str, database: str, mode: Mode, versions_only: bool, dry_run: bool, threads: int) -> None:
    """Runs, and prints a tests.bench.reconcile.Measured."""
    http = _TimedHttp(Fixed(KEY), clerk, sleep=lambda _: None, clock=_hurried)
    with closing(Store(Fixed(database))) as store, silent_telemetry():
        runs = Runs(store)
        runs.count_rows()
        settings = ReconcileSettings(threads=threads, delete_margin_ms=0)
        reconcile = Reconcile(http, runs, DirectRepairs(), settings, monotonic=_hurried)
        started, cpu_started = time.perf_counter(), time.process_time()
        report = reconcile.run(Request(mode, dry_run, versions_only), math.inf)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    json.dump(
        {
            "state": report.state,
            "reason": report.reason,
            "counts": report.counts,
            "calls": report.calls,
            "own_seconds": seconds - http.waited,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds - http.cpu_waited,
            "http_cpu_seconds": http.cpu_waited,
            "peak_bytes": peak if sys.platform == "darwin" else peak * 1024,
        },
        sys.stdout,
    )


def _hurried() -> float:
    """A clock by which the rate limit never makes anybody wait."""
    return time.monotonic() * 1e6


if __name__ == "__main__":
    main()
