"""Takes over from mitmproxy's own listener, so that nobody ever connects to it.

mitmproxy 12 begins to listen before it loads a script, on the address that its options name. If that is an IP address,
it listens already when the script is loaded, and clients may have connected: their connections wait in the socket, and
the gateway keeps it. Else mitmproxy is still looking the address up, and that is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.proxy.mode_specs import ProxyMode

from vmgw_addons._mitmproxy import cancel_setup_of_servers, mode_servers_logger, proxyserver


def take_over() -> list[socket.socket]:
    """Stop mitmproxy's listener, or its start. Return the sockets that listen already; nothing is accepted from them.

    ``release`` must be called once the gateway listens.
    """
    found = [] if not ctx.options.server else [sock for mode in ctx.options.mode for sock in _listening(mode)]
    ctx.options.update(server=False)
    mode_servers_logger.addFilter(_silent)
    if not found:
        cancel_setup_of_servers()
    for instance in proxyserver().servers:
        instance.mode.transport_protocol = "tcp"  # mitmproxy would open UDP next, for HTTP/3
    return found


async def release() -> None:
    """Let mitmproxy forget its listeners."""
    await proxyserver().servers.update([])
    mode_servers_logger.removeFilter(_silent)


def _silent(_: object) -> bool:
    """Drop what mitmproxy logs of its listener: the gateway logs its own."""
    return False


def _listening(mode: str) -> list[socket.socket]:
    """Return the sockets of this process that listen on the address of ``mode``, without mitmproxy accepting."""
    parsed = ProxyMode.parse(mode)
    address = parsed.listen_host(ctx.options.listen_host), parsed.listen_port(ctx.options.listen_port)
    found = []
    for descriptor in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
        except OSError:  # the folder itself, which is closed by now
            continue
        sock = socket.socket(fileno=os.dup(descriptor))
        if _listens(sock) and sock.getsockname()[:2] == address:
            asyncio.get_running_loop().remove_reader(descriptor)
            sock.setblocking(False)
            found.append(sock)
        else:
            sock.close()
    return found


def _listens(sock: socket.socket) -> bool:
    internet = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    return internet and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
