"""curl: the requests that a command line sends. A test on the wire compares them with those of the real curl."""

from __future__ import annotations

import pytest

from vmgw_core.explain import CurlError, CurlRequest, parse_curl

FILES = {"body": b"a=1\r\nb=2\n", "bin": b"\x00\x01", "heads": b"X-A: 1\r\n\r\nX-B: 2\n", "-": b"input", "d/f": b"up"}
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def _all(*words: str) -> tuple[CurlRequest, ...]:
    return parse_curl(["curl", *words], FILES.__getitem__)


def _curl(*words: str) -> CurlRequest:
    (request,) = _all(*words)
    return request


def _targets(*words: str) -> list[str]:
    return [request.target for request in _all(*words)]


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
        (["-G", "-d", "a=1", "--data-urlencode", "b=c {}", URL], "GET", "/api/v1/query?a=1&b=c+%7B%7D", None),
        (["-G", URL], "GET", "/api/v1/query", None),
        (["-G", "-d", "b=2", f"{URL}?a=1"], "GET", "/api/v1/query?a=1&b=2", None),
        (["--data-urlencode", "=a=b", URL], "POST", "/api/v1/query", b"a%3Db"),
        (["--data-urlencode", "a b", URL], "POST", "/api/v1/query", b"a+b"),
        (["--data-urlencode", "q@bin", URL], "POST", "/api/v1/query", b"q=%00%01"),
        (["--data-urlencode", "@bin", URL], "POST", "/api/v1/query", b"%00%01"),
        (["http://x/a/./b/../c/.."], "GET", "/a/", None),
        (["http://x/../a"], "GET", "/a", None),
        (["--path-as-is", "http://x/a/../b"], "GET", "/a/../b", None),
        (["http://x/\u00fc?\u00fc"], "GET", "/%C3%BC?\u00fc", None),
        (["http://x?"], "GET", "/?", None),
        (["-G", "-d", "", "http://x?"], "GET", "/", None),
        (["--request-target", "*", "-X", "OPTIONS", URL], "OPTIONS", "*", None),
        (["-I", "-G", "-d", "a", URL], "HEAD", "/api/v1/query?a", None),
        (["--json", "{}", "-d", "a", "--json", "[]", URL], "POST", "/api/v1/query", b"{}&a[]"),
        (["--url-query", "a=b c", "--url-query", "+d=%20", "-d", "x", f"{URL}?y"], "POST",
         "/api/v1/query?y&a=b+c&d=%20", b"x"),
        (["--url-query", "a=b", "-G", "-d", "x", URL], "GET", "/api/v1/query?x", None),
        (["--data-urlencode", "a@b=c", URL], "POST", "/api/v1/query", b"a@b=c"),
        (["-T", "d/f", "http://x/"], "PUT", "/f", b"up"),
        (["-T", "d/f", "http://x/y"], "PUT", "/y", b"up"),
        (["-T", ".", "-X", "POST", "http://x/"], "POST", "/", b"input"),
        (["--no-silent", "--get", "--no-get", "-d", "a", "--", "http://x/"], "POST", "/", b"a"),
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
    assert _header(request, "Accept-Encoding") is None
    assert _header(_curl("--compressed", URL), "Accept-Encoding") == "deflate, gzip, br, zstd"
    assert _header(_curl("-A", "", URL), "User-Agent") is None


def test_headers_of_files_and_lines_that_curl_does_not_send() -> None:
    request = _curl("-H", "@heads", "-H", "no colon", "-H", "X-C; 1", "-H", ": 1", "-H", "X-D ;", URL)
    own = [pair for pair in request.headers if pair[0] not in (b"Host", b"User-Agent", b"Accept")]
    assert own == [(b"X-A", b"1"), (b"X-B", b"2"), (b"X-D ", b"")]


def test_one_host_is_sent() -> None:
    assert _header(_curl("-H", "Host: a", "-H", "host: b", URL), "Host") == "a"
    assert _header(_curl("-H", "Host:", URL), "Host") is None
    assert [_header(_curl(url), "Host") for url in ("http://x:80/", "https://x:443/", "https://x:80/", "x:")] == [
        "x", "x", "x:80", "x",
    ]  # fmt: skip


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
    own = _curl("--json", "{}", "-H", "accept: x", "-H", "Content-Type:", URL)
    assert (_header(own, "Accept"), _header(own, "Content-Type")) == ("x", None)


def test_uploads() -> None:
    file, stream = _curl("-T", "body", URL), _curl("-T", "-", URL)
    assert (_header(file, "Content-Length"), _header(file, "Content-Type")) == ("9", None)
    assert (_header(stream, "Content-Length"), _header(stream, "Transfer-Encoding")) == (None, "chunked")
    assert _header(file, "Expect") == "100-continue"
    assert _header(_curl("-d", "x" * ((1 << 20) + 1), URL), "Expect") == "100-continue"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["-u", "me:secret", URL], "Basic bWU6c2VjcmV0"),
        (["http://me:se%63ret@x/"], "Basic bWU6c2VjcmV0"),
        (["http://me@x/"], "Basic bWU6"),
        (["-u", "me:secret", "http://you:two@x/"], "Basic bWU6c2VjcmV0"),
        (["--oauth2-bearer", "abc", URL], "Bearer abc"),
        (["--oauth2-bearer", "abc", "-u", "me:secret", URL], "Bearer abc"),
        (["-H", "Authorization: Bearer own", URL], "Bearer own"),
    ],
)
def test_credentials(words: list[str], value: str) -> None:
    assert _header(_curl(*words), "Authorization") == value
    assert "secret" not in repr(_curl(*words))


