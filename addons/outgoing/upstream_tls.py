"""Upstream TLS: the contexts for each backend, one for each lane, from ``-read.tls*`` and ``-write.tls*``."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL

from vmgw_core.backends import Backend
from vmgw_core.errors import ConfigurationError

from .tls_files import TLSFiles


@dataclass(frozen=True, slots=True)
class UpstreamTLS:
    """How to speak TLS to one backend: the contexts, and the name its certificate must have.

    ``context`` is pyOpenSSL's, which mitmproxy uses; ``fast`` is the same for asyncio.
    """

    context: SSL.Context
    fast: ssl.SSLContext
    server_name: str

    def connect(self) -> SSL.Connection:
        """A connection that has yet to shake hands.

        The certificate must be for ``server_name`` (RFC 9110, section 4.3.4); an IP address is not sent as SNI
        (RFC 6066, section 3).
        """
        connection = SSL.Connection(self.context)
        library: Any = vars(SSL)["_lib"]  # pyOpenSSL has no call of its own for checking a name
        parameters = library.SSL_get0_param(vars(connection)["_ssl"])
        try:
            address = ipaddress.ip_address(self.server_name).packed
        except ValueError:
            name = self.server_name.encode("idna")
            connection.set_tlsext_host_name(name)
            checked = library.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
        else:
            checked = library.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))
        if checked != 1:
            raise ValueError("OpenSSL does not accept the name to check")
        connection.set_connect_state()
        return connection


_SETTINGS = ("tlsCAFile", "tlsCertFile", "tlsKeyFile", "tlsServerName", "tlsInsecureSkipVerify")


def contexts(settings: Mapping[str, object]) -> dict[tuple[str, int], UpstreamTLS]:
    """The TLS settings of the https backends, by their address.

    Raises:
        ConfigurationError: a CA, certificate or key file cannot be used, or one address is to be spoken to in two
            ways (connections are shared by address).
    """
    result: dict[tuple[str, int], UpstreamTLS] = {}
    differ = any(settings[f"read.{name}"] != settings[f"write.{name}"] for name in _SETTINGS)
    side_of: dict[tuple[str, int], str] = {}
    for side in ("read", "write"):
        flag = f"{side}.url"
        urls = settings[flag]
        assert isinstance(urls, tuple)
        for backend in (Backend.parse(url, flag) for url in urls):
            if backend.scheme != "https":
                continue
            if differ and side_of.setdefault(backend.address, side) != side:
                raise ConfigurationError("-read.tls* and -write.tls* differ, but both URLs lead to the same address")
            result[backend.address] = _context(settings, side, backend)
    return result


def _context(settings: Mapping[str, object], side: str, backend: Backend) -> UpstreamTLS:
    files = TLSFiles.of(settings, side)
    fast = files.context()  # which says of each file whether it can be used
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER if files.verify else SSL.VERIFY_NONE)
    try:
        if files.authorities:
            context.load_verify_locations(files.authorities)
        else:
            context.set_default_verify_paths()
        if files.certificate:
            context.use_certificate_chain_file(files.certificate)
            context.use_privatekey_file(files.key)
            context.check_privatekey()
    except SSL.Error:
        raise ConfigurationError(f"-{side}.tls*: a file cannot be used") from None
    return UpstreamTLS(context, fast, files.server_name or backend.host)
