"""What went wrong with a request of the gateway's own, in words and without a URL or a secret."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from typing import Final

import requests
import urllib3

from vmgw_core.errors import ConfigurationError

_SSL_DETAILS: Final = re.compile(r"^\[[^]]*\] ?| \(_ssl\.c:\d+\)$")
_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (  # the first one that fits counts
    (http.client.RemoteDisconnected, "the server closed the connection without an answer"),
    (TimeoutError, "the connection timed out"),
    (urllib3.exceptions.ConnectTimeoutError, "the connection timed out"),
    (urllib3.exceptions.DecodeError, "the compression of the answer cannot be read"),
    (urllib3.exceptions.ProxyError, "the proxy cannot be used"),
    (requests.exceptions.InvalidProxyURL, "the proxy cannot be used"),
    (requests.exceptions.InvalidSchema, "the proxy cannot be used"),  # such as SOCKS, without its library
    (http.client.HTTPException, "the answer is not valid HTTP, or was broken off"),
    (urllib3.exceptions.ProtocolError, "the answer is not valid HTTP, or was broken off"),
    (ValueError, "the address cannot be used"),
)


class AskError(Exception):
    """A request that got no usable answer. The message holds no URL and no secret."""

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """The beginning of the answer. It may quote the URL."""


def describe(error: BaseException) -> str:
    """Say what went wrong, in the system's words and without the URL that HTTP libraries quote."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, AskError | ConfigurationError):
            return str(cause)
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            return f"status {cause.response.status_code}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, OSError) and cause.strerror:
            if isinstance(cause, ssl.SSLError):
                return _SSL_DETAILS.sub("", cause.strerror)
            if isinstance(cause, socket.gaierror) or not cause.errno:
                return cause.strerror  # these have error numbers of their own
            return os.strerror(cause.errno)  # libraries put other texts into it, with addresses
    found = (words for kind, words in _WORDS if any(isinstance(cause, kind) for cause in causes))
    return next(found, type(error).__name__)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what led to it, at most ten."""
    causes: list[BaseException] = []
    cause: object = error
    while isinstance(cause, BaseException) and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
    return causes
