"""Each promise of docs/security.md names tests, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)


def test_the_tests_that_are_named_exist() -> None:
    assert len(NAMED) > 30
    for file, test in NAMED:
        texts = [path.read_text() for path in (REPOSITORY / "tests").rglob(file)]
        assert any(re.search(rf"^def {test}\(", text, re.MULTILINE) for text in texts), f"{file}::{test}"


def test_each_promise_has_one() -> None:
    table = PAGE.partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 25
    for row in rows:
        assert re.search(r"`test_\w+\.py::test_\w+` ?[,|]", row), row
