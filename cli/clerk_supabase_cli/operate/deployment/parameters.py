"""The parameters of template.yaml: their declarations, the values to send, and what differs from a stack."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

REVISION: Final = "Revision"
WITH_A_REVISION: Final = (
    "WebhookSecretArn",
    "DatabaseSecretArn",
    "ClerkSecretKeyArn",
    "SessionDatabaseSecretArn",
    "ClerkPublishableKey",
    "ClerkApiUrl",
    "ClerkFrontendApiUrl",
    "SnapStart",
    "AwsEndpointUrl",
    "Tracing",
    "DatabaseCaFile",
)
"""Parameters whose new value goes live only with a new Revision: the value is too long for a version's description."""

_LONGEST_REVISION: Final = 8


@dataclass(frozen=True, slots=True)
class Declared:
    """The declaration of a parameter."""

    name: str
    default: str
    allowed: tuple[str, ...] = ()
    pattern: str = ""
    rule: str = ""
    """The rule in words, for a value that breaks the pattern."""
    longest: int | None = None
    smallest: float | None = None
    largest: float | None = None

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> Declared:
        """The declaration in the template."""
        return cls(
            name,
            str(given.get("Default", "")),
            tuple(map(str, given.get("AllowedValues", ()))),
            str(given.get("AllowedPattern", "")),
            str(given.get("ConstraintDescription", "")),
            given.get("MaxLength"),
            *((given.get("MinValue"), given.get("MaxValue")) if given.get("Type") == "Number" else (None, None)),
        )

    def problem_with(self, value: str) -> str:
        """The rule that a value breaks, as the rest of a sentence; empty for a value that CloudFormation takes."""
        if self.allowed:
            return "" if value in self.allowed else f"must be one of {', '.join(self.allowed)}"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return self.rule or f"must match {self.pattern}"
        if self.longest is not None and len(value) > self.longest:
            return f"must have at most {self.longest} characters"
        return self._problem_with_number(value)

    def _problem_with_number(self, value: str) -> str:
        if self.smallest is None and self.largest is None:
            return ""
        if not re.fullmatch(r"-?\d+(\.\d+)?", value):
            return "must be a number"
        if self.smallest is not None and float(value) < self.smallest:
            return f"must be at least {self.smallest}"
        if self.largest is not None and float(value) > self.largest:
            return f"must be at most {self.largest}"
        return ""


@dataclass(frozen=True, slots=True)
class Change:
    """A parameter whose value would change."""

    name: str
    before: str
    after: str

    @property
    def words(self) -> str:
        """The change as a line; an empty value is shown as (empty)."""
        return f"{self.name}: {self.before or '(empty)'} -> {self.after or '(empty)'}"


def declared(root: Path) -> dict[str, Declared]:
    """The parameters of the checkout's template, by name."""
    # S506: the loader is a SafeLoader.
    template = yaml.load((root / "template.yaml").read_bytes(), Loader=_Loader)  # noqa: S506
    return {name: Declared.of(name, given) for name, given in template["Parameters"].items()}


def problems(values: Mapping[str, str], known: Mapping[str, Declared]) -> Iterator[str]:
    """The faults of values, each as a line with its remedy."""
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            yield f"{name} is no parameter of template.yaml" + (f": did you mean {close[0]}?" if close else "")
        elif problem := known[name].problem_with(value):
            yield f"{name} {problem}, and is {value or '(empty)'}"


def complete(given: Mapping[str, str], known: Mapping[str, Declared]) -> dict[str, str]:
    """The value of every parameter: the given value, or the default of the template."""
    return {name: given.get(name, each.default) for name, each in known.items()}


def with_revision(wanted: Mapping[str, str], deployed: Mapping[str, str]) -> dict[str, str]:
    """The values with a Revision that makes each change go live; *deployed* is empty for a new stack."""
    given, there = wanted.get(REVISION, ""), deployed.get(REVISION, "")
    if not deployed or (given and given != there):
        return dict(wanted)
    if all(wanted[name] == deployed.get(name, "") for name in WITH_A_REVISION):
        return {**wanted, REVISION: there}
    values = "\n".join(f"{name}={wanted[name]}" for name in WITH_A_REVISION)
    return {**wanted, REVISION: hashlib.sha256(values.encode()).hexdigest()[:_LONGEST_REVISION]}


def changes(wanted: Mapping[str, str], deployed: Mapping[str, str]) -> list[Change]:
    """The parameters whose values differ from the deployed values.

    A parameter that an older template did not have is no change, as long as its value is the default: see `complete`.
    """
    return [Change(name, deployed[name], value) for name, value in wanted.items() if deployed.get(name, value) != value]


def differences_from_defaults(values: Mapping[str, str], known: Mapping[str, Declared]) -> dict[str, str]:
    """The values that are no defaults, without unknown parameters and the Revision."""
    return {
        name: value
        for name, value in values.items()
        if name in known and name != REVISION and value != known[name].default
    }


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml, where it is installed
    """Reads a template, with every function of CloudFormation (`!Ref`) as None."""


_Loader.add_multi_constructor("!", lambda *_: None)
