"""The README is short, and what the pages link to exists."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.each import each

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]


def test_it_fits_on_three_screens() -> None:
    assert len(README.splitlines()) <= 120


def anchor(heading: str) -> str:
    """The fragment that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each("page", PAGES)
def test_what_a_page_links_to_exists(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, fragment = target.partition("#")
        if "://" in target:
            continue
        linked = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), target
