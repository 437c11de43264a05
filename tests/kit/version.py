"""`make version NUMBER=1.1.0`: writes the version into each place that names the version of this project."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from clerk_supabase_cli.project import find_root

_NUMBER: Final = r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2}"
_CONSTANT: Final = "layers/shared/clerk_supabase/version.py"
# The number is between the two groups. The template names it for its readers and the application repository of AWS, and
# in the description of each function.
_PLACES: Final = (
    (_CONSTANT, rf'^(VERSION: Final = "){_NUMBER}(")'),
    ("layers/shared/pyproject.toml", rf'^(version = "){_NUMBER}(")'),
    ("cli/pyproject.toml", rf'^(version = "){_NUMBER}(")'),
    ("template.yaml", rf'^(\s+Version: &version "){_NUMBER}(")$'),
    ("template.yaml", rf"^(\s+Description: .* ){_NUMBER}( \$\{{Revision\}})$"),
)


def numbers(root: Path) -> dict[str, list[str]]:
    """The versions named in the checkout at *root*, by the place in a file."""
    found: dict[str, list[str]] = {}
    for name, pattern in _PLACES:
        text = (root / name).read_text(encoding="utf-8")
        matches = re.finditer(pattern, text, re.MULTILINE)
        found[f"{name} {pattern}"] = [text[match.end(1) : match.start(2)] for match in matches]
    return found


def write(root: Path, number: str) -> None:
    """Writes a version into all places of the checkout at *root*. Raises ValueError for another form than 1.2.3."""
    if not re.fullmatch(_NUMBER, number):
        raise ValueError(f"{number!r} is no version such as 1.2.3")
    for name, pattern in _PLACES:
        file = root / name
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(pattern, rf"\g<1>{number}\g<2>", text, flags=re.MULTILINE), encoding="utf-8")
    constant = root / _CONSTANT
    text = constant.read_text(encoding="utf-8")
    major = number.partition(".")[0]
    constant.write_text(re.sub(r"^(MAJOR: Final = )\d+$", rf"\g<1>{major}", text, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    write(find_root(Path(__file__).parent), sys.argv[1] if len(sys.argv) > 1 else "")
