from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.base.strict_json import FieldError
from vmgw_core.replay.har import captured as read_entry
from vmgw_core.replay.har import entries
from vmgw_core.replay.record import Captured


def entry(**request: Any) -> dict[str, Any]:  # noqa: ANN401
    full = {"method": "GET", "url": "http://g:8431/api/v1/query?query=up#x", "headers": [], **request}
    return {"startedDateTime": "2026-01-02T03:04:05.500Z", "time": 1, "request": full}


def captured(document: object) -> Captured:
    made = read_entry(document)
    assert made is not None
    return made


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AA==", "blob:http://g/1", "chrome-extension://x/y", "about:blank"]
)
def test_what_is_no_request_to_a_server(url: str) -> None:
    assert read_entry(entry(url=url)) is None


def test_a_host_of_its_own_stays() -> None:
    assert captured(entry(headers=[{"name": "host", "value": "other"}])).head.headers == ((b"host", b"other"),)


FIELDS = [{"name": "query", "value": "up{a='b c'}"}, {"name": "nocache"}]


def test_fields_without_a_text_become_the_form() -> None:
    data = {"mimeType": "application/x-www-form-urlencoded; charset=UTF-8", "params": FIELDS}
    expected = b"query=up%7Ba%3D%27b+c%27%7D&nocache="
    assert captured(entry(method="POST", postData=data)).form == expected
    assert captured(entry(method="POST", postData=data)).head.content_length == len(expected)
    assert captured(entry(method="POST", postData=data | {"text": "query=down"})).form == b"query=down"
    assert captured(entry(method="POST", postData=data | {"mimeType": "multipart/form-data"})).form is None


LONG = [{"name": "content-length", "value": "8"}]
NONE = [{"name": "Content-Length", "value": "0"}]


@pytest.mark.parametrize(
    ("text", "headers", "form"),
    [({}, LONG, None), ({}, [], None), ({"text": None}, LONG, None), ({"text": None}, [], None),
     ({"text": ""}, LONG, None), ({"text": ""}, NONE, b""), ({"text": ""}, [], b"")],
)  # fmt: skip
def test_a_body_that_the_file_does_not_have(text: dict[str, Any], headers: list[Any], form: bytes | None) -> None:
    data = {"mimeType": None, "params": [], **text}
    assert captured(entry(method="POST", headers=headers, postData=data)).form == form


def test_null_is_no_body() -> None:
    assert captured(entry(method="POST", postData=None)).form is None


def test_a_body_in_base64() -> None:
    assert captured(entry(method="POST", postData={"text": "cXVlcnk9dXA=", "encoding": "base64"})).form == b"query=up"
    assert captured(entry(method="POST", postData={"text": "", "encoding": "base64"})).form == b""
    with pytest.raises(FieldError, match="base64"):
        captured(entry(method="POST", postData={"text": "%", "encoding": "base64"}))


def test_bytes_that_are_not_utf_8_stay() -> None:
    """As mitmproxy writes them."""
    made = captured(
        entry(
            url="http://g/api/v1/query?query=\udcff",
            headers=[{"name": "X-A", "value": "\udcff"}],
            postData={"text": "\udcfe"},
        )
    )
    assert made.head.target == "/api/v1/query?query=\udcff"
    assert (b"X-A", b"\xff") in made.head.headers
    assert made.form == b"\xfe"
    fields = {"params": [{"name": "query", "value": "\udcfe"}]}
    assert captured(entry(method="POST", postData=fields)).form == b"query=%FE"


def test_cookies_become_a_header_if_there_is_none() -> None:
    cookies = [{"name": "a", "value": "b"}, {"name": "c", "value": "d"}]
    assert captured(entry(cookies=cookies)).head.values(b"cookie") == [b"a=b; c=d"]
    headers = [{"name": "cookie", "value": "e=f"}]
    assert captured(entry(cookies=cookies, headers=headers)).head.values(b"cookie") == [b"e=f"]
    assert captured(entry(cookies=[])).head.values(b"cookie") == []


def test_a_document() -> None:
    document = json.dumps({"log": {"entries": [entry()]}}).encode()
    assert len(entries(document)) == 1
    assert len(entries(b"\xef\xbb\xbf" + document)) == 1


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b"{}", b'{"log":{}}', b'{"log":{"entries":{}}}', b"[" * 100_000]
)
def test_no_document(document: bytes) -> None:
    with pytest.raises(FieldError):
        entries(document)


def test_a_request() -> None:
    headers = [{"name": ":authority", "value": "g"}, {"name": "Authorization", "value": "Bearer x"}]
    made = captured(entry(headers=headers))
    assert made.head.target == "/api/v1/query?query=up"
    assert made.head.headers == ((b"Host", b"g:8431"), (b"Authorization", b"Bearer x"))
    assert (made.at, made.form, made.outcome) == (1767323045.5, None, None)


def test_a_url_without_a_path() -> None:
    assert captured(entry(url="http://g")).head.target == "/"


def test_a_form() -> None:
    made = captured(entry(method="POST", postData={"mimeType": "x", "text": "query=up"}))
    assert made.form == b"query=up"
    assert made.head.content_length == 8
    announced = [{"name": "Content-Length", "value": "8"}]
    made = captured(entry(method="POST", headers=announced, postData={"text": "query=up"}))
    assert made.head.content_length == 8


def test_a_time_without_a_zone_is_utc() -> None:
    made = captured({**entry(), "startedDateTime": "2026-01-02T03:04:05.500"})
    assert made.at == 1767323045.5


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        ([], "entry"),
        ({}, "request"),
        (entry(url="http://[::1"), "request.url"),
        (entry(url=1), "request.url"),
        (entry(headers=[["a", "b"]]), "request.headers"),
        (entry(headers=[{"name": "a"}]), "request.headers"),
        (entry(method=None), "request.method"),
        (entry(postData={"text": 1}), "postData"),
        (entry(postData={"text": "\ud800"}), "postData.text: expected text"),
        (entry(cookies=[{"value": "a"}]), "cookies"),
        ({**entry(), "startedDateTime": "yesterday"}, "startedDateTime"),
    ],
)
def test_rejects(broken: object, path: str) -> None:
    with pytest.raises(FieldError, match=path):
        captured(broken)


@given(st.recursive(st.none() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_anything_gives_a_request_or_an_error(value: object) -> None:
    for each in (value, {**entry(), "request": value}):
        try:
            captured(each)
        except FieldError:
            continue
