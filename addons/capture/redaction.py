"""Removes the secrets from a flow, in place, before anything saves it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from mitmproxy.http import Headers, HTTPFlow, Message

from vmgw_core.http import Headers as Fields
from vmgw_core.http import values_of
from vmgw_core.replay import redact_body, redact_headers, redact_target


class Tee:
    """Keeps a copy of a body that streams. Keeps nothing of one that is longer than the limit.

    Args:
        inner: mitmproxy's ``stream`` for this message: a function or True.
    """

    def __init__(self, inner: Callable[[bytes], Iterable[bytes] | bytes] | bool, limit: int) -> None:
        self.inner = inner
        self.limit = limit
        self.data = bytearray()
        self.whole = True

    def __call__(self, chunk: bytes) -> Iterable[bytes] | bytes:
        if len(self.data) + len(chunk) > self.limit:
            self.whole = False
            self.data.clear()
        elif self.whole:
            self.data += chunk
        return self.inner(chunk) if callable(self.inner) else chunk


def redact_flow(flow: HTTPFlow, token_headers: Collection[bytes], *, response_is_sent: bool = True) -> None:
    """Redact the head, arguments and body of the request, which has been sent, and of the response if it has been.

    A body is dropped if it may contain a secret that cannot be removed. A response that the gateway or another addon
    made is sent after this, so it stays as it is.
    """
    request = flow.request
    target = redact_target(request.data.path.decode("utf-8", "surrogateescape"))
    request.data.path = target.encode("utf-8", "surrogateescape")
    _redact_message(request, token_headers)
    if flow.response is not None and response_is_sent:
        _redact_message(flow.response, token_headers)
    if flow.is_replay != "request":
        flow._backup = None  # the state before an edit; a client replay restores it


def _redact_message(message: Message, token_headers: Collection[bytes]) -> None:
    fields, content = redact_message(message.headers.fields, message.raw_content, token_headers)
    message.headers = Headers(fields)
    message.trailers = None
    message.data.content = content


def redact_message(
    fields: Fields, content: bytes | None, token_headers: Collection[bytes]
) -> tuple[Fields, bytes | None]:
    """Return the headers and the body of a message without secrets; no body if one cannot be removed."""
    redacted = redact_headers(fields, token_headers)
    if not content:
        return redacted, content
    left = redact_body(content, _value(fields, b"content-type"), _value(fields, b"content-encoding"))
    if left is not None and len(left) != len(content):
        length = str(len(left)).encode()  # a replay's receiver would wait for the rest
        redacted = tuple((name, length if name.lower() == b"content-length" else value) for name, value in redacted)
    return redacted, left


def _value(fields: Fields, name: bytes) -> str:
    return b", ".join(values_of(fields, name)).decode("utf-8", "surrogateescape")


def bounded(state: dict[str, Any], limit: int) -> dict[str, Any]:
    """Remove bodies of more than ``limit`` bytes from a flow's state."""
    for name in ("request", "response"):
        message = state.get(name)
        if message is not None and message["content"] is not None and len(message["content"]) > limit:
            message["content"] = None
    return state
