"""What of a URL is shown, and which URLs can be fetched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.base import HIDDEN, is_http_url, without_credentials


@pytest.mark.parametrize(
    "url", ["http://a", "https://a:443/x?y#z", "HTTP://u:p@a/", "http://[::1]:8428", "http://höst/"]
)
def test_a_url_that_can_be_fetched(url: str) -> None:
    assert is_http_url(url)


@each(
    "url",
    ["", "a", "/a", "ftp://a", "http://", "http://:80", "http://a:0", "http://a:port", "http://a:65536", "http://[a"],
)
def test_one_that_cannot(url: str) -> None:
    assert not is_http_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:p4ss@host:8428/a/b?key=p4ss#p4ss", "https://host:8428/a/b"),
        ("http://[::1]:8428", "http://[::1]:8428"),
        ("http://[p4ss", HIDDEN),
        ("user:p4ss@host", HIDDEN),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@given(user=st.from_regex(r"[a-z]{1,9}:p4ss[^\x00-\x1f/?#]{0,9}", fullmatch=True), rest=st.text(max_size=20))
def test_no_password_of_a_url_is_shown(user: str, rest: str) -> None:
    assert "p4ss" not in without_credentials(f"http://{user}@host/?{rest}")


@given(st.text())
def test_anything_else_is_a_url_or_hidden(text: str) -> None:
    bare = without_credentials(text)
    assert bare == HIDDEN or "://" in bare
