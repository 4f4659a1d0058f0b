"""How PromQL and MetricsQL spell a text."""

from __future__ import annotations


def string_literal(text: str) -> str:
    """Return ``text`` as a string literal in double quotes, with Go's escapes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
