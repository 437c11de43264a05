"""docs/runbook.md: an entry for every alarm, and no command that does not exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import botocore.session
import click
import pytest
from botocore import xform_name

from clerk_supabase_cli.main import commands
from tests.infrastructure.template import Template

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"

# What the AWS CLI adds to the services' own operations and options.
# https://docs.aws.amazon.com/cli/latest/reference/logs/tail.html
AWS_GLOBAL_OPTIONS = {"--query", "--output", "--region", "--profile", "--cli-binary-format"}
AWS_LOGS_TAIL_OPTIONS = {"--since", "--filter-pattern", "--follow", "--format"}
# https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference.html
SAM_OPTIONS = {"build": set[str](), "deploy": {"--config-env", "--parameter-overrides"}}


def text() -> str:
    return RUNBOOK.read_text(encoding="utf-8")


def entries() -> dict[str, str]:
    """What is said under each heading."""
    _, *parts = re.split(r"^## (.+)$", text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def shell_commands() -> list[str]:
    """Every command of every block, as it is typed."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text(), flags=re.MULTILINE | re.DOTALL)
    return [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]


def of_program(name: str) -> list[Any]:
    """The commands that begin with a program's name, as parameters of a test."""
    of_it = dict.fromkeys(typed for typed in shell_commands() if typed.split()[0] == name)
    return [pytest.param(shlex.split(typed)[1:], id=typed) for typed in of_it]


def test_every_alarm_has_an_entry_and_every_entry_an_alarm(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    alarms = Template(root).of_type("AWS::CloudWatch::Alarm")
    assert sorted(set(entries()) - {"Before you start"}) == sorted(alarms)


@pytest.mark.parametrize("alarm", [name for name in entries() if name.endswith("Alarm")])
def test_an_entry_says_what_it_means_what_to_look_at_what_to_type_and_when_it_is_over(alarm: str) -> None:
    parts = re.findall(r"^\*\*(It means:|Look at|Type:|It is over)\*\*", entries()[alarm], flags=re.MULTILINE)
    assert parts == ["It means:", "Look at", "Type:", "It is over"]
    assert "```sh" in entries()[alarm]


def test_every_link_within_the_runbook_leads_to_an_entry() -> None:
    anchors = {name.lower() for name in entries()}
    linked = set(re.findall(r"\]\(#([^)]+)\)", text()))
    assert linked
    assert linked <= anchors


def test_the_runbook_uses_no_program_that_is_not_checked_here() -> None:
    programs = {typed.split()[0] for typed in shell_commands()}
    assert programs == {"clerk-supabase", "aws", "sam", "psql", "export"}


@pytest.mark.parametrize("arguments", of_program("clerk-supabase"))
def test_a_command_of_ours_exists_with_these_options(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres")
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
    options = {each for each in rest if each.startswith("--")} - AWS_GLOBAL_OPTIONS
    if (service, operation) == ("logs", "tail"):
        assert options <= AWS_LOGS_TAIL_OPTIONS
        return
    model = botocore.session.get_session().get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    shape: Any = model.operation_model(operations[operation]).input_shape
    given = {f"--{xform_name(name, '-')}": name for name in shape.members} if shape else {}
    required = {option for option, name in given.items() if name in shape.required_members} if shape else set()
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
