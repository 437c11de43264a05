"""The questions of a deployment, at most five. An environment variable with the answer spares each question."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.publishable_key import frontend_api
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.deployment.logins import owner_url_problem
from clerk_supabase_cli.operate.deployment.stack_file import name_problem
from clerk_supabase_cli.operate.setup.secret_formats import secret_key_problem, webhook_secret_problem


class AnswerWrong(Failure):
    """An answer in an environment variable cannot be used, or there is nobody to ask."""


def _publishable_key_problem(key: str) -> str:
    try:
        frontend_api(key)
    except SettingsError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question; an empty answer means the default."""

    variable: str
    """The environment variable with the answer."""
    words: str
    problem_with: Callable[[str], str]
    """The fault of an answer, as a sentence or its rest; empty for a good answer."""
    default: str = ""
    is_secret: bool = False


NAME: Final = Question("CLERK_SUPABASE_STACK", "Name of the stack", name_problem, "clerk-supabase-sync")
PUBLISHABLE_KEY: Final = Question(
    "CLERK_PUBLISHABLE_KEY",
    "Clerk's publishable key (pk_..., from API keys in Clerk's dashboard; empty: no POST /session)",
    _publishable_key_problem,
)
SECRET_KEY: Final = Question(
    "CLERK_SECRET_KEY",
    "Clerk's secret key (sk_..., from the same page; empty: Clerk is not compared with Postgres)",
    secret_key_problem,
    is_secret=True,
)
OWNER: Final = Question(
    "DATABASE_URL",
    "Connection string of the database's owner (postgresql://..., from Connect > Session pooler in Supabase's "
    "dashboard), to migrate the database and to make the logins of the functions",
    owner_url_problem,
    is_secret=True,
)
SIGNING_SECRET: Final = Question(
    "CLERK_WEBHOOK_SIGNING_SECRET",
    "Signing secret of this endpoint (whsec_...; empty: later)",
    webhook_secret_problem,
    is_secret=True,
)
QUESTIONS: Final = (NAME, PUBLISHABLE_KEY, SECRET_KEY, OWNER, SIGNING_SECRET)


class Answers:
    """The answers: from the environment, or else from the operator, who is asked each question once."""

    def __init__(self, ask: Callable[[Question], str] | None) -> None:
        """*ask*: asks the operator until the answer is good; None if there is nobody to ask."""
        self._ask = ask
        self._known: dict[str, str] = {}
        self.asked: list[Question] = []
        """The questions put to the operator."""

    @property
    def can_ask(self) -> bool:
        """Tells whether there is somebody to ask."""
        return self._ask is not None

    def __call__(self, question: Question) -> str:
        """The answer; the default if there is nobody to ask. Raises AnswerWrong for a variable with a fault."""
        if question.variable not in self._known:
            self._known[question.variable] = self._answer(question)
        return self._known[question.variable]

    def _answer(self, question: Question) -> str:
        if given := os.environ.get(question.variable, "").strip():
            if problem := question.problem_with(given):
                raise AnswerWrong(f"{question.variable}: {problem}")
            return given
        if self._ask is None:
            return question.default
        self.asked.append(question)
        return self._ask(question)
