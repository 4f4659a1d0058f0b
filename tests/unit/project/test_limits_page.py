"""docs/limits.md: its examples load, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vmgw_core.limits import read_limits

DOCS: Final = Path(__file__).parents[3] / "docs"
PAGE: Final = (DOCS / "limits.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_example_loads() -> None:
    assert len(EXAMPLES) == 7
    for example in EXAMPLES:
        found = read_limits(example, "limits.md")
        assert found.limits or found.concurrency or found.guards


def test_every_link_within_the_page_and_to_it_has_a_heading() -> None:
    inside = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    outside = {
        anchor
        for page in DOCS.glob("*.md")
        for anchor in re.findall(r"\]\(limits\.md#([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert {"series", "the-state-file", "concurrent-requests"} <= outside
    assert inside | outside <= anchors(PAGE)


def test_every_link_to_another_page_has_a_heading() -> None:
    links = re.findall(r"\]\(([a-z]+\.md)(?:#([^)]+))?\)", PAGE)
    assert links
    for name, anchor in links:
        text = (DOCS / name).read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(text)
