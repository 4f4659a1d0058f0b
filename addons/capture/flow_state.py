"""Flows as mitmproxy saves them, written without mitmproxy's objects.

Making the objects, copying their state and writing it takes five times as long. Tests compare both.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from uuid import uuid4

from mitmproxy import connection
from mitmproxy.http import Headers, HTTPFlow, Request


def netstring(value: object) -> bytes:
    """Write plain data as mitmproxy's ``tnetstring.dumps`` does. Raises ``TypeError`` for other objects."""
    if isinstance(value, bytes):
        return b"%d:%b," % (len(value), value)
    if isinstance(value, str):
        text = value.encode()
        return b"%d:%b;" % (len(text), text)
    if value is None:
        return b"0:~"
    if isinstance(value, bool):
        return b"4:true!" if value else b"5:false!"
    if isinstance(value, int | float):
        number = repr(value).encode()
        return b"%d:%b%b" % (len(number), number, b"#" if isinstance(value, int) else b"^")
    if isinstance(value, list | tuple):
        items = b"".join(map(netstring, value))
        return b"%d:%b]" % (len(items), items)
    if isinstance(value, dict):
        return _object(_members(value))
    raise TypeError(f"cannot write a value of type {type(value).__name__}")


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
            "id": str(uuid4()),
            "timestamp_created": at,
            "request": dict(request),
            "response": None if response is None else dict(response),
            "metadata": dict(metadata),
        }),
        netstring("client_conn"),
        _object(client_conn, _members({"id": str(uuid4()), "peername": client, "timestamp_start": at})),
        netstring("server_conn"),
        _object(server_conn, _members({"id": str(uuid4()), "address": server})),
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


def _members(values: Mapping[str, object]) -> bytes:
    return b"".join(netstring(part) for pair in values.items() for part in pair)


def _object(*members: bytes) -> bytes:
    joined = b"".join(members)
    return b"%d:%b}" % (len(joined), joined)
