"""Lengths of the functions in sql/migrations, so that each fits a screen and a reader's head."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import quantiles

_FUNCTION = re.compile(r"^create function .*?(?:^as (\$\w*\$)\n.*?^\1;|^return [^;]*;)", re.MULTILINE | re.DOTALL)


def test_no_function_is_longer_than_120_lines_and_nine_of_ten_have_60_at_most(root: Path) -> None:
    files = sorted((root / "sql" / "migrations").glob("*.sql"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    lengths = [found[0].count("\n") + 1 for text in texts for found in _FUNCTION.finditer(text)]

    assert len(lengths) == sum(text.count("\ncreate function ") for text in texts)
    assert max(lengths) <= 120
    assert quantiles(lengths, n=10, method="inclusive")[-1] <= 60
