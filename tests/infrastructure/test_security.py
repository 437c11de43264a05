"""docs/security.md: whatever it says is done is done in a file that exists, and proven by a test that exists."""

from __future__ import annotations

import re

import pytest

from clerk_supabase_cli.setup_command import SECRETS
from tests.documents import ROOT, documents, headings, names_of_tests, table_of

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CHECKLIST = table_of(ROOT / "docs" / "security.md", "Checklist")
# Asked for by who wants to go to production; each word is in a line of the checklist.
ASKED_FOR = (
    *("JWKS", "issuer", "Expired", "RS256", "HS256", "different users", "never from the client", "least privilege"),
    *("signature is verified", "HTTPS", "Rate limits", "replay", "in the code", "rotate", "service_role", "TLS"),
    *("at rest", "Audit", "Errors are logged", "Organizations and roles", "Public profiles", "auth.uid()"),
)


@pytest.mark.parametrize(("what", "where", "proof"), [pytest.param(*line, id=line[0][:60]) for line in CHECKLIST])
def test_a_line_of_the_checklist_names_files_and_tests_that_exist(what: str, where: str, proof: str) -> None:
    files = re.findall(r"`([^`]+)`", where)
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []
    tests = re.findall(r"`(test_\w+)`", proof)
    assert tests
    assert set(tests) <= names_of_tests().keys()


@pytest.mark.parametrize("words", ASKED_FOR)
def test_the_checklist_has_all_that_was_asked_for(words: str) -> None:
    assert [what for what, _, _ in CHECKLIST if words.lower() in what.lower()]


@pytest.mark.parametrize("variable", [kept.variable for kept in SECRETS])
def test_every_secret_of_the_stack_has_its_way_to_be_rotated(variable: str) -> None:
    _, _, after = TEXT.partition(f"`{variable}`")
    assert "setup --store-secrets" in after.partition("###")[0]


def test_the_days_that_are_said_are_those_of_the_template() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    said = dict(re.findall(r"`(\w+Days)` \((\d+)\)", TEXT))
    assert said.keys() == {"HoldBackDays", "AuditDays", "DeliveriesDays", "LogRetentionDays"}
    for name, days in said.items():
        assert re.search(rf"^  {name}:\n(?:    .*\n)*?    Default: {days}$", template, re.MULTILINE), name


def test_whoever_finds_a_vulnerability_is_told_by_the_readme_how_to_report_it() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert headings(policy)[1:] == [
        *("Supported versions", "Report a vulnerability", "In scope", "Out of scope", "What to expect")
    ]
    assert "*Report a vulnerability*" in policy
    assert "(docs/security.md)" in policy


def test_no_address_is_named_that_nobody_reads() -> None:
    for document in documents():
        assert not re.search(r"mailto:|security@", document.read_text(encoding="utf-8"))
