"""Cookies: pieces of one text, and nothing but exactly these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.logins import sent
from vmgw_core.login.cookies import PIECE_BYTES, CookieStyle, join, split

SECURE, PLAIN = CookieStyle(secure=True), CookieStyle(secure=False)


def test_a_cookie_is_for_this_host_alone_and_for_no_script() -> None:
    assert SECURE.set("__Host-a", "b") == (b"Set-Cookie", b"__Host-a=b; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert PLAIN.set("a", "b", seconds=5) == (b"Set-Cookie", b"a=b; Path=/; HttpOnly; SameSite=Lax; Max-Age=5")
    assert PLAIN.drop(["a"]) == ((b"Set-Cookie", b"a=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"),)


def test_the_cookies_of_a_request() -> None:
    headers = (
        (b"Cookie", b'vmgateway-a=1; other=2;vmgateway-b="3"; vmgateway-c; vmgateway-a=4'),
        (b"X-Cookie", b"vmgateway-a=5"),
        (b"cookie", b"vmgateway-d=6=7"),
    )
    assert PLAIN.read(headers) == {"vmgateway-a": ["1", "4"], "vmgateway-b": ['"3"'], "vmgateway-d": ["6=7"]}
    assert SECURE.read(headers) == {}


@given(st.text("abc.", max_size=30), st.integers(0, 4))
def test_split_and_joined_it_is_the_same(text: str, filled: int) -> None:
    text += "x" * (filled * PIECE_BYTES - len(text) % 3)
    cookies = split("n", text)
    assert all(len(f"{name}={value}") <= 4096 for name, value in cookies)
    assert join("n", {name: [value] for name, value in cookies}) == text


@pytest.mark.parametrize(("size", "number"), [(0, 1), (3800, 1), (3801, 2), (19000, 5)])
def test_as_many_pieces_as_it_takes(size: int, number: int) -> None:
    cookies = split("n", "x" * size)
    assert [name for name, _ in cookies] == [f"n.{each}" for each in range(number)]


WHOLE = {name: [value] for name, value in split("n", "x" * 5000)}


@pytest.mark.parametrize(
    "cookies",
    [
        pytest.param({}, id="none"),
        pytest.param({"n.1": WHOLE["n.1"]}, id="the first is missing"),
        pytest.param({"n.0": WHOLE["n.0"]}, id="the last is missing"),
        pytest.param({**WHOLE, "n.0": WHOLE["n.0"] * 2}, id="the first twice"),
        pytest.param({**WHOLE, "n.1": WHOLE["n.1"] * 2}, id="the last twice"),
        pytest.param({"n.0": ["x"]}, id="no number"),
        pytest.param({"n.0": ["0.x"]}, id="zero"),
        pytest.param({"n.0": ["6.x"], **{f"n.{each}": ["x"] for each in range(1, 6)}}, id="too many"),
        pytest.param({"n.0": ["01.x"]}, id="another spelling"),
        pytest.param({"n.0": ["\u0661.x"]}, id="another digit"),
        pytest.param({"n.0": ["1." + "x" * 3801]}, id="a piece that is too long"),
    ],
)
def test_other_cookies_are_no_text(cookies: dict[str, list[str]]) -> None:
    assert join("n", cookies) is None


def test_a_piece_too_many_is_not_read() -> None:
    assert join("n", {**WHOLE, "n.2": ["y"]}) == "x" * 5000


def test_what_a_browser_sends_is_read() -> None:
    assert PLAIN.read(sent({"vmgateway-a": "1", "b": "2"})) == {"vmgateway-a": ["1"]}
