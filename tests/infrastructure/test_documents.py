"""What an operator follows: no command, option, parameter or output that does not exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import click
import pytest
from botocore import xform_name

from clerk_supabase_cli.main import commands
from clerk_supabase_cli.tools import Tools
from tests.infrastructure.template import Template
from tests.infrastructure.test_template import WITH_A_REVISION

ROOT = Path(__file__).parents[2]
README_ON_DEPLOYMENT = "README.md"
FOLLOWED = ("docs/runbook.md", "docs/deploy.md", README_ON_DEPLOYMENT)

# What the AWS CLI adds to the services' own operations and options.
# https://docs.aws.amazon.com/cli/latest/reference/logs/tail.html
AWS_GLOBAL_OPTIONS = {"--query", "--output", "--region", "--profile", "--cli-binary-format"}
AWS_LOGS_TAIL_OPTIONS = {"--since", "--filter-pattern", "--follow", "--format"}
# https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference.html
SAM_OPTIONS = {
    "build": set[str](),
    "deploy": {"--config-env", "--parameter-overrides", "--guided"},
    "delete": {"--stack-name"},
}
# Not of this project, and too plain to be wrong.
PLAIN = {"export", "mkdir", "cp", "git"}


def text(document: str) -> str:
    whole = (ROOT / document).read_text(encoding="utf-8")
    if document != README_ON_DEPLOYMENT:
        return whole
    [section] = re.findall(r"^## Deploy it\n.*?(?=^## )", whole, flags=re.MULTILINE | re.DOTALL)
    return str(section).replace(".venv/bin/", "")


def shell_commands(*documents: str) -> list[str]:
    """Every command of every block, as it is typed."""
    blocks = [
        block
        for document in documents
        for block in re.findall(r"^```sh\n(.*?)^```$", text(document), flags=re.MULTILINE | re.DOTALL)
    ]
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&")]


def of_program(name: str) -> list[Any]:
    """The commands that begin with a program's name, as parameters of a test."""
    of_it = dict.fromkeys(typed for typed in shell_commands(*FOLLOWED) if typed.split()[0] == name)
    return [pytest.param(shlex.split(typed)[1:], id=typed) for typed in of_it]


def test_no_program_is_used_that_is_not_checked_here() -> None:
    programs = {typed.split()[0] for typed in shell_commands(*FOLLOWED)}
    assert programs == {"clerk-supabase", "aws", "sam", "psql", "make", "uv"} | PLAIN


@pytest.mark.parametrize("arguments", of_program("clerk-supabase"))
def test_a_command_of_ours_exists_with_these_options(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres")
    monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", "pk_live_...")
    command: click.Command = commands
    names = list(arguments)
    while isinstance(command, click.Group) and not (command.invoke_without_command and is_option(names[:1])):
        command = command.commands[names.pop(0)]

    command.make_context("clerk-supabase", names)


def is_option(rest: list[str]) -> bool:
    """Whether the next word is no further command, for there is none or it is an option."""
    return not rest or rest[0].startswith("-")


@pytest.mark.parametrize("arguments", of_program("aws"))
def test_a_command_of_aws_exists_with_these_options(arguments: list[str]) -> None:
    service, operation, *rest = arguments
    session = botocore.session.get_session()
    if operation == "wait":
        waiters = session.get_waiter_model(service).waiter_names
        waiter = {xform_name(name, "-"): name for name in waiters}[rest.pop(0)]
        name = session.get_waiter_model(service).get_waiter(waiter).operation
    options = {each for each in rest if each.startswith("--")} - AWS_GLOBAL_OPTIONS
    if (service, operation) == ("logs", "tail"):
        assert options <= AWS_LOGS_TAIL_OPTIONS
        return
    model = session.get_service_model(service)
    operations = {xform_name(each, "-"): each for each in model.operation_names}
    shape: Any = model.operation_model(name if operation == "wait" else operations[operation]).input_shape
    given = {f"--{xform_name(each, '-')}": each for each in shape.members} if shape else {}
    required = {option for option, each in given.items() if each in shape.required_members} if shape else set()
    assert required <= options <= set(given)


@pytest.mark.parametrize("arguments", of_program("sam"))
def test_a_command_of_sam_exists_and_the_parameters_it_sets_are_the_templates(
    arguments: list[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    command, *rest = arguments
    assert {each for each in rest if each.startswith("--")} <= SAM_OPTIONS[command]
    parameters = {each.partition("=")[0] for each in rest if "=" in each}
    assert parameters <= set(Template(root).source["Parameters"])


@pytest.mark.parametrize("arguments", of_program("make"))
def test_make_has_this_target(arguments: list[str], root: Path) -> None:
    [target] = [each for each in arguments if "=" not in each]
    assert re.search(rf"^{target}:", (root / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("arguments", of_program("uv"))
def test_uv_has_this_command(arguments: list[str], root: Path) -> None:
    words = [each for each in arguments if each.isalpha()]
    subprocess.run([Tools.of(root).uv, "help", *words], check=True, capture_output=True)


def test_what_the_guide_calls_a_parameter_or_an_output_is_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    template = Template(root)
    known = template.source["Parameters"].keys() | template.transformed["Outputs"].keys()
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", text("docs/deploy.md")))
    assert {"DatabaseCaFile", "AlarmEmail", "WebhookUrl", "DashboardUrl", "WebhookSecretArn"} <= named
    assert named <= known


def test_the_guide_says_which_parameters_want_a_revision() -> None:
    assert not [name for name in WITH_A_REVISION if f"`{name}`" not in text("docs/deploy.md")]
    assert "`Revision`" in text("docs/deploy.md")


def test_no_document_asks_for_a_secret_on_the_command_line() -> None:
    for typed in shell_commands(*FOLLOWED):
        assert "--secret-string" not in typed
