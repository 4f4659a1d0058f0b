"""The README's table of flags is generated: ``python tests/unit/project/test_readme.py`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from vmgw_core.configuration.table import markdown_table

README = Path(__file__).parents[3] / "README.md"
BEGIN, END = "<!-- flags -->\n", "<!-- /flags -->\n"


def with_table(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{markdown_table().strip()}\n{END}{after}"


def test_the_table_in_the_readme_is_the_table_of_flags() -> None:
    text = README.read_text()
    assert "| `-enable.auth` |" in text
    assert with_table(text) == text


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
