"""docs/deploy.md: each parameter and each output in the text exists. test_documents.py checks its commands."""

from __future__ import annotations

import re

from clerk_supabase_cli.operate.deployment import parameters
from tests.infrastructure.template import WITH_A_REVISION, Template
from tests.kit.documents import ROOT, commands

GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_every_parameter_and_output_in_the_guide_exists(template: Template) -> None:
    known = template.source["Parameters"].keys() | template.transformed["Outputs"].keys()
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", GUIDE))
    assert {"DatabaseCaFile", "AlarmEmail", "WebhookUrl", "DashboardUrl", "WebhookSecretArn"} <= named
    assert named <= known


def test_the_guide_says_which_parameters_want_a_revision() -> None:
    assert not [name for name in WITH_A_REVISION if f"`{name}`" not in GUIDE]
    assert "`Revision`" in GUIDE


def test_the_command_makes_a_revision_for_the_same_parameters() -> None:
    assert set(parameters.WITH_A_REVISION) == WITH_A_REVISION


def test_no_document_asks_for_a_secret_on_the_command_line() -> None:
    assert not [command for command in commands({"aws"}) if "--secret-string" in command.arguments]
