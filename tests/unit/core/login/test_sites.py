"""Where requests come from, and where a login may lead."""

from __future__ import annotations

import pytest

from vmgw_core.http import Headers
from vmgw_core.login import is_navigation, is_own_target, is_safe_method, may_use_session

ORIGIN = "https://metrics.example"


def headers(*pairs: tuple[str, str]) -> Headers:
    return tuple((name.encode(), value.encode()) for name, value in pairs)


def site(value: str, *more: tuple[str, str]) -> Headers:
    return headers(("Sec-Fetch-Site", value), *more)


NAVIGATE = ("Sec-Fetch-Mode", "navigate")


@pytest.mark.parametrize(
    ("sent", "reads", "writes"),
    [
        pytest.param(site("same-origin"), True, True, id="the own page"),
        pytest.param(site("none"), True, True, id="typed"),
        pytest.param(site("cross-site"), False, False, id="another site"),
        pytest.param(site("same-site"), False, False, id="a neighbour"),
        pytest.param(site("cross-site", NAVIGATE), True, False, id="a link on another site"),
        pytest.param(site("cross-site", ("Origin", ORIGIN)), False, False, id="the origin does not matter then"),
        pytest.param(site("same-origin", ("Origin", "https://evil.example")), True, True, id="nor does a wrong one"),
        pytest.param(site("none", ("Sec-Fetch-Site", "cross-site")), False, False, id="two sites"),
        pytest.param(site("cross-site", NAVIGATE, NAVIGATE), False, False, id="two modes"),
        pytest.param(site("Same-Origin"), False, False, id="another spelling"),
        pytest.param(site(""), False, False, id="empty"),
        pytest.param(headers(("Origin", ORIGIN)), True, True, id="old browser, own page"),
        pytest.param(headers(("Origin", "https://evil.example")), False, False, id="old browser, another site"),
        pytest.param(headers(("Origin", "null")), False, False, id="null"),
        pytest.param(headers(("Origin", "http://metrics.example")), False, False, id="without TLS"),
        pytest.param(headers(("Origin", ORIGIN + ".evil.example")), False, False, id="a longer name"),
        pytest.param(headers(("Origin", ORIGIN), ("Origin", ORIGIN)), False, False, id="two origins"),
        pytest.param(headers(("Referer", ORIGIN)), True, False, id="nothing tells"),
        pytest.param((), True, False, id="nothing at all"),
    ],
)
def test_who_may_use_a_session(sent: Headers, reads: bool, writes: bool) -> None:
    assert may_use_session(sent, ORIGIN, safe=True) is reads
    assert may_use_session(sent, ORIGIN, safe=False) is writes


def test_safe_methods() -> None:
    assert [each for each in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") if is_safe_method(each)] == [
        "GET",
        "HEAD",
    ]


@pytest.mark.parametrize(
    ("sent", "navigation"),
    [
        (headers(NAVIGATE), True),
        (headers(NAVIGATE, ("Accept", "*/*")), True),
        (headers(("Sec-Fetch-Mode", "cors"), ("Accept", "text/html")), False),
        (headers(NAVIGATE, ("Sec-Fetch-Mode", "cors")), False),
        (headers(("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")), True),
        (headers(("Accept", "a/b"), ("Accept", "*/* , text/html;q=0.1")), True),
        (headers(("Accept", "*/*")), False),
        (headers(("Accept", "text/htmlx")), False),
        ((), False),
    ],
)
def test_navigation(sent: Headers, navigation: bool) -> None:
    assert is_navigation("GET", sent) is navigation
    assert is_navigation("POST", sent) is False
    assert is_navigation("HEAD", sent) is False


@pytest.mark.parametrize(
    "target", ["/", "/vmui/", "/vmui/?g0.expr=up&a=//b", "/select/1:5/vmui/", "/a%20b", "/?x=%5Cy"]
)
def test_own_targets(target: str) -> None:
    assert is_own_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "", "vmui/", "?a", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "/\t/evil.example", "https://evil.example/", "HTTPS:evil.example", "javascript:alert(1)", "/%2fevil.example",
        "/%2F/evil.example", "/%5cevil.example", "/%255cevil.example", "/a//b", "/./evil", "/a/../../b", "/%2e%2e/b",
        "/a#b", "/a b", "/a\r\nSet-Cookie: x=y", "/a?b\nc", "/a?b\\c", '/a?"', "/\u00e9", "/a\u2028", "/%zz", "/%00",
        "/" + "a" * 2048, "/a<b", "/a>",
    ],
)  # fmt: skip
def test_other_targets(target: str) -> None:
    assert not is_own_target(target)
