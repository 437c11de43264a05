"""`--help`: the commands by subject, in the order of use, whole at 80 columns, and with examples that work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clerk_supabase_cli.main import commands
from tests.kit.documents import OURS, ROOT, table_of


def every(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            yield from every(found, (*path, name))


PATHS = list(every(commands))


def helped(path: tuple[str, ...]) -> str:
    shown = CliRunner().invoke(commands, [*path, "--help"], terminal_width=80, prog_name=OURS)
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_the_help_of_a_command_is_whole_at_80_columns_and_ends_with_examples_that_work(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = helped(path)
    assert max(map(len, text.splitlines())) <= 80
    # click cuts a line in this way.
    assert not re.search(r"[a-z]\.\.\.$", text, re.MULTILINE)
    before, _, below = text.partition("  Examples:\n" if "Examples:" in text else "  Example:\n")
    examples = list(map(shlex.split, below.partition("\n\n")[0].splitlines()))
    assert 1 <= len(examples) <= 4, before
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres:password@127.0.0.1/postgres")
    monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA")
    monkeypatch.chdir(tmp_path)
    Path("key.pem").touch()
    for program, *arguments in examples:
        assert program == OURS
        assert tuple(arguments[: len(path)]) == path or path[-1] == "verify"
        parse(commands, arguments)


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Takes the arguments apart, down to the last sub-command. Raises UsageError."""
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    context = command.make_context(OURS, list(arguments), parent=parent, **({} if parent else command.context_settings))
    if isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        _, found, left = command.resolve_command(context, rest)
        assert found
        parse(found, left, context)


def test_every_command_prints_json_except_dialogs_programs_that_run_for_a_while_and_output_for_programs() -> None:
    without = {path for path in PATHS if ends(path) and "  --json" not in helped(path)}
    assert {" ".join(path) for path in without} == {
        *("deploy", "destroy"),
        *("console", "dev", "demo", "simulate"),
        *("export", "types", "token mint"),
    }
    document = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    told = document.partition("except the dialogs")[2].partition("\n\n")[0]
    assert {*re.findall(r"`([\w ]+)`", told)} == {" ".join(path) for path in without}


def ends(path: tuple[str, ...]) -> bool:
    """Tells whether a command is no group."""
    return bool(path) and not any(other[: len(path)] == path and other != path for other in PATHS)


def test_the_commands_stand_below_their_subject_in_the_order_of_use() -> None:
    sections = re.findall(r"^(\w.*):\n((?:  .*\n?)+)", helped(()), re.MULTILINE)
    found = {title: re.findall(r"^  (\S+)", lines, re.MULTILINE) for title, lines in sections if title != "Options"}
    assert list(found) == ["Set up", "Connect your app", "Operate", "Try and develop"]
    assert {title: names[0] for title, names in found.items()} == {
        "Set up": "deploy",
        "Connect your app": "adopt",
        "Operate": "status",
        "Try and develop": "demo",
    }
    assert sorted(name for names in found.values() for name in names) == sorted(
        commands.list_commands(click.Context(commands))
    )


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("statsu", " Did you mean 'status'?"),
        ("secure-buckt", " Did you mean 'secure-bucket' or 'secure'?"),
        ("reconcile shwo", " Did you mean 'show'?"),
        ("clerk usr", " Did you mean 'user'?"),
        ("clerk user craete", " Did you mean 'create'?"),
        ("xyzzy", ""),
    ],
)
def test_a_misspelled_command_is_answered_with_the_commands_spelled_like_it(typed: str, advice: str) -> None:
    words = typed.split()
    shown = CliRunner().invoke(commands, words, prog_name=OURS)
    assert shown.exit_code == 2
    assert shown.output.endswith(f"Error: No such command {words[-1]!r}.{advice}\n")


def test_the_version_is_printed() -> None:
    shown = CliRunner().invoke(commands, ["--version"], prog_name=OURS)
    assert re.fullmatch(rf"{OURS} \d+\.\d+\.\d+\n", shown.output)


def test_the_shells_of_the_document_complete_commands_and_options() -> None:
    lines = [line for _, _, line in table_of(ROOT / "docs" / "operate.md", "Completion")]
    shells = re.findall(r"_CLERK_SUPABASE_COMPLETE=(\w+)_source clerk-supabase", " ".join(lines))
    assert shells == ["bash", "zsh", "fish"]
    for shell in shells:
        for words, word, expected in (("adopt sw", "sw", "switch"), ("migrate --dry", "--dry", "--dry-run")):
            place = word if shell == "fish" else "2"
            environment = {"COMP_WORDS": f"{OURS} {words}", "COMP_CWORD": place}
            environment["_CLERK_SUPABASE_COMPLETE"] = f"{shell}_complete"
            assert expected in CliRunner().invoke(commands, env=environment, prog_name=OURS).output
