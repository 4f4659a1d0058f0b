"""Why the gateway's own requests and its connections to backends fail: words without a URL or a secret, and a cause."""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import ssl
from typing import Final, NamedTuple

import requests
import urllib3

from vmgw_core.base import FieldError
from vmgw_core.errors import Cause, ConfigurationError


class Failure(NamedTuple):
    """What went wrong, in words for a log, and its cause."""

    text: str
    cause: Cause


SPEAKS_TLS: Final = "it speaks TLS: write https in the URL"
TLS_ALERT: Final = b"\x15\x03"
"""How a TLS server begins its answer to plain HTTP (RFC 8446, section 5.1)."""
_NO_TLS: Final = Failure("the server does not speak TLS: write http in the URL, or another port", Cause.TLS)
_TIMEOUT: Final = Failure("the connection timed out", Cause.TIMEOUT)
_CLOSED: Final = Failure("the server closed the connection without a response", Cause.CLOSED)
_PROXY: Final = Failure("the proxy cannot be used", Cause.OTHER)
_NOT_HTTP: Final = Failure("the response is not valid HTTP, or incomplete", Cause.RESPONSE)
_KNOWN: Final[tuple[tuple[type[BaseException], Failure], ...]] = (  # the first match wins
    (http.client.RemoteDisconnected, _CLOSED),
    (TimeoutError, _TIMEOUT),
    (urllib3.exceptions.ConnectTimeoutError, _TIMEOUT),
    (urllib3.exceptions.DecodeError, Failure("the response cannot be decompressed", Cause.RESPONSE)),
    (urllib3.exceptions.ProxyError, _PROXY),
    (requests.exceptions.InvalidProxyURL, _PROXY),
    (requests.exceptions.InvalidSchema, _PROXY),  # such as SOCKS, without its library
    (http.client.HTTPException, _NOT_HTTP),
    (urllib3.exceptions.ProtocolError, _NOT_HTTP),
    (ValueError, Failure("the address cannot be used", Cause.OTHER)),
    (ConnectionError, _CLOSED),
)
_CAUSES: Final = {
    Cause.REFUSED: (errno.ECONNREFUSED,),
    Cause.CLOSED: (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE),
    Cause.TIMEOUT: (errno.ETIMEDOUT,),
    Cause.UNREACHABLE: (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN),
    Cause.RESOURCES: (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENOSPC),
    Cause.FILE: (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EIO),
}
_OF_ERRNO: Final = {number: cause for cause, numbers in _CAUSES.items() for number in numbers}
_SSL_DETAILS: Final = re.compile(r"^\[[^]]*\] ?| \(_ssl\.c:\d+\)$")
_NOT_TLS: Final = ("wrong version number", "packet length too long", "record layer failure", "does not speak TLS")
_ABOUT_CERTIFICATES: Final = ("certificate", "unknown ca")
_VERIFY_FAILED: Final = "certificate verify failed: "
_ERRNO: Final = re.compile(r"\[Errno (-?[0-9]+)\] ?([^,('\[]*)")
_LAST_QUOTED: Final = re.compile(r".*'([^']+)'", re.DOTALL)


class RequestFailed(Exception):
    """A request without a usable response. The message has no URL and no secret."""

    def __init__(
        self, message: str, cause: Cause = Cause.OTHER, *, status: int | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status
        self.body = body
        """The beginning of the response. It may quote the URL."""


def describe(error: BaseException) -> str:
    """Describe an error in the system's words, without the URL that HTTP libraries quote."""
    return failure_of(error).text


def failure_of(error: BaseException) -> Failure:
    """Describe an error as :func:`describe` does, and name its cause."""
    causes = _chain(error)
    for each in causes:
        if isinstance(each, RequestFailed):
            return Failure(str(each), each.cause)
        if isinstance(each, FieldError):
            return Failure(str(each), Cause.RESPONSE)
        if isinstance(each, ConfigurationError):
            return Failure(str(each), Cause.FILE)
        if isinstance(each, requests.HTTPError) and each.response is not None:
            return Failure(f"status {each.response.status_code}", Cause.STATUS)
        if isinstance(each, ssl.SSLCertVerificationError):
            return Failure(f"{_VERIFY_FAILED}{each.verify_message.rstrip('.')}", Cause.CERTIFICATE)
        if isinstance(each, OSError) and each.strerror:
            if isinstance(each, ssl.SSLError):
                return _of_tls(_SSL_DETAILS.sub("", each.strerror))
            if isinstance(each, socket.gaierror):
                return Failure(each.strerror, Cause.DNS)
            return _of_errno(each.errno) if each.errno else Failure(each.strerror, Cause.OTHER)
        if type(each) is OSError and (found := _ERRNO.search(str(each))):  # asyncio's "Multiple exceptions"
            return _of_errno(int(found[1]))
    found_known = (failure for kind, failure in _KNOWN if any(isinstance(each, kind) for each in causes))
    return next(found_known, Failure(type(error).__name__, Cause.OTHER))


def failure_of_text(text: str) -> Failure:
    """Do the same for an error that mitmproxy passes on as text, which may have addresses in it."""
    if found := _ERRNO.search(text):
        number = int(found[1])
        return _of_errno(number) if number > 0 else Failure(found[2].strip(), Cause.DNS)
    if text.lower().startswith(_VERIFY_FAILED):
        return Failure(_VERIFY_FAILED + text[len(_VERIFY_FAILED) :], Cause.CERTIFICATE)
    if text.startswith("OpenSSL") and (quoted := _LAST_QUOTED.match(text)):
        return _of_tls(quoted[1])
    if "closed" in text:
        return _CLOSED
    return _of_tls(text)


def _of_errno(number: int) -> Failure:
    # Libraries put addresses into strerror.
    return Failure(os.strerror(number), _OF_ERRNO.get(number, Cause.OTHER))


def _of_tls(text: str) -> Failure:
    """``text`` is OpenSSL's."""
    if any(words in text for words in _NOT_TLS):
        return _NO_TLS
    if text.startswith("EOF occurred"):
        return Failure("the server closed the connection during the TLS handshake", Cause.CLOSED)
    return Failure(text, Cause.CERTIFICATE if any(words in text for words in _ABOUT_CERTIFICATES) else Cause.TLS)


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, at most ten."""
    causes: list[BaseException] = []
    cause: object = error
    while isinstance(cause, BaseException) and len(causes) < 10:
        causes.append(cause)
        wrapped = next((argument for argument in cause.args if isinstance(argument, BaseException)), None)
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None) or wrapped
    return causes
