"""trace_context: valid and invalid headers by W3C Trace Context, levels 1 and 2, and what a backend gets."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.http import RANDOM, SAMPLED, Headers, TraceContext, with_trace

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN: Final = "00f067aa0ba902b7"


def read(*values: str) -> TraceContext | None:
    return TraceContext.of(tuple((b"TraceParent", value.encode()) for value in values))


@each(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", SAMPLED),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", SAMPLED | RANDOM),
        (f"00-{TRACE}-{SPAN}-fe", RANDOM),  # unknown flags are not passed on
        (f" 00-{TRACE}-{SPAN}-01\t", SAMPLED),
        (f"01-{TRACE}-{SPAN}-01", SAMPLED),  # a later version is read as far as it is known
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", SAMPLED),
    ],
)
def test_reads(value: str, flags: int) -> None:
    found = read(value)
    assert found == TraceContext(int(TRACE, 16), int(SPAN, 16), flags)
    assert found.sampled == bool(flags & SAMPLED)


@each(
    "values",
    [
        (),
        ("",),
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"ff-{TRACE}-{SPAN}-01",),
        (f"00-{TRACE}-{SPAN}-01-",),
        (f"00-{TRACE}-{SPAN}-01-more",),
        (f"cc-{TRACE}-{SPAN}-01more",),
        (f"00-{TRACE.upper()}-{SPAN}-01",),
        (f"00-{'0' * 32}-{SPAN}-01",),
        (f"00-{TRACE}-{'0' * 16}-01",),
        (f"00-{TRACE[1:]}-{SPAN}-01",),
        (f"00-{TRACE}-{SPAN}-1",),
        (f"00-{TRACE}-{SPAN}",),
        (f"0-{TRACE}-{SPAN}-01",),
        (f"00_{TRACE}_{SPAN}_01",),
        (f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",),
    ],
)
def test_ignores(values: tuple[str, ...]) -> None:
    assert read(*values) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_a_context_or_none(value: bytes) -> None:
    found = TraceContext.of(((b"traceparent", value),))
    assert found is None or TraceContext.of(((b"traceparent", found.header()),)) == found


def test_a_backend_gets_the_gateways_own_span() -> None:
    context = TraceContext(1, 2, SAMPLED | RANDOM)
    own = (b"traceparent", b"00-00000000000000000000000000000001-0000000000000002-03")
    headers: Headers = ((b"Host", b"vm"), (b"TRACEPARENT", b"x"), (b"Tracestate", b"a=1"), (b"tracestate", b"b=2"))
    host, _, first, second = headers
    assert with_trace(headers, context, state=True) == (host, first, second, own)
    assert with_trace(headers, context, state=False) == (host, own)