def test_cookies_and_ranges() -> None:
    request = _curl("-b", "a=1", "-b", "", "-b", "b=2; c=3", "-r", "0-9", URL)
    assert (_header(request, "Cookie"), _header(request, "Range")) == ("a=1;b=2; c=3", "bytes=0-9")
    assert _header(_curl("-r", "5", URL), "Range") == "bytes=5-"
    assert _header(_curl("-b", "a=1", "-H", "Cookie: own", URL), "Cookie") == "own"
    assert [_header(_curl("-e", value, URL), "Referer") for value in ("r;auto", ";auto")] == ["r", None]


@pytest.mark.parametrize(
    ("url", "targets"),
    [
        ("x/{a,b}/[1-2]", ["/a/1", "/a/2", "/b/1", "/b/2"]),
        ("x/[008-12:2]", ["/008", "/010", "/012"]),
        ("x/[1- 1]", ["/1"]),
        ("x/[a-e:2]", ["/a", "/c", "/e"]),
        (r"x/{a\,b,,c\}}", ["/a,b", "/", "/c}"]),
        (r"x/\[1-2\]\{a,b\}\q", ["/[1-2]{a,b}\\q"]),
        ("x/?match[]=up", ["/?match[]=up"]),
        ("http://[::1]:1/[1-1]", ["/1"]),
    ],
)
def test_globbing(url: str, targets: list[str]) -> None:
    assert _targets(url) == targets
    if "::1" not in url and " " not in url:
        assert _targets("-g", url) == [url.removeprefix("x")]


@pytest.mark.parametrize(
    "pattern",
    ["{}", "{a", "a}", "a]", "[", "[x]", "[3-1]", "[1-3:0]", "[1-3:9]", "[1-1:2]", "[A-z]", "[c-a]", "{a{b}}", "{a]}"],
)
def test_patterns_that_curl_refuses(pattern: str) -> None:
    with pytest.raises(CurlError, match="curl reads brackets and braces"):
        _all(f"http://x/{pattern}")


def test_several_requests() -> None:
    requests = _all("-d", "a", "http://x/1", "http://x/2", "--next", "-X", "PUT", "http://x/3", "-:", "-s")
    assert [(each.method, each.target, each.body) for each in requests] == [
        ("POST", "/1", b"a"),
        ("POST", "/2", b"a"),
        ("PUT", "/3", None),
    ]
    assert [each.method for each in _all("-d", "a", "--next", URL)] == ["POST"]
    assert len(_all("http://x/[1-20]")) == 20


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "there is no URL"),
        (["http://x/[1-21]"], "the URL stands for 21 requests, at most 20 are explained"),
        (["http://x/[1-999999999999]{a,b}"], "stands for 1999999999998 requests"),
        (["http://x/[1-11]", "http://x/[1-11]"], "sends more than 20 requests"),
        (["http://x/[1-20]", "--next", URL], "at most 0|more than 20"),
        (["-F", "a=b", URL], r"multipart forms \(-F\)"),
        (["--form-string", "a=b", URL], "multipart forms"),
        (["-T", "body", "-T", "bin", URL], "several uploads"),
        (["-T", "body", URL, URL], "several uploads"),
        (["-T", "{body,bin}", URL], "several uploads"),
        (["-T", "body", "-d", "a", URL], "curl refuses a body"),
        (["-I", "-d", "a", URL], "curl refuses a body"),
        (["-r", "0-1", "-d", "a", URL], r"a range \(-r\) of a body"),
        (["-K", "file"], "configuration files"),
        (["--netrc", URL], "option --netrc is not supported"),
        (["--digest", URL], "option --digest is not supported"),
        (["-sn", URL], "option -n is not supported"),
        (["-", URL], "option - is not supported"),
        (["--request=PUT", URL], "curl does not know --request=VALUE: write --request VALUE"),
        (["--secret=value", URL], "option --secret is not supported"),
        (["-H"], "value of -H is missing"),
        (["-sH"], "value of -H is missing"),
        (["--data"], "value of --data is missing"),
        (["-u", "me", URL], "curl asks for the password of -u"),
        (["-b", "jar", URL], r"files of cookies \(-b FILE\) are not read"),
        (["-b", "@a=b", URL], "files of cookies"),
        (["http://x/a b"], "a space or a control character"),
        (["-G", "-d", "a b", URL], r"an argument of the URL \(-G, --url-query\) has a space"),
        (["http://b\u00fccher/"], "xn--"),
        (["ftp://x/"], "not an http or https URL"),
        (["http:///x"], "not an http or https URL"),
        (["/x"], "not an http or https URL"),
    ],
)
def test_refused(words: list[str], reason: str) -> None:
    with pytest.raises(CurlError, match=reason):
        _curl(*words)


def test_it_is_curl() -> None:
    assert [each.method for each in parse_curl(["/usr/bin/curl", URL], FILES.__getitem__)] == ["GET"]
    for words in ([], ["wget", URL]):
        with pytest.raises(CurlError, match="does not begin with curl"):
            parse_curl(words, FILES.__getitem__)
