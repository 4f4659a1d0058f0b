"""A gateway that listens with TLS."""

from __future__ import annotations

import socket
import ssl

import pytest
from mitmproxy import version

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway

needs_http2 = pytest.mark.skipif(int(version.VERSION.split(".")[0]) < 12, reason="HTTP/2 needs mitmproxy 12")


class TLSGateway(Gateway):
    """A gateway whose /health is behind TLS: it is ready once it accepts connections."""

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.cert))
