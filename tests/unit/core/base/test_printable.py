"""printable: untrusted text in messages."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.base import printable, quoted


def test_printable() -> None:
    assert printable("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert printable("ab" * 200, 3) == "aba…"
    assert printable("abc", 3) == "abc"
    assert printable("ü€") == "ü€"
    assert printable("\udcff") == "\\udcff"


def test_quoted() -> None:
    assert quoted('a"\n\x7fé') == r'"a\"\n\u007f\u00e9"'
    assert quoted("abc", 3) == '"abc"'
    assert quoted("abcd", 3) == '"abc..."'
    assert quoted("\n\n", 3) == r'"\n\..."', "an escape may be cut"


@given(st.text())
def test_any_text_becomes_short_printable_ascii(text: str) -> None:
    shown = quoted(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 65
    if not shown.endswith('..."'):
        assert json.loads(shown) == text
    assert printable(text).isprintable()
