"""The part of a document that a program writes, between two comments that Markdown does not show."""

from __future__ import annotations

import re


def written(document: str, name: str, text: str) -> str:
    """The document with the part of this name replaced. Raises ValueError for a document without such a part."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    result, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{text}\n\n{end}", document, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{count} parts between {begin} and {end}, not one")
    return result


def differs(document: str, name: str, text: str) -> bool:
    """Tells whether the part says something else."""
    return written(document, name, text) != document
