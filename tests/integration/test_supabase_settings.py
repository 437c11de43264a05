"""`setup` and `doctor` with an access token of Supabase: the settings of a project whose database is migrated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from click.testing import Result
from psycopg import sql

from clerk_supabase_cli.standin.frontend_api import FrontendApi
from tests.kit.databases import Database
from tests.kit.parked import Command
from tests.kit.supabase_management import JWT_SECRET, REF, TOKEN, Answer, SupabaseManagement
from tests.kit.tokens import KEY

OWNER = f"postgres.{REF}"
PASSWORD = "pw-of-the-owner"
PUBLISHABLE_KEY = "pk_test_c3VubnktY2F0LTEuY2xlcmsuYWNjb3VudHMuZGV2JA=="
ELSEWHERE = "https://clerk.elsewhere.com"
STEPS = ("Third Party Auth > Clerk: sunny-cat-1.clerk.accounts.dev", "Exposed schemas: add clerk")


@dataclass
class Operator:
    """The commands of an operator with a project, whose output never holds a secret."""

    supabase: SupabaseManagement
    clerk: FrontendApi
    database_url: str
    token: str = TOKEN

    def run(self, *arguments: str, status: int | None = 0, **more: str) -> Result:
        """Runs a command with the addresses of the stand-ins."""
        known = {"CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY, "DATABASE_URL": self.database_url}
        command = Command({**known, "SUPABASE_ACCESS_TOKEN": self.token, **more})
        addresses = ("--management-api-url", self.supabase.url, "--frontend-api-url", self.clerk.issuer)
        result = command.run(*arguments, *addresses, status=status)
        assert not [each for each in (TOKEN, self.token, JWT_SECRET, PASSWORD) if each and each in result.output]
        return result

    def found(self) -> list[tuple[str, str]]:
        """Verdict and words of each finding of the doctor's check."""
        result = self.run("doctor", "--check", "supabase-settings", "--json", status=None)
        [check] = json.loads(result.stdout)["checks"]
        assert self.supabase.changes == []
        return [(each["verdict"], each["words"]) for each in check["findings"]]


@pytest.fixture
def owner_url(database: Database) -> Iterator[str]:
    """The connection string of an owner whose name ends with the project, as at Supabase's pooler."""
    role = sql.Identifier(OWNER)
    with database.connect() as connection:
        connection.execute(sql.SQL("create role {} superuser login password {}").format(role, sql.Literal(PASSWORD)))
        yield f"{database.server.url(database.name, OWNER, PASSWORD)}?sslmode=disable"
        connection.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture
def operator(owner_url: str) -> Iterator[Operator]:
    with SupabaseManagement() as supabase, FrontendApi(KEY) as clerk:
        yield Operator(supabase, clerk, owner_url)


def test_setup_registers_clerk_and_exposes_the_mirror_once(operator: Operator) -> None:
    first = operator.run("setup").stdout
    assert f"set       third-party-auth: from now on, Supabase takes the tokens of {operator.clerk.issuer}" in first
    assert "set       exposed-schemas: from now on, Supabase's API serves clerk\n" in first
    assert "Webhooks > Add endpoint" in first
    assert not [step for step in STEPS if step in first]
    assert operator.supabase.issuers == [operator.clerk.issuer]
    assert operator.supabase.db_schema == "public,graphql_public,clerk"
    changes = list(operator.supabase.changes)
    assert "nothing to change at Supabase" in operator.run("setup").stdout
    found = json.loads(operator.run("setup", "--json").stdout)["supabase"]
    assert [(each["name"], each["status"]) for each in found] == [
        ("third-party-auth", "unchanged"),
        ("exposed-schemas", "unchanged"),
    ]
    assert operator.supabase.changes == changes


def test_a_token_that_supabase_does_not_take_is_one_line_and_the_steps_follow(operator: Operator) -> None:
    operator.token = f"sbp_{'9' * 40}"
    said = operator.run("setup", status=1).stdout
    [line] = [line for line in said.splitlines() if "SUPABASE_ACCESS_TOKEN" in line]
    assert "make another at https://supabase.com/dashboard/account/tokens" in line
    assert [step for step in STEPS if step in said] == list(STEPS)
    operator.token = ""
    said = operator.run("setup").stdout
    assert [step for step in STEPS if step in said] == list(STEPS)
    assert operator.supabase.changes == []


def test_a_token_that_may_do_one_thing_does_it_and_the_other_step_is_printed(operator: Operator) -> None:
    operator.supabase.rights -= {"auth_config_read"}
    said = operator.run("setup", status=1).stdout
    assert "failed    third-party-auth: " in said
    assert "make a token with auth_config_read for this project" in said
    assert [step for step in STEPS if step in said] == [STEPS[0]]
    assert operator.supabase.changes == [("PATCH", {"db_schema": "public,graphql_public,clerk"})]


def test_an_instance_that_fails_its_checks_is_not_registered(operator: Operator) -> None:
    operator.clerk.mood = "failing"
    assert (
        "skipped   third-party-auth: not registered, because a check failed" in operator.run("setup", status=1).stdout
    )
    assert operator.supabase.issuers == []


def test_a_schema_that_the_project_does_not_have_is_never_exposed(operator: Operator, new_database: str) -> None:
    """PostgREST answers nothing while an exposed schema is missing."""
    of_project = operator.database_url
    database = new_database.rpartition("/")[2]
    for url, said in {
        of_project.replace(of_project.rpartition("/")[2], f"{database}?sslmode=disable"): "run clerk-supabase migrate",
        new_database: f"does not name the project {REF}",
        of_project.replace(PASSWORD, "wrong"): "the database cannot be read",
        "": "name it with --database-url or DATABASE_URL",
    }.items():
        operator.database_url = url
        printed = operator.run("setup", SUPABASE_URL=f"https://{REF}.supabase.co").stdout
        [line] = [line for line in printed.splitlines() if line.startswith("skipped   exposed-schemas")]
        assert said in line
    assert operator.supabase.db_schema == "public, graphql_public"


def test_doctor_finds_what_setup_would_set_and_changes_nothing(operator: Operator) -> None:
    supabase, issuer = operator.supabase, operator.clerk.issuer
    supabase.add(ELSEWHERE)
    supabase.db_schema = "public,clerk_sync"
    assert operator.found() == [
        ("fail", "Supabase's API serves clerk_sync, which is for no app"),
        ("warn", "Supabase's API does not serve clerk"),
        ("fail", f"Supabase takes no tokens of {issuer}, but of {ELSEWHERE}"),
    ]
    supabase.add(issuer)
    supabase.db_schema = "public,clerk"
    assert operator.found() == [
        ("ok", "Supabase's API serves clerk"),
        ("ok", f"Supabase takes the tokens of {issuer}; it also takes the tokens of {ELSEWHERE}, which stay"),
    ]
    supabase.instead.append(Answer(403, json.dumps({"message": TOKEN}).encode()))
    [(verdict, words)] = operator.found()
    assert (verdict, "make a token with data_api_config_read" in words) == ("fail", True)
    operator.token = ""
    assert operator.found()[0][0] == "skipped"
