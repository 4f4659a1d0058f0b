"""curl: the request that a command line sends."""

from __future__ import annotations

import pytest

from vmgw_core.explain.curl import CurlError, CurlRequest, parse_curl

FILES = {"body": b"a=1\r\nb=2\n", "bin": b"\x00\x01"}
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def _curl(*words: str) -> CurlRequest:
    return parse_curl(["curl", *words], FILES.__getitem__)


def _header(request: CurlRequest, name: str) -> str | None:
    values = [value.decode() for key, value in request.headers if key.decode().lower() == name.lower()]
    assert len(values) < 2
    return values[0] if values else None


URL = "http://gateway:8431/api/v1/query"


@pytest.mark.parametrize(
    ("words", "method", "target", "body"),
    [
        ([URL], "GET", "/api/v1/query", None),
        ([f"{URL}?query=up#part"], "GET", "/api/v1/query?query=up", None),
        (["gateway:8431"], "GET", "/", None),
        (["--url", URL, "-sSgk", "--compressed", "-o", "file", "-m5"], "GET", "/api/v1/query", None),
        (["-XPUT", URL], "PUT", "/api/v1/query", None),
        (["-I", URL], "HEAD", "/api/v1/query", None),
        (["-d", "a=1", "-d", "b=2", URL], "POST", "/api/v1/query", b"a=1&b=2"),
        (["-da=1", "-X", "PUT", URL], "PUT", "/api/v1/query", b"a=1"),
        (["--data-raw", "@x", URL], "POST", "/api/v1/query", b"@x"),
        (["-d", "@body", URL], "POST", "/api/v1/query", b"a=1b=2"),
        (["--data-binary", "@body", URL], "POST", "/api/v1/query", b"a=1\r\nb=2\n"),
        (["--json", "{}", URL], "POST", "/api/v1/query", b"{}"),
        (["-G", "-d", "a=1", "--data-urlencode", "b=c {}", URL], "GET", "/api/v1/query?a=1&b=c%20%7B%7D", None),
        (["-G", URL], "GET", "/api/v1/query", None),
        (["-G", "-d", "b=2", f"{URL}?a=1"], "GET", "/api/v1/query?a=1&b=2", None),
        (["--data-urlencode", "=a=b", URL], "POST", "/api/v1/query", b"a%3Db"),
        (["--data-urlencode", "a b", URL], "POST", "/api/v1/query", b"a%20b"),
        (["--data-urlencode", "q@bin", URL], "POST", "/api/v1/query", b"q=%00%01"),
        (["--data-urlencode", "@bin", URL], "POST", "/api/v1/query", b"%00%01"),
        (["http://x/a/./b/../c/.."], "GET", "/a/", None),
        (["http://x/../a"], "GET", "/a", None),
        (["--path-as-is", "http://x/a/../b"], "GET", "/a/../b", None),
    ],
)  # fmt: skip
def test_the_request(words: list[str], method: str, target: str, body: bytes | None) -> None:
    request = _curl(*words)
    assert (request.method, request.target, request.body) == (method, target, body)


def test_headers() -> None:
    request = _curl("-H", "X-A: 1", "-H", "x-b:2", "-H", "Empty;", "-H", "Accept:", "-A", "me", "-e", "there", URL)
    assert _header(request, "Host") == "gateway:8431"
    assert _header(request, "User-Agent") == "me"
    assert _header(request, "Referer") == "there"
    assert (_header(request, "x-a"), _header(request, "X-B"), _header(request, "empty")) == ("1", "2", "")
    assert _header(request, "Accept") is None


def test_a_header_of_the_user_takes_the_place_of_curls_own() -> None:
    request = _curl("-H", "host: other", "-H", "content-type: text/plain", "-d", "x", URL)
    assert _header(request, "Host") == "other"
    assert _header(request, "Content-Type") == "text/plain"
    assert _header(request, "Content-Length") == "1"


def test_lengths_that_the_user_gives_stay() -> None:
    assert _header(_curl("-H", "Content-Length: 7", "-d", "x", URL), "Content-Length") == "7"
    assert _header(_curl("-H", "Transfer-Encoding: chunked", "-d", "x", URL), "Content-Length") is None


def test_types_of_bodies() -> None:
    assert _header(_curl("-d", "x", URL), "Content-Type") == FORM[1]
    assert _header(_curl("--json", "{}", URL), "Content-Type") == "application/json"
    assert _header(_curl(URL), "Content-Type") is None


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["-u", "me:secret", URL], "Basic bWU6c2VjcmV0"),
        (["http://me:se%63ret@x/"], "Basic bWU6c2VjcmV0"),
        (["--oauth2-bearer", "abc", URL], "Bearer abc"),
        (["-H", "Authorization: Bearer own", URL], "Bearer own"),
    ],
)
def test_credentials(words: list[str], value: str) -> None:
    assert _header(_curl(*words), "Authorization") == value
    assert "secret" not in repr(_curl(*words))


def test_cookies_and_ranges() -> None:
    request = _curl("-b", "a=1", "-r", "0-9", URL)
    assert (_header(request, "Cookie"), _header(request, "Range")) == ("a=1", "bytes=0-9")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "expected one URL, got 0"),
        ([URL, URL], "expected one URL, got 2"),
        (["-F", "a=b", URL], "multipart forms"),
        (["-T", "file", URL], "uploads"),
        (["-K", "file"], "configuration files"),
        (["--form-string", "a=b", URL], "multipart forms"),
        (["--next", URL], "option --next is not supported"),
        (["-Z", URL], "option -Z is not supported"),
        (["-H"], "value of -H is missing"),
        (["--data"], "value of --data is missing"),
        (["-H", "no colon", URL], "has no colon"),
        (["ftp://x/"], "not an http or https URL"),
        (["http:///x"], "not an http or https URL"),
    ],
)
def test_refused(words: list[str], reason: str) -> None:
    with pytest.raises(CurlError, match=reason):
        _curl(*words)


def test_it_is_curl() -> None:
    assert parse_curl(["/usr/bin/curl", URL], FILES.__getitem__).method == "GET"
    for words in ([], ["wget", URL]):
        with pytest.raises(CurlError, match="does not begin with curl"):
            parse_curl(words, FILES.__getitem__)
