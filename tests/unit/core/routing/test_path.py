"""path: one reading of a path, or none."""

from __future__ import annotations

import string
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.errors import AmbiguousPath
from vmgw_core.routing.path import decode_path, encode_path


@each(
    ("raw", "decoded"),
    [
        pytest.param("/", "/", id="root"),
        pytest.param("/api/v1/query", "/api/v1/query", id="plain"),
        pytest.param("/vmui/", "/vmui/", id="a trailing slash"),
        pytest.param("/a-b_c~d@e:f!g$h&i'j(k)l*m+n,o=p", "/a-b_c~d@e:f!g$h&i'j(k)l*m+n,o=p", id="all that is safe"),
        pytest.param("/favicon.ico", "/favicon.ico", id="a dot within"),
        pytest.param("/a./b..", "/a./b..", id="dots at the end"),
        pytest.param("/.a/..b/...", "/.a/..b/...", id="dots at the beginning"),
        pytest.param("/%61pi", "/api", id="a letter encoded"),
        pytest.param("/a%2Eb", "/a.b", id="a dot encoded, in a name"),
        pytest.param("/a%20b", "/a b", id="a blank encoded"),
        pytest.param("/a b", "/a b", id="a raw blank"),
        pytest.param("/a+b", "/a+b", id="a plus is a plus"),
        pytest.param("/a%3fb", "/a?b", id="a question mark encoded"),
        pytest.param("/a;b", "/a;b", id="a semicolon"),
        pytest.param("/a%3Bb", "/a;b", id="a semicolon encoded"),
        pytest.param("/%3Cname%3E", "/<name>", id="angle brackets"),
        pytest.param("/%c3%a9", "/\u00e9", id="two bytes of UTF-8"),
        pytest.param("/\u00e9", "/\u00e9", id="a raw character"),
        pytest.param("/%F0%9F%98%80", "/\U0001f600", id="four bytes of UTF-8"),
        pytest.param("/%7E", "/~", id="the last character before DEL"),
        pytest.param("/%C2%A0", "/\u00a0", id="the first character after the controls"),
        pytest.param("//api/v1/query", "/api/v1/query", id="a base URL that ends with a slash"),
        pytest.param("//%61pi", "/api", id="a base URL that ends with a slash, a letter encoded"),
        pytest.param("//", "/", id="a base URL alone"),
        pytest.param("/api/v1/label/a%2Fb/values", "/api/v1/label/a/b/values", id="a slash in a label name"),
        pytest.param("/api/v1/label/a.b%2fc%2Fd-%65/values", "/api/v1/label/a.b/c/d-e/values", id="several of them"),
        pytest.param("/api/v1/label/a/b/values", "/api/v1/label/a/b/values", id="a plain slash in a label name"),
        pytest.param(
            "/select/1:5/prometheus/api/v1/label/a%2Fb/values",
            "/select/1:5/prometheus/api/v1/label/a/b/values",
            id="a slash in a label name, in a cluster",
        ),
    ],
)
def test_decode_accepts(raw: str, decoded: str) -> None:
    assert decode_path(raw) == decoded


