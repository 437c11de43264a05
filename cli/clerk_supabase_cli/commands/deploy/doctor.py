"""`clerk-supabase doctor`: the faults of a deployment, with advice for each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import click
from rich.text import Text

from clerk_supabase_cli.doctor.examination import examine
from clerk_supabase_cli.doctor.patient import HOW_TO_NAME_A_STACK, HOW_TO_NAME_THE_DATABASE, Named, Patient
from clerk_supabase_cli.doctor.registry import CHECKS
from clerk_supabase_cli.doctor.verdicts import Result, Verdict, worst
from clerk_supabase_cli.options import (
    NumberRange,
    instance_options,
    json_option,
    optional_database_url_option,
)
from clerk_supabase_cli.printing import print_json, printable
from clerk_supabase_cli.terminal import ASIDE, BAD, DOUBTFUL, GOOD, STRONG, Terminal
from clerk_supabase_cli.token_argument import token_of

_STYLES: Final = {
    Verdict.OK: GOOD,
    Verdict.WARN: DOUBTFUL,
    Verdict.FAIL: BAD,
    Verdict.SKIPPED: ASIDE,
}
_WIDTH: Final = max(len(check.name) for check in CHECKS)
_INDENT: Final = 8 + _WIDTH + 2


@click.command("doctor")
@click.option(
    "--stack-name",
    envvar="CLERK_SUPABASE_STACK",
    default="",
    help="Deployed stack; region and credentials as for any AWS tool.  [env: CLERK_SUPABASE_STACK]",
)
@optional_database_url_option
@click.option("--token", default="", help="A session token of Clerk's, to check its claims; `-` reads standard input.")
@click.option(
    "--check",
    "names",
    multiple=True,
    type=click.Choice([check.name for check in CHECKS]),
    metavar="CHECK",
    help="Only this check, such as `feeds`; repeatable. The output names the checks.",
)
@click.option(
    "--wait",
    default=30.0,
    show_default=True,
    type=NumberRange(0, 300),
    help="Longest time of a test event to the database, in seconds.",
)
@instance_options
@json_option
def doctor_command(
    *,
    stack_name: str,
    database_url: str | None,
    token: str,
    names: tuple[str, ...],
    wait: float,
    as_json: bool,
    **instance: str,
) -> None:
    """Find the faults of a deployment, and print advice for each.

    Checks the stack, the database and the publishable key, if named; other checks are printed as skipped. Doctor
    changes nothing, but sends a signed test event, which is recorded as a delivery without a user.

    Secrets come from the stack; without a stack, from CLERK_SECRET_KEY, SYNC_DATABASE_URL and SESSION_DATABASE_URL.
    CLERK_WEBHOOK_SIGNING_SECRET, as Clerk shows it, signs the test event and is compared with the stack's.
    SUPABASE_ANON_KEY, the project's publishable key, is needed to ask Supabase about a token, and
    SUPABASE_ACCESS_TOKEN, an access token of your account, to look at the project's settings.

    Exit status 0: no check failed. 1: a check failed. 2: nothing was named.

    \b
    Examples:
      clerk-supabase doctor
      clerk-supabase doctor --stack-name clerk-supabase-sync --check feeds
    """
    if not (stack_name or database_url or instance["publishable_key"]):
        raise click.UsageError(f"{HOW_TO_NAME_A_STACK}; {HOW_TO_NAME_THE_DATABASE}; or both.")
    named = Named.with_secrets(
        stack_name=stack_name, database_url=database_url or "", token=token_of(token), canary_seconds=wait, **instance
    )
    results = examine(Patient(named), [check for check in CHECKS if not names or check.name in names])
    verdict = _print_json(list(results)) if as_json else print_results(results, Terminal())
    if verdict is Verdict.FAIL:
        sys.exit(1)


def _print_json(results: Sequence[Result]) -> Verdict:
    verdict = worst(result.verdict for result in results)
    print_json({"verdict": verdict, "checks": [result.as_json() for result in results]})
    return verdict


def print_results(results: Iterable[Result], console: Terminal) -> Verdict:
    """Prints each verdict as soon as the check has ended; returns the worst verdict."""
    verdicts: list[Verdict] = []
    for result in results:
        verdicts.append(result.verdict)
        name = result.name
        for finding in result.findings:
            style = _STYLES[finding.verdict]
            line = Text(f"{finding.verdict:<8}", style=style) + Text(f"{name:<{_WIDTH}}  {printable(finding.words)}")
            console.say(line, indent=_INDENT)
            if finding.todo:
                console.say(f"{'':<{_INDENT}}-> {finding.todo}", STRONG, indent=_INDENT + 3)
            name = ""
    counts = Counter(verdicts)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(Verdict) if counts[verdict])
    console.say("")
    console.say(summary, _STYLES[worst(verdicts)])
    return worst(verdicts)
