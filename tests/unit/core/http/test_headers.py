"""headers: what follows from headers alone, and the bounds of what is remembered of it."""

from __future__ import annotations

import tracemalloc

from vmgw_core.base import BoundedCache
from vmgw_core.http.headers import Headers, facts_of, header_cache


def test_the_same_headers_are_read_once() -> None:
    headers = ((b"Content-Length", b"7"), (b"Expect", b"100-Continue"))
    assert facts_of(headers) is facts_of(tuple(headers))
    assert facts_of(headers) == (7, False, False, True, None)


def test_form_type() -> None:
    form = (b"Content-Type", b"Application/X-WWW-Form-URLEncoded; charset=utf-8")
    assert facts_of((form,)).form_type == "Application/X-WWW-Form-URLEncoded; charset=utf-8"
    assert facts_of((form, (b"Content-Encoding", b"Identity"))).form_type is not None
    assert facts_of((form, (b"content-encoding", b"gzip"))).form_type is None
    assert facts_of((form, form)).form_type is None
    assert facts_of(((b"Content-Type", b"text/plain"),)).form_type is None


def test_large_heads_are_not_remembered() -> None:
    cache: BoundedCache[Headers, int] = header_cache(lambda headers: headers)
    cache.put(((b"A", b"x" * 10_000),), 1)
    assert len(cache) == 0
    cache.put(((b"A", b"x" * 1000),), 1)
    assert len(cache) == 1


def test_many_heads_take_bounded_memory() -> None:
    """Values take as much memory as keys here, the most that they may."""
    cache: BoundedCache[Headers, Headers] = header_cache(lambda headers: headers)
    tracemalloc.start()
    try:
        for number in range(5000):
            cache.put(((b"A", b"%06d" % number * 100), (b"B", b"b")), ((b"A", b"%06d" % -number * 100), (b"B", b"c")))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1 << 19 < used < 1 << 20
