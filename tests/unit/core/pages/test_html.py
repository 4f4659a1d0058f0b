"""HTML of the gateway's pages: text is escaped, and the policy of the page allows its style alone."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

from tests.support.each import each
from vmgw_core.pages import HEADERS, document
from vmgw_core.pages.html import Html, bad, element, joined, meter, table

HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror='a'>", "a&b", "\u202eevil", "a\nb", "\x00"]


@each("text", HOSTILE)
def test_text_is_escaped_wherever_it_stands(text: str) -> None:
    page = document(text, element("p", text), table((text,), [(text,)]), bad(text)).decode()
    inside = page.partition("<body>")[2]
    assert not re.search(r"<(script|img)|\u202e|\x00", page)
    assert text not in inside or text == "a&b"
    assert "a&b" not in page


def test_html_stays_and_other_cells_are_text() -> None:
    assert table(("a",), [(Html("<b>x</b>"),), (1.5,), (None,)]) == (
        "<table><thead><tr><th scope=col>a</th></tr></thead><tbody>"
        "<tr><td><b>x</b></td></tr><tr><td>1.5</td></tr><tr><td>-</td></tr></tbody></table>"
    )
    assert table(("a",), [], empty="nothing") == "<p class=soft>nothing</p>"
    assert joined(Html("a"), Html("b")) == "a\nb"


def test_a_long_text_is_cut() -> None:
    assert len(element("p", "a" * 100_000)) < 1100


def test_a_bar_is_in_words_too() -> None:
    assert meter(3, 10) == "<meter min=0 max=10 low=5 high=8 optimum=0 value=3></meter> 3 of 10"
    assert meter(30, 10).endswith("value=10></meter> 30 of 10")
    assert meter(0, 0).startswith("<meter min=0 max=1 ")


def test_nothing_but_the_style_of_the_page_is_allowed() -> None:
    policy = dict(HEADERS)[b"Content-Security-Policy"].decode()
    (style,) = re.findall(r"<style>(.*?)</style>", document("a").decode(), re.DOTALL)
    assert f"style-src 'sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in document("a", meter(1, 2), bad("x")).decode()
