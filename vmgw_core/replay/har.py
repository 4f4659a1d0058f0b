"""Requests from HAR files (HTTP Archive 1.2), which browsers and proxies save, without decisions.

http://www.softwareishard.com/blog/har-12-spec/
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from vmgw_core.base import FieldError, as_list, as_object, as_text, child, required
from vmgw_core.http import URLENCODED, RequestHead, values_of

from .record import Captured

T = TypeVar("T")


def entries(document: bytes) -> Sequence[object]:
    """Return the entries of a HAR document. Raises ``FieldError`` if the document has another form."""
    try:
        loaded: object = json.loads(document.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise FieldError("HAR", f"not valid JSON: {error}") from None
    log = required(as_object(loaded, "HAR"), "log", as_object)
    return required(log, "entries", as_list, "log")


def captured(entry: object) -> Captured | None:
    """Return the request of one entry, without pseudo-headers of HTTP/2; None if it is none (``data:``, ``blob:``).

    Raises ``FieldError`` if a field is missing or has another type.
    """
    fields = as_object(entry, "entry")
    request = required(fields, "request", as_object, "entry")
    url = required(request, "url", _text, "request")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise FieldError("request.url", "expected a URL") from None
    if parts.scheme not in ("http", "https", "ws", "wss"):
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = tuple(
        pair
        for index, item in enumerate(required(request, "headers", as_list, "request"))
        if not (pair := _header(item, child("request.headers", index)))[0].startswith(b":")
    )
    data = _given(request, "postData", as_object, "request")
    form = None if data is None else _form(data, b"".join(values_of(headers, b"content-length")))
    if not values_of(headers, b"host"):
        headers = ((b"Host", _bytes(parts.netloc.rpartition("@")[2])), *headers)
    if not values_of(headers, b"cookie") and (cookies := request.get("cookies")):
        pairs = _pairs(cookies, "request.cookies")
        headers += ((b"Cookie", _bytes("; ".join(f"{name}={value}" for name, value in pairs))),)
    if form is not None and not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
        headers += ((b"Content-Length", str(len(form)).encode()),)  # HTTP/2 needs no length, but a decision does
    return Captured(
        head=RequestHead(
            method=required(request, "method", as_text, "request"),
            target=target,
            headers=headers,
            client="unknown",
        ),
        at=required(fields, "startedDateTime", _time, "entry"),
        form=form,
    )


def _form(data: Mapping[str, object], announced: bytes) -> bytes | None:
    """Return the body, or the form of the fields that some programs write instead.

    It is None if the file does not have it, as for bodies that streamed through mitmproxy, and for multipart forms.
    ``announced`` is the length in the headers.
    """
    text = _given(data, "text", _text, "request.postData")
    if text and data.get("encoding") == "base64":
        try:
            return b64decode(text, validate=True)
        except ValueError:
            raise FieldError("request.postData.text", "expected base64") from None
    if text or not data.get("params"):
        return None if text is None or (not text and announced.strip(b"0")) else _bytes(text)
    mime_type = _given(data, "mimeType", _text, "request.postData") or URLENCODED
    if mime_type.partition(";")[0].strip().lower() != URLENCODED:
        return None
    return urlencode(_pairs(data["params"], "request.postData.params"), errors="surrogateescape").encode()


def _pairs(value: object, path: str) -> list[tuple[str, str]]:
    """Read a list of names and values; a value may be missing."""
    fields = [as_object(item, path) for item in as_list(value, path)]
    return [(required(field, "name", _text, path), _given(field, "value", _text, path) or "") for field in fields]


def _header(item: object, path: str) -> tuple[bytes, bytes]:
    field = as_object(item, path)
    return _bytes(required(field, "name", _text, path)), _bytes(required(field, "value", _text, path))


def _given(fields: Mapping[str, object], name: str, read: Callable[[object, str], T], path: str) -> T | None:
    """Return an optional value. Some programs write null for a value that they do not have."""
    return None if fields.get(name) is None else read(fields[name], child(path, name))


def _text(value: object, path: str) -> str:
    """Read text. mitmproxy writes bytes that are not UTF-8 as lone surrogates, as Python's ``surrogateescape`` does."""
    if not isinstance(value, str):
        return as_text(value, path)
    try:
        _bytes(value)
    except UnicodeEncodeError:
        raise FieldError(path, "expected text, got a string with a lone surrogate") from None
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _time(value: object, path: str) -> float:
    text = as_text(value, path)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise FieldError(path, "expected a time such as 2026-01-02T03:04:05.678Z") from None
