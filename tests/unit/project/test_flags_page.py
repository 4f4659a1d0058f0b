"""The table in docs/flags.md is generated: ``python tests/unit/project/test_flags_page.py`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from vmgw_core.configuration.table import markdown_table

PAGE = Path(__file__).parents[3] / "docs" / "flags.md"
BEGIN, END = "<!-- flags -->\n", "<!-- /flags -->\n"


def with_table(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{markdown_table().strip()}\n{END}{after}"


def test_the_table_on_the_page_is_the_table_of_flags() -> None:
    text = PAGE.read_text()
    assert "| `-enable.auth` |" in text
    assert with_table(text) == text


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
