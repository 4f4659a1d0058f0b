"""The headers ``traceparent`` and ``tracestate`` (W3C Trace Context): read from clients, and written for backends."""

from __future__ import annotations

import re
from typing import Final

from vmgw_core.base import Value

from .headers import Headers, values_of

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The flag of level 2: the ID of the trace is random."""

# A version after 00 may add fields, after another dash. Version ff is invalid.
_PARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NAMES: Final = frozenset((b"traceparent", b"tracestate"))


class TraceContext(Value):
    """One span of a trace. Both IDs are above 0."""

    __slots__ = ("flags", "sampled", "span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int, flags: int) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.sampled = bool(flags & SAMPLED)

    def fields(self) -> tuple[int, int, int]:
        return self.trace_id, self.span_id, self.flags

    @classmethod
    def of(cls, headers: Headers) -> TraceContext | None:
        """Return the span that a request comes from; None without a valid ``traceparent``, or with several."""
        values = values_of(headers, b"traceparent")
        if len(values) != 1:
            return None
        match = _PARENT.fullmatch(values[0])
        if match is None or (match[1] == b"00" and match[5] is not None):
            return None
        trace_id, span_id = int(match[2], 16), int(match[3], 16)
        if not trace_id or not span_id:
            return None
        return cls(trace_id, span_id, int(match[4], 16) & (SAMPLED | RANDOM))

    def header(self) -> bytes:
        """Return the value of ``traceparent``."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, self.flags)


def with_trace(headers: Headers, context: TraceContext, *, state: bool) -> Headers:
    """Return ``headers`` with ``context`` in place of what they say of a trace. ``state``: keep ``tracestate``."""
    dropped = _NAMES - {b"tracestate"} if state else _NAMES
    kept = [field for field in headers if field[0].lower() not in dropped]
    return (*kept, (b"traceparent", context.header()))
