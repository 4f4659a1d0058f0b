"""How a connection to a backend is opened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from vmgw_addons.outgoing import failure_of
from vmgw_addons.state import InForce
from vmgw_core.backends import Backend
from vmgw_core.errors import BackendTimeout, BackendUnreachable

from .connection import BackendConnection

_WRITE_BUFFER: Final = 256 * 1024
_OF_NAME: Final = ", certificate is not valid for"  # and the name, which clients need not know

Dial = Callable[[InForce, Backend, Callable[[], BackendConnection]], Awaitable[BackendConnection]]


async def dial(in_force: InForce, backend: Backend, make: Callable[[], BackendConnection]) -> BackendConnection:
    """Open a connection, TLS included, for the protocol that ``make`` returns.

    Raises:
        BackendTimeout: it took longer than ``-backend.connectTimeout``.
        BackendUnreachable: it was refused, or the certificate is not good. The message has the reason.
    """
    settings, tls = in_force.configured.settings, in_force.configured.upstream_tls.get(backend.address)
    try:
        async with asyncio.timeout(settings.backend_connect_timeout):
            _, connection = await asyncio.get_running_loop().create_connection(
                make,
                *backend.address,
                ssl=None if tls is None else tls.fast,
                server_hostname=None if tls is None else tls.server_name,
                family=socket.AF_UNSPEC if settings.enable_tcp6 else socket.AF_INET,
            )
    except TimeoutError:
        raise BackendTimeout(f"-{backend.flag}: connecting to the backend took too long") from None
    except OSError as error:  # a failed handshake is one too
        text, cause = failure_of(error)
        text = text.partition(_OF_NAME)[0]
        raise BackendUnreachable(f"-{backend.flag}: the backend cannot be reached: {text}", cause) from None
    assert connection.transport is not None
    connection.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
    return connection
