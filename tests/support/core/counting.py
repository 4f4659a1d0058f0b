"""Counting the rows of a body, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.core.bodies import Headers
from vmgw_core.http.head import RequestHead
from vmgw_core.routing.routes import match_route
from vmgw_core.rows.counter import RowCounter
from vmgw_core.rows.dispatch import row_counter

MIB = 1 << 20


def counter_of(target: str, headers: Headers = (), *, max_decoded: int = 64 * MIB, check: bool = False) -> RowCounter:
    """The counter of a request's body; the route must have one."""
    route = match_route(target.partition("?")[0], "POST", cluster=True).route
    head = RequestHead(method="POST", target=target, headers=headers, client="127.0.0.1")
    counter = row_counter(route, head, max_decoded=max_decoded, check=check)
    assert counter is not None
    return counter


def count(
    target: str,
    pieces: bytes | Iterable[bytes],
    headers: Headers = (),
    *,
    max_decoded: int = 64 * MIB,
    check: bool = False,
) -> int:
    """The rows of a whole body."""
    counter = counter_of(target, headers, max_decoded=max_decoded, check=check)
    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
        counter.feed(piece)
    counter.finish()
    return counter.rows


def encoded_with(name: str) -> Headers:
    return ((b"Content-Encoding", name.encode()),)
