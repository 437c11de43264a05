"""docs/security.md: each measure names a file that exists, and each claim a test that exists."""

from __future__ import annotations

import re

import pytest

from clerk_supabase_cli.operate.setup.stack_secrets import SECRETS
from tests.kit.documents import ROOT, documents, headings, names_of_tests, table_of

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CHECKLIST = table_of(ROOT / "docs" / "security.md", "Checklist")
# Asked for by who wants to go to production; each word is in a line of the checklist.
ASKED_FOR = (
    *("JWKS", "issuer", "Expired", "RS256", "HS256", "different users", "never from the client", "least privilege"),
    *("signature is verified", "HTTPS", "Rate limits", "replay", "in the code", "rotate", "service_role", "TLS"),
    *("at rest", "Audit", "Errors are logged", "Organizations and roles", "Public profiles", "auth.uid()"),
)


WHO_CAN = "Who can do what"
NOBODYS = "What is left to you"
# Each of these has a table of what they can and cannot do.
IDENTITIES = (
    *("webhook URL", "recorded a webhook", "webhook secret", "`clerk_sync_worker`", "`clerk_sync_session`"),
    *(
        "`service_role`",
        "reads everything",
        "create objects in `clerk` or `public`",
        "Clerk's secret key",
        "publishable key",
    ),
    *("signed-in user", "banned, deprovisioned, deleted or removed", "`make dev`", "logs or the queues", "dependency"),
)


def identities() -> list[str]:
    """Every identity whose powers and limits the document names."""
    section = re.split(r"^## ", TEXT.partition(f"\n## {WHO_CAN}\n")[2], flags=re.MULTILINE)[0]
    return [heading for heading in headings(section) if heading != NOBODYS]


def claims(who: str) -> list[list[str]]:
    return table_of(ROOT / "docs" / "security.md", who)


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


@pytest.mark.parametrize("words", IDENTITIES)
def test_the_document_says_what_each_identity_can_and_cannot_do(words: str) -> None:
    [who] = [each for each in identities() if words in each]
    assert {verdict for verdict, *_ in claims(who)} == {"can", "cannot"}


def test_the_document_names_no_other_identity() -> None:
    assert len(identities()) == len(IDENTITIES)


@pytest.mark.parametrize(
    ("who", "claim"),
    [pytest.param(who, claim, id=f"{who} {claim[0]} {claim[1][:60]}") for who in identities() for claim in claims(who)],
)
def test_each_claim_about_an_identity_names_tests_that_exist(who: str, claim: list[str]) -> None:
    verdict, what, proof = claim
    assert verdict in ("can", "cannot")
    assert what
    tests = re.findall(r"`(test_\w+)`", proof)
    assert tests, f"{who} {verdict} {what}: says who?"
    assert set(tests) <= names_of_tests().keys()


def test_every_test_that_is_named_anywhere_exists() -> None:
    assert set(re.findall(r"`(test_\w+)`", TEXT)) <= names_of_tests().keys()


@pytest.mark.parametrize("variable", [kept.variable for kept in SECRETS])
def test_every_secret_of_the_stack_has_its_way_to_be_rotated(variable: str) -> None:
    _, _, after = TEXT.partition(f"`{variable}`")
    assert "setup --store-secrets" in after.partition("###")[0]


def test_the_days_in_the_document_are_those_of_the_template() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    said = dict(re.findall(r"`(\w+Days)` \((\d+)\)", TEXT))
    assert said.keys() == {"HoldBackDays", "AuditDays", "DeliveriesDays", "LogRetentionDays"}
    for name, days in said.items():
        assert re.search(rf"^  {name}:\n(?:    .*\n)*?    Default: {days}$", template, re.MULTILINE), name


def test_the_readme_says_how_to_report_a_vulnerability() -> None:
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
