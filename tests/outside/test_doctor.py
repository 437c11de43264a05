"""The doctor asks Supabase's API about a session token, and believes the right answers."""

from __future__ import annotations

from clerk_supabase_cli.standin.token_mint import Mint, SigningKey
from tests.kit.doctoring import Doctor
from tests.outside.conftest import Project


def verdict(project: Project, token: str) -> tuple[str, str]:
    doctor = Doctor(
        {"SUPABASE_ANON_KEY": project.key("anon"), "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsubG9jYWwudGVzdCQ="}
    )
    report = doctor.examine("supabase-auth", arguments=("--supabase-url", project.url, "--token", token))
    return report.verdicts["supabase-auth"], report.words("supabase-auth")


def test_a_token_of_the_instance_that_supabase_trusts_is_taken(project: Project, ada: str) -> None:
    found, words = verdict(project, project.token(ada))
    assert found == "ok", words


def test_a_token_of_another_instance_says_where_to_add_clerk(project: Project, ada: str) -> None:
    found, words = verdict(project, Mint(SigningKey.generate()).session(ada))
    assert found == "fail"
    assert "401" in words
    assert "Third Party Auth" in words


def test_a_token_without_the_role_may_not_read(project: Project, ada: str) -> None:
    found, words = verdict(project, project.mint.session(ada, role=None))
    assert found == "fail"
    assert "may not read" in words or "401" in words
