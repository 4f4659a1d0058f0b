"""The header of the PROXY protocol: what is read of it, and what is none."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_addons.listener.proxy_protocol import NoProxyHeader, parse, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, addresses: bytes, options: bytes = b"") -> bytes:
    length = (len(addresses) + len(options)).to_bytes(2, "big")
    return SIGNATURE + bytes([0x20 | command, family]) + length + addresses + options


V4 = ipaddress.ip_address("192.0.2.7").packed + ipaddress.ip_address("192.0.2.9").packed + b"\x01\x00\x20\xef"
V6 = ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("2001:db8::9").packed + b"\x01\x00\x20\xef"

HEADERS = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 192.0.2.9 56324 443\r\n", "192.0.2.7"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::9 56324 443\r\n", "2001:db8::7"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2 TCP4": (v2(1, 0x11, V4), "192.0.2.7"),
    "v2 TCP6": (v2(1, 0x21, V6), "2001:db8::7"),
    "v2 with options": (v2(1, 0x11, V4, b"\x04\x00\x03abc"), "192.0.2.7"),
    "v2 LOCAL": (v2(0, 0x11, V4), None),
    "v2 LOCAL without addresses": (v2(0, 0, b""), None),
    "v2 of a Unix socket": (v2(1, 0x31, b"\0" * 216), None),
}
headers = pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=list(HEADERS))


@headers
def test_accepts(header: bytes, client: str | None) -> None:
    assert parse(header + b"GET / HTTP/1.1\r\n") == (len(header), client)


@headers
def test_waits_for_the_whole_header(header: bytes, client: str | None) -> None:
    for size in range(1, len(header)):
        assert parse(header[:size]) is None, size


@each(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"proxy TCP4 192.0.2.7 192.0.2.9 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.9 1 2\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::9 1 2\r\n",
        b"PROXY TCP4 300.0.2.7 192.0.2.9 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.9 1\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        SIGNATURE + b"\x22\x11\x00\x0c" + V4,
        v2(1, 0x11, V4[:-1]),
        SIGNATURE + b"\x21\x11\xff\xff" + V4,
    ],
    ids=["HTTP", "TLS", "lower case", "bare LF", "v6 as v4", "no address", "short", "endless", "version 1", "command 2",
         "addresses cut off", "huge"],
)  # fmt: skip
def test_rejects(data: bytes) -> None:
    with pytest.raises(NoProxyHeader):
        parse(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_none(data: bytes) -> None:
    try:
        found = parse(data)
    except NoProxyHeader:
        return
    assert found is None or 0 < found[0] <= len(data)


@headers
def test_not_a_byte_more_than_the_header_is_taken(header: bytes, client: str | None) -> None:
    async def read() -> None:
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            reading = asyncio.get_running_loop().create_task(read_header(here, 5))
            for byte in header[:-1]:
                there.send(bytes([byte]))
                await asyncio.sleep(0)
            there.send(header[-1:] + b"GET")
            assert await reading == client
            assert here.recv(10) == b"GET"

    asyncio.run(read())
