"""stack.toml: the settings of a stack on the operator's machine, without any secret, and not in git."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.private_files import write_privately

FILE: Final = "stack.toml"
LONGEST_NAME: Final = 54
"""The longest name of a stack: Lambda's names have at most 64 characters, and one of ours is <name>-reconcile."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_SECRET: Final = re.compile(r"whsec_|sk_(live|test)_|sbp_|postgres(ql)?://|://[^/]*:[^/]*@")
_KEYS: Final = ("name", "region", "account", "parameters")
_HEAD: Final = """\
# The settings of a stack, for `clerk-supabase deploy`. Edit the file, and run the command again: it shows each value
# that would change. A parameter that is not listed has the default of template.yaml, which describes all parameters.
# Secrets are kept in Secrets Manager, and never here.
"""


class StackFileWrong(Failure):
    """The file with the stack's settings cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a stack."""

    name: str
    region: str = ""
    account: str = ""
    """The AWS account; empty for any."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Values of the template's parameters that are not the defaults."""

    def with_parameters(self, parameters: Mapping[str, str]) -> Settings:
        """The settings with these values, too."""
        return replace(self, parameters={**self.parameters, **parameters})


def name_problem(name: str) -> str:
    """The reason why a stack cannot have this name, as the rest of a sentence; empty for a good name."""
    if not _NAME.fullmatch(name):
        return "must begin with a letter and have only letters, digits and hyphens"
    if len(name) > LONGEST_NAME:
        return f"has {len(name)} characters, and at most {LONGEST_NAME} are possible: choose a shorter name"
    return ""


def read(file: Path) -> Settings | None:
    """The settings in the file; None without the file. Raises StackFileWrong."""
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StackFileWrong(f"{file} is not TOML: {error}") from error
    except OSError as error:
        raise StackFileWrong(f"{file} cannot be read: {error.strerror}") from error
    for key in given:
        if key not in _KEYS:
            raise StackFileWrong(f"{file}: {key} is unknown; write a parameter of template.yaml below [parameters]")
    words = {key: _text(file, key, given.get(key, "")) for key in ("name", "region", "account")}
    if problem := name_problem(words["name"]):
        raise StackFileWrong(f"{file}: name {problem}")
    return Settings(**words, parameters=_parameters(file, given.get("parameters", {})))


def write(file: Path, settings: Settings) -> None:
    """Writes a new file. Raises StackFileWrong if that is impossible."""
    lines = [f"{key} = {json.dumps(value)}" for key in _KEYS[:3] if (value := getattr(settings, key))]
    lines += ["", "[parameters]", *(f"{name} = {json.dumps(value)}" for name, value in settings.parameters.items())]
    try:
        write_privately(file, _HEAD + "\n".join(lines) + "\n")
    except OSError as error:
        raise StackFileWrong(f"{file} cannot be written: {error.strerror}") from error


def edit(file: Path, parameters: Mapping[str, str]) -> None:
    """Gives parameters of the file other values; everything else stays as it was typed. Raises StackFileWrong."""
    text = file.read_text(encoding="utf-8")
    for name, value in parameters.items():
        line = f"{name} = {json.dumps(_text(file, name, value))}"
        written = line.replace("\\", r"\\")
        text, found = re.subn(rf"^{re.escape(name)}[ \t]*=.*$", written, text, flags=re.MULTILINE)
        if not found:
            text, found = re.subn(r"^\[parameters\].*$", rf"\g<0>\n{written}", text, flags=re.MULTILINE)
        if not found:
            text = f"{text.rstrip()}\n\n[parameters]\n{line}\n"
    try:
        tomllib.loads(text)
        write_privately(file, text)
    except tomllib.TOMLDecodeError as error:
        raise StackFileWrong(f"{file} cannot be edited by the command ({error}): edit it by hand") from error
    except OSError as error:
        raise StackFileWrong(f"{file} cannot be written: {error.strerror}") from error


def _parameters(file: Path, given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        raise StackFileWrong(f"{file}: parameters must be a table: [parameters], then NAME = VALUE")
    return {name: _text(file, name, value) for name, value in given.items()}


def _text(file: Path, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise StackFileWrong(f"{file}: {key} must be a text, a number, true or false")
    if _SECRET.search(value):
        raise StackFileWrong(f"{file}: {key} holds a secret: remove it; `clerk-supabase deploy` asks for secrets")
    return value