@each(
    "raw",
    [
        pytest.param("", id="nothing"),
        pytest.param("api/v1/query", id="no slash at the beginning"),
        pytest.param("*", id="asterisk-form"),
        pytest.param("http://vm/api/v1/query", id="absolute-form"),
        pytest.param("vm:8428", id="authority-form"),
        pytest.param("%2Fapi", id="an encoded slash at the beginning"),
        pytest.param("///", id="three slashes"),
        pytest.param("///api/v1/query", id="three slashes at the beginning"),
        pytest.param("//api//v1/query", id="two slashes at the beginning and within"),
        pytest.param("//../api/v1/query", id="two slashes and two dots"),
        pytest.param("/%2Fapi/v1/query", id="two slashes at the beginning, one encoded"),
        pytest.param("/api/v1/label/a%2F%2Fb/values", id="two slashes in a label name"),
        pytest.param("/api/v1/label/%2Fa/values", id="a slash at the beginning of a label name"),
        pytest.param("/api/v1/label/a%2F/values", id="a slash at the end of a label name"),
        pytest.param("/api/v1/label/a%2F../values", id="two dots in a label name"),
        pytest.param("/api/v1/label/a%2F%2e%2E%2Fb/values", id="two dots encoded in a label name"),
        pytest.param("/api/v1/label/a%2F.%2Fb/values", id="a dot in a label name"),
        pytest.param("/api/v1/label/a%252Fb/values", id="a slash encoded twice in a label name"),
        pytest.param("/api/v1/label/a%5Cb/values", id="a backslash in a label name"),
        pytest.param("/api/v1/label%2Fa/values", id="an encoded slash before a label name"),
        pytest.param("/api/v1/label/a%2Fvalues", id="an encoded slash after a label name"),
        pytest.param("/api/v1/label/a%2Fb/c/values", id="an encoded and a plain slash in a label name"),
        pytest.param("/api/v1/label/a%2Fb/values/", id="a slash in a label name, and one at the end"),
        pytest.param("/api/v1%2Flabel/a%2Fb/values", id="an encoded slash elsewhere, too"),
        pytest.param("/api//v1/query", id="two slashes within"),
        pytest.param("/api/v1/query//", id="two slashes at the end"),
        pytest.param("/.", id="a dot alone"),
        pytest.param("/..", id="two dots alone"),
        pytest.param("/./api", id="a dot at the beginning"),
        pytest.param("/api/./v1", id="a dot within"),
        pytest.param("/api/.", id="a dot at the end"),
        pytest.param("/api/../v1", id="two dots within"),
        pytest.param("/api/..", id="two dots at the end"),
        pytest.param("/api/%2e%2E/v1", id="two dots encoded"),
        pytest.param("/api/.%2e/v1", id="two dots, one encoded"),
        pytest.param("/api/%2e/v1", id="a dot encoded"),
        pytest.param("/api%2Fv1", id="an encoded slash"),
        pytest.param("/api%2fv1", id="an encoded slash in lower case"),
        pytest.param("/..%2fv1", id="two dots and an encoded slash"),
        pytest.param("/api\\v1", id="a backslash"),
        pytest.param("/api%5Cv1", id="an encoded backslash"),
        pytest.param("/api%5cv1", id="an encoded backslash in lower case"),
        pytest.param("/a#b", id="a fragment"),
        pytest.param("/a%23b", id="an encoded fragment"),
        pytest.param("/%2561pi", id="encoded twice"),
        pytest.param("/a%25", id="an encoded percent sign"),
        pytest.param("/a%252f", id="a slash encoded twice"),
        pytest.param("/a%25252f", id="a slash encoded three times"),
        pytest.param("/%", id="a percent sign alone"),
        pytest.param("/%6", id="half an escape"),
        pytest.param("/%zz", id="an escape that is none"),
        pytest.param("/%6g", id="an escape that is half one"),
        pytest.param("/%u0061", id="an escape of another language"),
        pytest.param("/%00", id="NUL"),
        pytest.param("/api%00", id="NUL at the end"),
        pytest.param("/a\tb", id="a raw tab"),
        pytest.param("/a%0d%0aHost:%20b", id="a line break"),
        pytest.param("/a%1f", id="the last of C0"),
        pytest.param("/a%7f", id="DEL"),
        pytest.param("/a%C2%80", id="the first of C1"),
        pytest.param("/a%C2%9F", id="the last of C1"),
        pytest.param("/a%E2%80%A8", id="a line separator"),
        pytest.param("/a%E2%80%A9", id="a paragraph separator"),
        pytest.param("/%e9", id="Latin-1"),
        pytest.param("/%c3", id="half a character"),
        pytest.param("/%c0%af", id="a slash in overlong UTF-8"),
        pytest.param("/%c0%ae%c0%ae/", id="dots in overlong UTF-8"),
        pytest.param("/%ed%a0%80", id="a surrogate in UTF-8"),
        pytest.param("/\udc80", id="a lone surrogate"),
    ],
)
def test_decode_rejects(raw: str) -> None:
    with pytest.raises(AmbiguousPath):
        decode_path(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("api", "does not begin with a slash"),
        ("/%zz", "has a bad percent escape"),
        ("/%2f", "has an encoded slash or backslash"),
        ("/%ff", "is not UTF-8"),
        ("/%2561", "is encoded twice"),
        ("/%23", "has a backslash, a fragment or a control character"),
        ("/../", "has an empty or a dot segment"),
    ],
)
def test_a_refusal_says_what_is_wrong(raw: str, reason: str) -> None:
    with pytest.raises(AmbiguousPath, match=f"^the path {reason}$"):
        decode_path(raw)


