"""The secrets of a deployment: the empty secrets, and the values for them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from clerk_supabase_cli.operate.deployment.logins import new_login
from clerk_supabase_cli.operate.deployment.plan import Plan
from clerk_supabase_cli.operate.deployment.questions import OWNER, SECRET_KEY, SIGNING_SECRET, Answers
from clerk_supabase_cli.operate.queues import client, errors_explained
from clerk_supabase_cli.operate.setup.stack_secrets import SECRETS, Kept, Stored, store

_BY_QUESTION = {question.variable: question for question in (SECRET_KEY, SIGNING_SECRET)}


def empty_secrets(plan: Plan) -> list[Kept]:
    """The secrets of the stack without a value; before the deployment, also those that the stack will make.

    Raises AwsUnreachable.
    """
    outputs = plan.stack.outputs if plan.stack else {}
    return [
        kept
        for kept in SECRETS
        if _belongs_to(plan, kept) and not has_value(plan.wanted[kept.parameter] or outputs.get(kept.parameter, ""))
    ]


def needs_the_owner(plan: Plan) -> bool:
    """Tells whether a login of a function must be made, which needs the owner's connection string."""
    return any(kept.role and not _given(kept) for kept in empty_secrets(plan))


def fill(plan: Plan, answers: Answers, *, owner_url: str, even_if_in_use: bool) -> Iterator[Stored]:
    """Stores the values of the secrets that have none; no value is replaced.

    *owner_url*: makes the logins of the functions; empty if nobody gave the string. Raises AwsUnreachable, and the
    errors of `new_login`.
    """
    empty = {kept.parameter for kept in empty_secrets(plan)}

    def value_of(kept: Kept) -> str:
        if kept.parameter not in empty:
            return ""
        if value := _given(kept):
            return value
        if kept.role:
            return new_login(owner_url, kept.role, even_if_in_use=even_if_in_use) if owner_url else ""
        return answers(_BY_QUESTION[kept.variable])

    return store(plan.settings.name, value_of)


def owner_url_of(plan: Plan, answers: Answers, *, migrates: bool) -> str:
    """The owner's connection string, if a step of the deployment needs the string; else empty."""
    return answers(OWNER) if migrates or needs_the_owner(plan) else ""


def _given(kept: Kept) -> str:
    return os.environ.get(kept.variable, "").strip()


def _belongs_to(plan: Plan, kept: Kept) -> bool:
    match kept.parameter:
        case "ClerkSecretKeyArn":
            return plan.uses_clerk
        case "SessionDatabaseSecretArn":
            return plan.has_session
        case _:
            return True


def has_value(identifier: str) -> bool:
    """Tells whether a secret has a value; an empty identifier is of no secret. Raises AwsUnreachable."""
    if not identifier:
        return False
    manager = client("secretsmanager")
    with errors_explained():
        try:
            found = manager.get_secret_value(SecretId=identifier)
        except manager.exceptions.ResourceNotFoundException:
            return False
    return bool(found.get("SecretString") or found.get("SecretBinary"))
