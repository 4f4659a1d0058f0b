"""headers: what follows from headers alone, and the bounds of what is remembered of it."""

from __future__ import annotations

import tracemalloc

from vmgw_core.enforcement.upstream_headers import _forward
from vmgw_core.http.headers import _facts, facts_of
from vmgw_core.tokens import TokenSource


def test_the_same_headers_are_read_once() -> None:
    headers = ((b"Content-Length", b"7"), (b"Expect", b"100-Continue"))
    facts = facts_of(headers)
    assert facts_of((*headers,)) is facts
    assert (facts.content_length, facts.bad_length, facts.has_body) == (7, False, True)
    assert (facts.chunked, facts.awaits_continue, facts.form_type) == (False, True, None)


def test_form_type() -> None:
    form = (b"Content-Type", b"Application/X-WWW-Form-URLEncoded; charset=utf-8")
    assert facts_of((form,)).form_type == "Application/X-WWW-Form-URLEncoded; charset=utf-8"
    assert facts_of((form, (b"Content-Encoding", b"Identity"))).form_type is not None
    assert facts_of((form, (b"content-encoding", b"gzip"))).form_type is None
    assert facts_of((form, form)).form_type is None
    assert facts_of(((b"Content-Type", b"text/plain"),)).form_type is None


def test_large_heads_are_not_remembered() -> None:
    _facts.clear()
    facts_of(((b"A", b"x" * 10_000),))
    assert len(_facts) == 0
    facts_of(((b"A", b"x" * 1000),))
    assert len(_facts) == 1


def test_many_heads_take_bounded_memory() -> None:
    """What is computed from headers takes as much memory as they do here, the most that it may."""
    source, key = TokenSource(), ("192.0.2.1", (b"authorization",), "vm:8428", False, True)
    _facts.clear()
    tracemalloc.start()
    try:
        for number in range(10_000):
            hops = (b"X-Forwarded-For", b"%06d, " % number * 100)
            headers = ((b"Authorization", b"Bearer %06d" % number * 100), hops, (b"B", b"b"))
            facts = facts_of(headers)
            facts.forwarded = (key, _forward(headers, *key))
            facts.token = (source, source.find(headers))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        _facts.clear()
    assert _facts.max_bytes / 2 < used < _facts.max_bytes
