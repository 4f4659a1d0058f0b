"""TLS to backends (``-read.tls*`` and ``-write.tls*``): a context for each backend and lane."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL

from vmgw_core.backends import Backend
from vmgw_core.configuration import ClientTLS, Settings
from vmgw_core.errors import ConfigurationError

from .tls_files import TLSFiles


@dataclass(frozen=True, slots=True)
class UpstreamTLS:
    """TLS to one backend: the contexts, and the name that its certificate must have."""

    context: SSL.Context
    """pyOpenSSL's, for mitmproxy."""
    fast: ssl.SSLContext
    """The same for asyncio."""
    server_name: str

    def connect(self) -> SSL.Connection:
        """Make a connection before its handshake.

        The certificate must be for ``server_name`` (RFC 9110, section 4.3.4); an IP address is not sent as SNI
        (RFC 6066, section 3).
        """
        connection = SSL.Connection(self.context)
        library: Any = vars(SSL)["_lib"]  # pyOpenSSL has no call for checking a name
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


def contexts(settings: Settings) -> dict[tuple[str, int], UpstreamTLS]:
    """Return the TLS contexts of the https backends, by their address.

    Raises:
        ConfigurationError: a file cannot be used, or an address has two settings (connections are shared by address).
    """
    result: dict[tuple[str, int], UpstreamTLS] = {}
    tls_of: dict[tuple[str, int], ClientTLS] = {}
    for urls, tls in (
        (settings.read_url, settings.client_tls("read")),
        (settings.write_url, settings.client_tls("write")),
    ):
        for backend in (Backend.parse(url, f"{tls.side}.url") for url in urls):
            if backend.scheme != "https":
                continue
            if tls_of.setdefault(backend.address, tls) != tls:
                raise ConfigurationError("-read.tls* and -write.tls* differ, but both URLs lead to the same address")
            result[backend.address] = _context(tls, backend)
    return result


def _context(tls: ClientTLS, backend: Backend) -> UpstreamTLS:
    fast = TLSFiles(tls).context()  # its error names the file that cannot be used
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE if tls.insecure_skip_verify else SSL.VERIFY_PEER)
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
        else:
            context.set_default_verify_paths()
        if tls.cert_file:
            context.use_certificate_chain_file(tls.cert_file)
            context.use_privatekey_file(tls.key_file)
            context.check_privatekey()
    except SSL.Error:
        raise ConfigurationError(f"-{tls.side}.tls*: a file cannot be used") from None
    return UpstreamTLS(context, fast, tls.server_name or backend.host)
