"""Requests from HAR files (HTTP Archive 1.2), which browsers and proxies save, without decisions.

http://www.softwareishard.com/blog/har-12-spec/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from vmgw_core.base import FieldError, as_list, as_object, as_text, get_object, require
from vmgw_core.base.strict_json import child
from vmgw_core.http import RequestHead

from .record import Captured


def entries(document: bytes) -> Sequence[object]:
    """Return the entries of a HAR document.

    Raises:
        FieldError: the document has another form.
    """
    try:
        loaded: object = json.loads(document.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise FieldError("HAR", f"not valid JSON: {error}") from None
    log = as_object(require(as_object(loaded, "HAR"), "log"), "log")
    return as_list(require(log, "entries", "log"), "log.entries")


def captured(entry: object) -> Captured:
    """Return the request of one entry, without pseudo-headers of HTTP/2 and without the origin of the URL.

    Raises:
        FieldError: a field is missing or has another type.
    """
    fields = as_object(entry, "entry")
    request = as_object(require(fields, "request", "entry"), "request")
    url = as_text(require(request, "url", "request"), "request.url")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise FieldError("request.url", "expected a URL") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = tuple(
        pair
        for index, item in enumerate(as_list(require(request, "headers", "request"), "request.headers"))
        if not (pair := _header(item, child("request.headers", index)))[0].startswith(b":")
    )
    data = get_object(request, "postData", "request")
    form = None if data is None else _text(data)
    if form is not None and not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
        headers += ((b"Content-Length", str(len(form)).encode()),)  # HTTP/2 needs no length, but a decision does
    return Captured(
        head=RequestHead(
            method=as_text(require(request, "method", "request"), "request.method"),
            target=target,
            headers=headers,
            client="unknown",
        ),
        at=_time(as_text(require(fields, "startedDateTime", "entry"), "startedDateTime")),
        form=form,
    )


def _header(item: object, path: str) -> tuple[bytes, bytes]:
    field = as_object(item, path)
    name, value = (as_text(require(field, key, path), child(path, key)) for key in ("name", "value"))
    return name.encode(), value.encode()


def _text(data: Mapping[str, object]) -> bytes:
    return as_text(data.get("text", ""), "request.postData.text").encode()


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise FieldError("startedDateTime", "expected a time such as 2026-01-02T03:04:05.678Z") from None
