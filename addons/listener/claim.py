"""Claims the port of ``-httpListenAddr``, so that two gateways never share it by accident.

Workers share the port with SO_REUSEPORT, and so could another gateway of the same user. A socket that is bound before
them, and was not open to sharing when it was bound, keeps others away: Linux binds to a port with SO_REUSEPORT only
if all its sockets have that option, and without the option only if no other socket is in the way.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

from .server import parse_listen_address

_TOLD: Final = (errno.EADDRINUSE, errno.EACCES)
"""Errors that will not go away. The listener reports others, such as an address that is not there yet."""


def claim_port(settings: Settings) -> list[socket.socket]:
    """Bind the address, without listening. It stays claimed until the sockets are closed.

    With ``-httpListenAddr.reusePort`` other gateways with that flag, or with several workers, may have it too.

    Raises:
        ConfigurationError: another process has the port, or this one may not have it.
    """
    host, port = parse_listen_address(settings.http_listen_addr, ipv6=settings.enable_tcp6)
    claimed: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, number, _, address in dict.fromkeys(found):
            claimed.append(socket.socket(family, kind, number))
            _bind(claimed[-1], family, address, shared=settings.http_listen_addr_reuse_port)
    except OSError as error:
        if error.errno in _TOLD:
            for each in claimed:
                each.close()
            raise _refused(settings, error.errno) from None
    return claimed


def _bind(claimed: socket.socket, family: int, address: object, *, shared: bool) -> None:
    # Connections of an earlier gateway may still be in the state TIME_WAIT.
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    if family == socket.AF_INET6:
        claimed.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    claimed.bind(address)  # type: ignore[arg-type]
    # From now on no other claim succeeds, and the workers may bind.
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _refused(settings: Settings, number: int) -> ConfigurationError:
    hint = ""
    if number == errno.EADDRINUSE:
        hint = " (to replace a gateway without a lost request, see -httpListenAddr.reusePort)"
    return ConfigurationError(
        f"-httpListenAddr: cannot listen on {settings.http_listen_addr}: {os.strerror(number)}{hint}"
    )
