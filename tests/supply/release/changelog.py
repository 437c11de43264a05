"""The notes of a release: the section of its version in CHANGELOG.md."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

_SECTION: Final = re.compile(r"^## (?P<title>.+)\n(?P<text>(?:(?!## ).*\n?)*)", re.MULTILINE)
_PATH: Final = r"(?![a-z][a-z0-9+.-]*:|#)(?P<path>[^)\s\"]+)"
_PICTURES: Final = (
    re.compile(rf"(?P<before>!\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(){_PATH}"),
    re.compile(rf'(?P<before><(?:img|source)\b[^>]*? (?:src|srcset)="){_PATH}'),
)
_LINK: Final = re.compile(rf"(?P<before>\]\(){_PATH}")


def sections(changelog: str) -> dict[str, str]:
    """The text of each section by its title, such as `1.0.0 - 2026-11-29`."""
    return {found["title"].strip(): found["text"].strip() for found in _SECTION.finditer(changelog)}


def problems(changelog: str, version: str) -> list[str]:
    """The reasons why the changelog does not describe this version."""
    found = sections(changelog)
    titles = [title for title in found if title.split(" - ")[0].strip("[]") == version]
    reasons = []
    if not titles:
        reasons.append(f"CHANGELOG.md has no section `## {version} - <date>`")
    elif not (_is_day(titles[0].partition(" - ")[2]) and found[titles[0]]):
        reasons.append(f"CHANGELOG.md: the section of {version} has no date, such as 2026-11-29, or no text")
    if found.get("Unreleased"):
        reasons.append(f"CHANGELOG.md: there are changes under `Unreleased`, and not under {version}")
    return reasons


def notes(changelog: str, version: str, page: str) -> str:
    """The section of a version, without its title; its links lead to the files of the tag, as in `linked`.

    Raises ValueError without such a section.
    """
    for title, text in sections(changelog).items():
        if title.split(" - ")[0].strip("[]") == version:
            return f"{linked(text, page, version)}\n"
    raise ValueError(f"no section of {version}")


def linked(text: str, page: str, version: str) -> str:
    """Markdown whose links to files of the project lead to the tag of a version. *page*: the address of the project.

    A link leads to the page that shows the file, a picture to the file itself.
    """
    for pattern in _PICTURES:
        text = pattern.sub(rf"\g<before>{page}/raw/v{version}/\g<path>", text)
    return _LINK.sub(rf"\g<before>{page}/blob/v{version}/\g<path>", text)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
