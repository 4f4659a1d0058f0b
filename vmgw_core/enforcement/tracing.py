"""Traces: which requests are sampled, and the steps of those that are (``-traces.endpoint``).

A :class:`TracedCycle` is a ``Cycle`` that notes its steps, and names its own span to the backend. Without traces the
carriers use ``Cycle``, which knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vmgw_core.errors import BackendFailure, Cause, Refusal
from vmgw_core.http import RANDOM, SAMPLED, RequestHead, TraceContext, with_trace

from .cycle import Cycle, Gateway, State
from .rewriting import UpstreamRequest

BACKEND: Final = "vmgateway.backend"
"""The attribute with the address of a backend, without credentials."""
REASON: Final = "vmgateway.reason"
"""The attribute with the code of a refusal or the cause of a failure."""

_HALF: Final = 64
_LOW: Final = (1 << _HALF) - 1
_WHOLE: Final = (1 << 2 * _HALF) - 1
_NONE: Final[Mapping[str, str]] = {}


class Trace:
    """The span of one request."""

    __slots__ = ("context", "parent", "steps")

    def __init__(self, context: TraceContext, parent: TraceContext | None) -> None:
        self.context = context
        self.parent = parent
        self.steps: list[tuple[str, float, Mapping[str, str]]] = []
        """The name, the time and the attributes of each step, if the span is sampled."""


class Tracer:
    """Decides which requests are sampled.

    Args:
        ratio: the share of traces that begin here and are sampled.
        most: how many requests a second are sampled because their client asks for it.
        clock: the clock of ``Cycle.started``, in seconds.
        bits: returns an integer of that many random bits.
    """

    def __init__(self, ratio: float, most: int, clock: Callable[[], float], bits: Callable[[int], int]) -> None:
        self.clock = clock
        self.limited = 0
        """Requests that were not sampled because of ``most``."""
        self._bound = round(ratio * (1 << _HALF))
        self._most = most
        self._bits = bits
        self._second = 0.0
        self._taken = 0

    def begin(self, head: RequestHead) -> Trace:
        """Begin the span of a request. Its parent, if it has one, decides whether it is sampled."""
        parent = TraceContext.of(head.headers)
        bits = self._bits(3 * _HALF)
        span_id = bits >> 2 * _HALF or 1
        if parent is None:
            trace_id = bits & _WHOLE or 1
            flags, sampled = RANDOM, (trace_id & _LOW) < self._bound  # as OpenTelemetry's TraceIdRatioBased
        else:
            trace_id, flags = parent.trace_id, parent.flags & ~SAMPLED
            sampled = parent.sampled and self._has_room()
        return Trace(TraceContext(trace_id, span_id, flags | SAMPLED if sampled else flags), parent)

    def _has_room(self) -> bool:
        """Whether one more request may be sampled in this second because its client asks for it."""
        second = self.clock() // 1
        if second != self._second:
            self._second, self._taken = second, 0
        if self._taken >= self._most:
            self.limited += 1
            return False
        self._taken += 1
        return True


class TracedCycle(Cycle):
    """A request that has a span from ``authorize`` on. Pages of the gateway itself have none."""

    __slots__ = ("trace", "tracer")

    def __init__(self, head: RequestHead, *, at: float, started: float, tracer: Tracer) -> None:
        super().__init__(head, at=at, started=started)
        self.tracer = tracer
        self.trace: Trace | None = None

    @property
    def sampled(self) -> Trace | None:
        """The span, if it is sampled."""
        return self.trace if self.trace is not None and self.trace.context.sampled else None

    def note(self, step: str, attributes: Mapping[str, str] = _NONE) -> None:
        """Note a step, if the request is sampled."""
        trace = self.sampled
        if trace is not None:
            trace.steps.append((step, self.tracer.clock(), attributes))

    # --- the head --------------------------------------------------------------------------------------------------

    def authorize(self, gateway: Gateway | None, waiter: Callable[[], None] | None = None) -> bool:
        self.trace = self.tracer.begin(self.head)
        authorized = super().authorize(gateway, waiter)
        self.note("authorized" if authorized else "checking")
        return authorized

    def recheck(self, gateway: Gateway | None, now: float, *, last: bool = False) -> bool:
        authorized = super().recheck(gateway, now, last=last)
        if authorized:
            self.note("authorized")
        return authorized

    def queue(self, waiter: Callable[[], None]) -> None:
        super().queue(waiter)
        self.note("queued")

    def count(self, now: float, waiter: Callable[[], None] | None = None) -> bool:
        counted = super().count(now, waiter)
        self.note("counted" if counted else "counting")
        return counted

    def counted(self) -> None:
        super().counted()
        self.note("counted")

    def prepare(self) -> None:
        super().prepare()
        self._note_ready()

    # --- the body --------------------------------------------------------------------------------------------------

    def form(self, form: bytes) -> None:
        super().form(form)
        self._note_ready()

    def _metered(self, state: State, passed: bytes) -> bytes:
        passed = super()._metered(state, passed)
        if state is State.METERED:
            self._note_ready()
        return passed

    def _note_ready(self) -> None:
        if self.state is State.READY:
            self.note("ready")

    # --- the backend -----------------------------------------------------------------------------------------------

    def _rewrite(self, form: bytes | None) -> None:
        super()._rewrite(form)
        assert self.upstream is not None
        self.upstream = self.traced(self.upstream)

    def names_request(self, now: float) -> UpstreamRequest | None:
        request = super().names_request(now)
        return None if request is None else self.traced(request)

    def traced(self, request: UpstreamRequest) -> UpstreamRequest:
        trace = self.trace
        assert trace is not None
        forwarded = with_trace(request.forwarded, trace.context, state=trace.parent is not None)
        return UpstreamRequest(request.backend, request.method, request.target, forwarded, request.body)

    def ask(self, now: float) -> None:
        super().ask(now)
        assert self.member is not None
        if self.sampled is not None:
            self.note("asked", {BACKEND: str(self.member.backend)})

    def unreachable(self, failure: BackendFailure) -> None:
        super().unreachable(failure)
        self.note("failed over", {REASON: failure.cause})

    def lost(self, reason: str, cause: Cause = Cause.CLOSED, *, stale: bool = False) -> bool:
        fresh = super().lost(reason, cause, stale=stale)
        self.note("retried", {REASON: cause})
        return fresh

    def responded(self, now: float) -> None:
        super().responded(now)
        self.note("responded")

    # --- the end ---------------------------------------------------------------------------------------------------

    def refuse(self, refusal: Refusal) -> None:
        super().refuse(refusal)
        self.note("refused", {REASON: refusal.code})
