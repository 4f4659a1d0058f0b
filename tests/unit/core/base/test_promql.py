"""promql: string literals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.base import string_literal
from vmgw_core.tokens import Matcher, parse_selector


def test_string_literal() -> None:
    assert string_literal('a"b\\c\nd') == r'"a\"b\\c\nd"'


@given(st.text(st.characters(codec="utf-8"), max_size=50))
def test_a_literal_reads_as_its_text(text: str) -> None:
    parsed = parse_selector(f"{{a={string_literal(text)}}}")
    assert parsed.alternatives == ((Matcher(name="a", operator="=", value=text),),)
