"""The responses that clients get for refusals.

Bodies are those of the Prometheus HTTP API on errors, so that Grafana shows the text:
``{"status":"error","errorType":…,"error":…}`` (https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import Access
from vmgw_core.errors import (
    BackendUnreachable,
    KeysUnavailable,
    MethodNotAllowed,
    Overloaded,
    RateLimited,
    Refusal,
    TokenRefused,
    TooManyAtOnce,
    UsageUnknown,
)

from .headers import Headers

_ERROR_TYPES: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "bad_data",
    422: "execution",
    429: "too_many_requests",
    500: "internal",
    502: "unavailable",
    503: "unavailable",
    504: "timeout",
}
# vmagent drops a block on these and retries on all others, so a write gets another status unless the refusal is final.
_DROPPED_BY_WRITERS: Final = {400: 403, 409: 403, 415: 403}


CORS: Final = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Allow-Methods", b"*"),
    (b"Access-Control-Allow-Headers", b"*, Authorization"),
)
"""Headers that let pages of other origins read a response, without credentials, as VictoriaMetrics sends them.

VictoriaMetrics needs no ``Authorization``, which the star does not stand for
(https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name).

``-http.disableCORS`` removes them (https://developer.mozilla.org/en-US/docs/Web/HTTP/CORS).
"""

NOT_SHARED: Final = (b"Cache-Control", b"private, no-cache")
"""Added to responses of backends that must not be given to somebody else, nor to the same browser after a logout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete response of the gateway itself."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    private: tuple[tuple[bytes, bytes], ...] = ()
    """Further headers, with secrets: only the client sees them, no flow and no capture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdit:
    """Headers to add to every response, and to remove from those of backends.

    ``add`` replaces headers of the same name; ``drop`` are prefixes of names, in lower case. VictoriaMetrics sends its
    host name in every response.
    """

    add: tuple[tuple[bytes, bytes], ...] = ()
    drop: tuple[bytes, ...] = (b"x-server-hostname",)

    def apply(self, headers: Headers) -> Headers:
        """Return the headers of a response as the client gets them."""
        replaced = {name.lower() for name, _ in self.add}
        kept = [
            field for field in headers if (name := field[0].lower()) not in replaced and not name.startswith(self.drop)
        ]
        return (*kept, *self.add)


def refusal_response(refusal: Refusal, *, access: Access | None = None, tell_why: bool = False) -> Response:
    """Return the response for ``refusal``.

    Args:
        access: the access of the route, if known; a write gets 400 or 415 only if it can never succeed.
        tell_why: whether the client learns why its token was refused (``-logInvalidAuthTokens``).
    """
    status = refusal.status
    if access is Access.WRITE and not refusal.final:
        status = _DROPPED_BY_WRITERS.get(status, status)
    text = refusal.message
    # No cache may give it to somebody else: by the token, the same request may be allowed.
    headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), *CORS]
    if isinstance(refusal, TokenRefused):
        # RFC 6750, section 3: the challenge; section 3.1: no error code if no token was sent.
        headers.append((b"WWW-Authenticate", b"Bearer"))
        if not tell_why:
            text = "a valid token is needed"
    elif isinstance(refusal, MethodNotAllowed):
        headers.append((b"Allow", ", ".join(refusal.allow).encode()))
    elif isinstance(refusal, RateLimited):
        headers.append((b"Retry-After", str(refusal.retry_after).encode()))
    elif isinstance(refusal, KeysUnavailable | BackendUnreachable | UsageUnknown | Overloaded | TooManyAtOnce):
        headers.append((b"Retry-After", b"5"))
    document = {"status": "error", "errorType": _ERROR_TYPES.get(status, "bad_data"), "error": text}
    body = json.dumps(document, separators=(",", ":")).encode()
    headers.append((b"Content-Length", str(len(body)).encode()))
    return Response(status=status, headers=tuple(headers), body=body)
