"""The plan of a deployment: the settings of the stack, the stack as it is, and the values that would change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.deployment.account import Account
from clerk_supabase_cli.operate.deployment.parameters import (
    Change,
    Declared,
    changes,
    complete,
    problems,
    with_revision,
)
from clerk_supabase_cli.operate.deployment.stack import Stack
from clerk_supabase_cli.operate.deployment.stack_file import Settings


class AnotherAccount(Failure):
    """The credentials are of another AWS account than the stack's."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A deployment before its first step."""

    settings: Settings
    stack: Stack | None
    """The stack; None if it has to be made."""
    wanted: Mapping[str, str]
    """The value of every parameter."""
    problems: list[str] = field(default_factory=list)
    """Everything that would make the deployment fail, each with its remedy."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        account: Account,
        stack: Stack | None,
        known: Mapping[str, Declared],
        certificates: Path,
    ) -> Plan:
        """The plan for these settings. Raises AnotherAccount.

        *certificates*: the folder with the files of the layer that DatabaseCaFile may name.
        """
        if settings.account and settings.account != account.number:
            raise AnotherAccount(
                f"the credentials are of the AWS account {account.number}, and the stack {settings.name} belongs into "
                f"{settings.account}: set AWS_PROFILE, or correct `account` in the file"
            )
        wrong = list(problems(settings.parameters, known))
        deployed = stack.deployed if stack else {}
        wanted = with_revision(complete(settings.parameters, known), deployed)
        if not wrong:
            wrong = [*account.problems(wanted, deployed), *_certificate_problems(wanted, certificates)]
        return cls(settings, stack, wanted, wrong)

    @property
    def is_new(self) -> bool:
        """Tells whether no stack has values yet."""
        return self.stack is None or not self.stack.deployed

    @property
    def changes(self) -> list[Change]:
        """The values that would change in the stack."""
        return [] if self.stack is None else changes(self.wanted, self.stack.deployed)

    @property
    def has_session(self) -> bool:
        """Tells whether the stack has POST /session."""
        return self.uses_clerk and self.wanted["ClerkPublishableKey"] != ""

    @property
    def uses_clerk(self) -> bool:
        """Tells whether the stack reads from Clerk's API."""
        return self.wanted["UseClerkApi"] == "true"

    def with_stack(self, stack: Stack | None) -> Plan:
        """Returns the plan with the stack as it is now."""
        return replace(self, stack=stack)


def _certificate_problems(wanted: Mapping[str, str], certificates: Path) -> Iterator[str]:
    name = PurePosixPath(wanted["DatabaseCaFile"]).name
    if name and not (certificates / name).is_file():
        yield f"DatabaseCaFile names {name}, which is not in {certificates}: put the certificate of the database there"
