"""Errors of the gateway's own requests, described without a URL or a secret."""

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
_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (  # the first match wins
    (http.client.RemoteDisconnected, "the server closed the connection without a response"),
    (TimeoutError, "the connection timed out"),
    (urllib3.exceptions.ConnectTimeoutError, "the connection timed out"),
    (urllib3.exceptions.DecodeError, "the response cannot be decompressed"),
    (urllib3.exceptions.ProxyError, "the proxy cannot be used"),
    (requests.exceptions.InvalidProxyURL, "the proxy cannot be used"),
    (requests.exceptions.InvalidSchema, "the proxy cannot be used"),  # such as SOCKS, without its library
    (http.client.HTTPException, "the response is not valid HTTP, or incomplete"),
    (urllib3.exceptions.ProtocolError, "the response is not valid HTTP, or incomplete"),
    (ValueError, "the address cannot be used"),
)


class RequestFailed(Exception):
    """A request without a usable response. The message has no URL and no secret."""

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """The beginning of the response. It may quote the URL."""


def describe(error: BaseException) -> str:
    """Describe an error in the system's words, without the URL that HTTP libraries quote."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, RequestFailed | ConfigurationError):
            return str(cause)
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            return f"status {cause.response.status_code}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, OSError) and cause.strerror:
            if isinstance(cause, ssl.SSLError):
                return _SSL_DETAILS.sub("", cause.strerror)
            if isinstance(cause, socket.gaierror) or not cause.errno:
                return cause.strerror  # its error numbers are not those of errno
            return os.strerror(cause.errno)  # libraries put addresses into strerror
    found = (words for kind, words in _WORDS if any(isinstance(cause, kind) for cause in causes))
    return next(found, type(error).__name__)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, at most ten."""
    causes: list[BaseException] = []
    cause: object = error
    while isinstance(cause, BaseException) and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
    return causes
