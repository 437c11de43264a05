"""Mutants of template.yaml, line by line: numbers, words of CloudFormation's, conditions, and lines left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tests.mutate.mutants import Change, Mutant, mutant

_OTHER_WORDS: Final = {
    "true": "false",
    "false": "true",
    "GreaterThanThreshold": "LessThanThreshold",
    "LessThanThreshold": "GreaterThanThreshold",
    "Sum": "Maximum",
    "Maximum": "Minimum",
    "notBreaching": "breaching",
    "breaching": "notBreaching",
    "Allow": "Deny",
    "Active": "PassThrough",
    "Retain": "Delete",
    "!Not": "!Or",
    "!And": "!Or",
    "!Or": "!And",
    "REGIONAL": "EDGE",
    "TLS_1_2": "TLS_1_0",
    "arm64": "x86_64",
}
_WORDS: Final = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, _OTHER_WORDS)) + r")(?![\w-])")
_CHOICE: Final = re.compile(r"!If \[(\w+), ((?:[^\[\],]|\[[^\]]*\])+), ((?:[^\[\],]|\[[^\]]*\])+)\]")
# Texts for people.
_SAID: Final = re.compile(
    r"\s*(?:AlarmDescription|Description|ConstraintDescription|Metadata|LicenseUrl|SemanticVersion|AWSTemplate\w+"
    r"|ParameterGroups|ParameterLabels|default|Label|Type|Transform|Sid)\b"
)


def template_mutants(file: str, text: str) -> list[Mutant]:
    """Every mutant of a template; CloudFormation does not accept all of them."""
    found = []
    resource = section = ""
    start = 0
    for line in text.splitlines(keepends=True):
        if named := re.match(r"([A-Z]\w+):", line):
            section, resource = named[1], ""
        elif named := re.match(r"  ([A-Z]\w+):", line):
            resource = named[1]
        if section in ("Globals", "Conditions", "Resources", "Parameters", "Outputs", "Rules", "Mappings"):
            for change in _changes(line, start):
                made = mutant(file, text, change, resource)
                if made is not None:
                    found.append(made)
        start += len(line)
    return list({(each.key, each.subject): each for each in found}.values())


def _changes(line: str, start: int) -> Iterator[Change]:
    if not line.strip() or line.lstrip().startswith("#") or _SAID.match(line):
        return
    for match in _WORDS.finditer(line):
        yield start + match.start(), start + match.end(), _OTHER_WORDS[match[1]]
    for match in re.finditer(r"(?<=: )(\d+)(?=$|\s|,|})", line.rstrip("\n")):
        yield start + match.start(), start + match.end(), str(int(match[1]) * 10 + 1)
    for match in _CHOICE.finditer(line):
        yield start + match.start(), start + match.end(), f"!If [{match[1]}, {match[3]}, {match[2]}]"
    if re.match(r"\s+(- [\w:*\"!]+|\w+: \S.*|- \{.*\}|- !.*)$", line) and not line.rstrip().endswith(
        (":", "|", ">", ">-")
    ):
        yield start, start + len(line), ""
