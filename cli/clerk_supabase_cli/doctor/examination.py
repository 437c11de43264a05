"""Runs checks, each with a time limit, so that no check can stop another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from clerk_supabase.errors import ClerkSupabaseError, ClerkUnavailable
from clerk_supabase.settings import SettingsError
from clerk_supabase_cli.doctor.patient import NotLookedAt, Patient
from clerk_supabase_cli.doctor.verdicts import Check, Finding, Result, fail, skipped
from clerk_supabase_cli.operate.database import DatabaseFailed
from clerk_supabase_cli.operate.queues import AwsUnreachable


def examine(patient: Patient, checks: Iterable[Check]) -> Iterator[Result]:
    """Runs the checks in order, and yields each result. No failure of a check makes the function raise."""
    for check in checks:
        began = time.monotonic()
        found: list[Finding] = []
        # A thread cannot be ended: a hanging thread is left behind, and does not keep the process from ending.
        thread = threading.Thread(target=_look, args=(patient, check, found), name=check.name, daemon=True)
        thread.start()
        seconds = check.seconds + (patient.named.canary_seconds if check.waits_for_canary else 0)
        thread.join(seconds)
        findings = list(found)
        if thread.is_alive():
            findings.append(
                fail(f"no answer within {seconds:.0f} s", "can this machine reach the subject of the check?")
            )
        yield Result(check.name, check.looks_at, findings, time.monotonic() - began)


def _look(patient: Patient, check: Check, found: list[Finding]) -> None:
    try:
        for finding in check.look(patient):
            found.append(finding)  # noqa: PERF402 - one by one: the findings before a failure count
    except NotLookedAt as reason:
        found.append(skipped(str(reason)))
    except (AwsUnreachable, DatabaseFailed, ClerkSupabaseError, SettingsError) as error:
        found.append(fail(str(error), _todo(error)))
    except Exception as error:  # noqa: BLE001 - a broken check must not stop the others
        # Only the type: an unknown message may repeat a secret.
        found.append(fail(f"the check itself broke: {type(error).__name__}", "please report it"))


def _todo(error: Exception) -> str:
    """The advice for an error, empty for the many messages that end with advice themselves."""
    match error:
        case AwsUnreachable():
            return "AWS is asked with the region and credentials of this shell: aws sts get-caller-identity"
        case ClerkUnavailable():
            return "status.clerk.com"
        case SettingsError():
            return "the function was not deployed from this template, or edited by hand: sam build && sam deploy"
        case _:
            return ""
