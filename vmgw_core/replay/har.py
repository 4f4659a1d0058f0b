"""Requests from HAR files (HTTP Archive 1.2), which browsers and proxies save, without decisions.

http://www.softwareishard.com/blog/har-12-spec/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from vmgw_core.base import FieldError, as_list, as_object, as_text, child, optional, required
from vmgw_core.http import URLENCODED, RequestHead

from .record import Captured


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
    url = required(request, "url", as_text, "request")
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
    data = optional(request, "postData", as_object, "request")
    form = None if data is None else _form(data)
    if not any(name.lower() == b"host" for name, _ in headers):
        headers = ((b"Host", parts.netloc.rpartition("@")[2].encode()), *headers)
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


def _form(data: Mapping[str, object]) -> bytes | None:
    """Return the body, or the form of the fields that some programs write instead; None for those of a multipart."""
    text = as_text(data.get("text", ""), "request.postData.text")
    if text or not data.get("params"):
        return text.encode()
    if as_text(data.get("mimeType", URLENCODED), "request.postData.mimeType").partition(";")[0].strip() != URLENCODED:
        return None
    path = "request.postData.params"
    fields = [as_object(item, path) for item in as_list(data["params"], path)]
    return urlencode(
        [
            (required(field, "name", as_text, path), as_text(field.get("value", ""), child(path, "value")))
            for field in fields
        ]
    ).encode()


def _header(item: object, path: str) -> tuple[bytes, bytes]:
    field = as_object(item, path)
    return required(field, "name", as_text, path).encode(), required(field, "value", as_text, path).encode()


def _time(value: object, path: str) -> float:
    text = as_text(value, path)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise FieldError(path, "expected a time such as 2026-01-02T03:04:05.678Z") from None
