"""The PROXY protocol, in which a load balancer sends the client's address.

https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, versions 1 and 2. The header comes before TLS, so exactly
its bytes are read from the socket before asyncio gets it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import Final

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_V1: Final = 107
_MAX_V2: Final = 16 + 2048  # the addresses, and ample options
_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN[^\r\n]*|TCP([46]) ([0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ [0-9]{1,5} [0-9]{1,5})\r\n"
)


class NoProxyHeader(ValueError):
    """The connection does not begin with a valid header."""


def parse(data: bytes) -> tuple[int, str | None] | None:
    """Parse the header at the beginning of ``data``. Raises ``NoProxyHeader`` if it is not valid.

    Returns:
        The length of the header and the client's address, which is None in a health check; None if more bytes are
        needed.
    """
    if data.startswith(_SIGNATURE):
        return _parse_v2(data)
    if _SIGNATURE.startswith(data):
        return None
    if not b"PROXY ".startswith(data[:6]):
        raise NoProxyHeader
    match = _V1.match(data)
    if match is None:
        if b"\n" in data or len(data) >= _MAX_V1:
            raise NoProxyHeader
        return None
    return match.end(), None if match[2] is None else _address(match[2].decode(), int(match[1]))


def _parse_v2(data: bytes) -> tuple[int, str | None] | None:
    if len(data) < 16:
        return None
    version, command = data[12] >> 4, data[12] & 15
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > _MAX_V2:
        raise NoProxyHeader
    if len(data) < length:
        return None
    size = {0x11: 4, 0x21: 16}.get(data[13], 0) if command else 0  # command LOCAL: a health check
    if not size:
        return length, None
    if length < 16 + 2 * size + 4:
        raise NoProxyHeader
    return length, str(ipaddress.ip_address(data[16 : 16 + size]))


def _address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise NoProxyHeader from None
    if address.version != version:
        raise NoProxyHeader
    return str(address)


async def read_header(connection: socket.socket, seconds: float) -> str | None:
    """Read the header from a new non-blocking connection. Returns the client's address.

    Raises:
        NoProxyHeader: it is not valid, or takes longer than ``seconds``.
        OSError: the connection broke.
    """
    try:
        async with asyncio.timeout(seconds):
            seen = 0
            while True:
                data = await _peek(connection, seen)
                found = parse(data)
                if found is not None:
                    connection.recv(found[0])
                    return found[1]
                seen = len(data)
    except TimeoutError:
        raise NoProxyHeader from None


async def _peek(connection: socket.socket, seen: int) -> bytes:
    """Wait for more than ``seen`` bytes, and return them without taking them off the socket."""
    loop = asyncio.get_running_loop()
    while True:
        readable = asyncio.Event()
        loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(connection)
        data = connection.recv(_MAX_V2, socket.MSG_PEEK)
        if not data:
            raise NoProxyHeader
        if len(data) > seen:
            return data
        await asyncio.sleep(0.01)  # the socket stays readable because of the bytes seen, so poll for more
