"""Flows as mitmproxy saves them, written without mitmproxy's objects.

This avoids making the objects and copying their state. Tests compare both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final

from mitmproxy import connection
from mitmproxy.http import Headers, HTTPFlow, Request


def netstring(value: object) -> bytes:
    """Write plain data as mitmproxy's ``tnetstring.dumps`` does. Raises ``TypeError`` for other objects."""
    kind = type(value)
    write = _WRITERS.get(kind)
    if write is None:
        raise TypeError(f"cannot write a value of type {kind.__name__}")
    return write(value)


def _text(value: str) -> bytes:
    data = value.encode()
    return b"%d:%b;" % (len(data), data)


def _number(value: float) -> bytes:
    data = repr(value).encode()
    return b"%d:%b%b" % (len(data), data, b"^" if isinstance(value, float) else b"#")


def _items(values: list[object] | tuple[object, ...]) -> bytes:
    items = b"".join(map(netstring, values))
    return b"%d:%b]" % (len(items), items)


_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    bytes: lambda value: b"%d:%b," % (len(value), value),
    str: _text,
    type(None): lambda _: b"0:~",
    bool: lambda value: b"4:true!" if value else b"5:false!",
    int: _number,
    float: _number,
    list: _items,
    tuple: _items,
    dict: lambda value: _object(_members(value)),
}


def flow_netstring(
    *,
    client: tuple[str, int],
    server: tuple[str, int] | None,
    at: float,
    request: Mapping[str, object],
    response: Mapping[str, object] | None,
    metadata: Mapping[str, object],
) -> bytes:
    """Write a flow that began at the Unix time ``at``; ``request`` and ``response`` are their states in mitmproxy."""
    flow, client_conn, server_conn = _constant()
    return _object(
        flow,
        _members({
            "id": _identity(),
            "timestamp_created": at,
            "request": dict(request),
            "response": None if response is None else dict(response),
            "metadata": dict(metadata),
        }),
        netstring("client_conn"),
        _object(client_conn, _members({"id": _identity(), "peername": client, "timestamp_start": at})),
        netstring("server_conn"),
        _object(server_conn, _members({"id": _identity(), "address": server})),
    )  # fmt: skip


@cache
def _constant() -> tuple[bytes, bytes, bytes]:
    """Return the members that are the same in all flows: of the flow, and of its connections to client and server."""
    client = connection.Client(peername=("", 0), sockname=("", 0), timestamp_start=0.0)
    flow = HTTPFlow(client, connection.Server(address=None))
    flow.request = Request("", 0, b"", b"", b"", b"", b"", Headers(), None, None, 0.0, 0.0)
    state = flow.get_state()
    client_conn, server_conn = state.pop("client_conn"), state.pop("server_conn")
    for varying in ("id", "timestamp_created", "request", "response", "metadata"):
        del state[varying]
    for varying in ("id", "peername", "timestamp_start"):
        del client_conn[varying]
    for varying in ("id", "address"):
        del server_conn[varying]
    return _members(state), _members(client_conn), _members(server_conn)


def _identity() -> str:
    """Return text that no other flow or connection has."""
    return f"{random.getrandbits(128):032x}"


_name = lru_cache(maxsize=256)(_text)
"""Writes the name of a member. Their number is fixed: the names in a capture are the gateway's and mitmproxy's."""


def _members(values: Mapping[str, object]) -> bytes:
    return b"".join([_name(name) + netstring(value) for name, value in values.items()])


def _object(*members: bytes) -> bytes:
    joined = b"".join(members)
    return b"%d:%b}" % (len(joined), joined)
