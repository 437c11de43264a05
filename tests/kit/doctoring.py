"""Reports of `clerk-supabase doctor`, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from clerk_supabase_cli.main import commands

# Variables of the caller, from which the doctor would learn more than the test says.
_VARIABLES = (
    *("DATABASE_URL", "CLERK_SUPABASE_STACK", "AWS_PROFILE", "AWS_ENDPOINT_URL", "CLERK_API_URL"),
    *("CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_SECRET_KEY", "CLERK_PUBLISHABLE_KEY"),
    *("SYNC_DATABASE_URL", "SESSION_DATABASE_URL", "SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_ACCESS_TOKEN"),
)


@dataclass(frozen=True)
class Report:
    """The report of the command, read from its JSON."""

    checks: list[Mapping[str, Any]]
    text: str
    """The same report as printed text."""

    @property
    def verdicts(self) -> dict[str, str]:
        """By the name of the check."""
        return {check["name"]: check["verdict"] for check in self.checks}

    def words(self, name: str) -> str:
        """All text of a check, with its advice."""
        [check] = [each for each in self.checks if each["name"] == name]
        return "\n".join(f"{each['words']} -> {each['todo']}" for each in check["findings"])


@dataclass
class Doctor:
    """The command with an environment of its own, and nothing of the caller's."""

    environment: dict[str, str]

    def examine(self, *checks: str, arguments: tuple[str, ...] = (), **more: str) -> Report:
        """Runs these checks, or all; *more* is added to the environment. Its exit status must fit the report."""
        chosen = [part for check in checks for part in ("--check", check)]
        unset: dict[str, str | None] = dict.fromkeys(_VARIABLES)
        result = CliRunner().invoke(
            commands, ["doctor", *chosen, *arguments, "--json"], env={**unset, **self.environment, **more}
        )
        assert result.exit_code in {0, 1}, result.output + repr(result.exception)
        printed = json.loads(result.stdout)
        assert (printed["verdict"] == "fail") == (result.exit_code == 1)
        return Report(printed["checks"], result.output)

    def verdict(self, check: str, **more: str) -> tuple[str, str]:
        """The verdict of one check, and all its text."""
        report = self.examine(check, arguments=(), **more)
        return report.verdicts[check], report.words(check)