@each(
    ("path", "encoded"),
    [
        pytest.param("/select/1:5/prometheus", "/select/1:5/prometheus", id="a tenant"),
        pytest.param("/a-b_c.d~e@f:g!h$i&j'k(l)m*n+o,p=q", "/a-b_c.d~e@f:g!h$i&j'k(l)m*n+o,p=q", id="all that is safe"),
        pytest.param("/a b", "/a%20b", id="a blank"),
        pytest.param("/a?b", "/a%3Fb", id="a question mark"),
        pytest.param("/a;b", "/a%3Bb", id="a semicolon"),
        pytest.param("/a#b", "/a%23b", id="a fragment"),
        pytest.param("/<x>", "/%3Cx%3E", id="angle brackets"),
        pytest.param('/["|^`{}]', "/%5B%22%7C%5E%60%7B%7D%5D", id="what a URL may not hold"),
        pytest.param("/\u00e9", "/%C3%A9", id="UTF-8"),
    ],
)
def test_encode(path: str, encoded: str) -> None:
    assert encode_path(path) == encoded


pieces = st.sampled_from([*"//..%25aC;?#\\ \0\u00e9\u2028", "%2f", "%2e", "%61", "%C3%A9", "a/b", "/../"])
any_path = st.text(max_size=40) | st.lists(pieces, max_size=12).map(lambda parts: "/" + "".join(parts))


@given(any_path)
@example("/.%2e/")
@example("/a%2e")
def test_any_text_is_a_path_or_ambiguous(raw: str) -> None:
    try:
        path = decode_path(raw)
    except AmbiguousPath:
        return
    assert path == unquote(raw[1:] if raw.startswith("//") else raw, errors="strict")
    assert path.startswith("/")
    assert not set(path) & set("%\\#\0\n\r\t\x7f")
    segments = path.split("/")[1:]
    assert "" not in segments[:-1]
    assert not {".", ".."} & set(segments)


@given(any_path)
def test_an_encoded_path_decodes_to_the_same(raw: str) -> None:
    try:
        path = decode_path(raw)
    except AmbiguousPath:
        return
    encoded = encode_path(path)
    assert decode_path(encoded) == path
    assert encode_path(decode_path(encoded)) == encoded
    assert set(encoded) <= set(string.ascii_letters + string.digits + "/-_.~@:!$&'()*+,=%")


@given(st.text(alphabet="ab./-~=", max_size=12).map(lambda text: "/" + text), st.data())
def test_an_encoded_letter_changes_nothing(raw: str, data: st.DataObject) -> None:
    """The short way for plain paths, and the long one for all others, judge alike."""
    position = data.draw(st.integers(1, len(raw)))
    spelled = raw[:position] + "%61" + raw[position:]
    plain = raw[:position] + "a" + raw[position:]
    results = []
    if plain.startswith("//") is not spelled.startswith("//"):
        return  # what begins with two slashes has one more than is read
    for text in (plain, spelled):
        try:
            results.append(decode_path(text))
        except AmbiguousPath:
            results.append("ambiguous")
    assert results[0] == results[1]


LONG = 256 * 1024


@each(
    "raw",
    [
        pytest.param("/" * LONG, id="slashes"),
        pytest.param("/a" * LONG + "//", id="segments"),
        pytest.param("/" + "a." * LONG + "\0", id="dots"),
        pytest.param("/" + "%61" * LONG + "%2f", id="escapes"),
        pytest.param("/" + "%" * LONG, id="percent signs"),
        pytest.param("/" + "a" * LONG + "%00", id="a long segment"),
        pytest.param("/api/v1/label/a" * (LONG // 16) + "%2f", id="label names"),
        pytest.param("/api/v1/label/" + "%2f" * LONG + "/values", id="slashes in a label name"),
    ],
)
def test_a_hostile_path_costs_no_more_than_a_long_one(raw: str) -> None:
    # A quadratic reading takes minutes here, a linear one milliseconds.
    with pytest.raises(AmbiguousPath):
        decode_path(raw)
