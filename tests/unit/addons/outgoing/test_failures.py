"""Errors in words without an address or a secret, and their cause."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from tests.support.each import each
from vmgw_addons.outgoing import RequestFailed, failure_of, failure_of_text
from vmgw_core.base import FieldError
from vmgw_core.errors import Cause, ConfigurationError


def of_ssl(text: str) -> ssl.SSLError:
    return ssl.SSLError(1, text)


@each(
    ("error", "text", "cause"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.7', 1)"), "Connection refused", Cause.REFUSED),
        (OSError(errno.EHOSTUNREACH, "x"), "No route to host", Cause.UNREACHABLE),
        (OSError(errno.ECONNRESET, "x"), "Connection reset by peer", Cause.CLOSED),
        (OSError(errno.EMFILE, "x"), "Too many open files", Cause.RESOURCES),
        (OSError(errno.ENOENT, "x"), "No such file or directory", Cause.FILE),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] ('127.0.0.1', 1)"),
            "Connection refused",
            Cause.REFUSED,
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known", Cause.DNS),
        (ConnectionResetError(), "the server closed the connection without a response", Cause.CLOSED),
        (TimeoutError(), "the connection timed out", Cause.TIMEOUT),
        (
            of_ssl("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1020)"),
            "the server does not speak TLS: write http in the URL, or another port",
            Cause.TLS,
        ),
        (
            of_ssl("[SSL] tlsv13 alert certificate required (_ssl.c:2590)"),
            "tlsv13 alert certificate required",
            Cause.CERTIFICATE,
        ),
        (of_ssl("[SSL] no protocols available (_ssl.c:1)"), "no protocols available", Cause.TLS),
        (
            of_ssl("EOF occurred in violation of protocol (_ssl.c:1)"),
            "the server closed the connection during the TLS handshake",
            Cause.CLOSED,
        ),
        (RequestFailed("status 500", Cause.STATUS), "status 500", Cause.STATUS),
        (FieldError("a.b", "expected text"), str(FieldError("a.b", "expected text")), Cause.RESPONSE),
        (ConfigurationError("-tlsCAFile: cannot read x"), "-tlsCAFile: cannot read x", Cause.FILE),
        (KeyError("secret"), "KeyError", Cause.OTHER),
    ],
)
def test_an_error(error: BaseException, text: str, cause: Cause) -> None:
    assert failure_of(error) == (text, cause)


@pytest.mark.parametrize(
    ("given", "text", "cause"),
    [
        ("[Errno 111] Connect call failed ('10.0.0.7', 1)", "Connection refused", Cause.REFUSED),
        ("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1)", "Connection refused", Cause.REFUSED),
        ("[Errno -2] Name or service not known", "Name or service not known", Cause.DNS),
        (
            "Certificate verify failed: unable to get local issuer certificate",
            "certificate verify failed: unable to get local issuer certificate",
            Cause.CERTIFICATE,
        ),
        (
            "The remote server does not speak TLS.",
            "the server does not speak TLS: write http in the URL, or another port",
            Cause.TLS,
        ),
        (
            "OpenSSL TLS Error: [('SSL routines', '', 'tlsv13 alert certificate required')]",
            "tlsv13 alert certificate required",
            Cause.CERTIFICATE,
        ),
        (
            "connection closed without notice",
            "the server closed the connection without a response",
            Cause.CLOSED,
        ),
    ],
)
def test_an_error_that_mitmproxy_passes_on_as_text(given: str, text: str, cause: Cause) -> None:
    assert failure_of_text(given) == (text, cause)
