"""tracing: which requests are sampled, the steps of each way a request can go, and the header that a backend gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.core import keys
from tests.support.core.limiters import limit
from tests.support.each import each
from tests.unit.core.enforcement import test_cycle as plain
from tests.unit.core.enforcement.test_cycle import FIRST, SECOND, Accounts, gateway, metering, sharing
from vmgw_core.backends.concurrency import Concurrency
from vmgw_core.enforcement.cycle import Cycle, State
from vmgw_core.enforcement.tracing import TracedCycle, Tracer
from vmgw_core.errors import BackendUnreachable, Cause, RateLimited, Refusal, TokenRefused, TooManyAtOnce
from vmgw_core.http import RANDOM, SAMPLED, RequestHead
from vmgw_core.limits.limiter import Limiter

TRACE: Final = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PARENT: Final = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
UNSAMPLED: Final = (b"traceparent", PARENT[1][:-1] + b"0")
STATE: Final = (b"Tracestate", b"vendor=1")


JUNK: Final = "junk"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def counting_bits() -> Iterator[int]:
    """The span's ID counts from 2 on, the trace's from 1 on."""
    for number in range(1, 1000):
        yield (number + 1 << 128) + number


def tracer(ratio: float = 1.0, most: int = 100, clock: Clock | None = None, bits: int | None = None) -> Tracer:
    numbers = counting_bits()
    return Tracer(ratio, most, clock or Clock(), lambda _: next(numbers) if bits is None else bits)


def traced(made: Cycle, by: Tracer | None = None, *headers: tuple[bytes, bytes]) -> TracedCycle:
    head = made.head
    more = RequestHead(method=head.method, target=head.target, headers=(*head.headers, *headers), client=head.client)
    return TracedCycle(more, at=made.at, started=made.started, tracer=by or tracer())


def steps(cycle: TracedCycle) -> list[str]:
    assert cycle.trace is not None
    return [name for name, _, _ in cycle.trace.steps]


def refused(cycle: TracedCycle, refusal: Refusal) -> None:
    cycle.refuse(refusal)
    cycle.end()
    assert cycle.trace is not None
    assert [dict(details) for name, _, details in cycle.trace.steps if name == "refused"] == [
        {"vmgateway.reason": refusal.code}
    ]


# --- sampling ------------------------------------------------------------------------------------------------------


@each(
    ("ratio", "bits", "sampled"),
    [
        (0.0, 0, False),  # an ID of 0 is made 1
        (1.0, (1 << 128) - 1, True),
        (0.5, (1 << 63) - 1, True),
        (0.5, 1 << 63, False),
        (0.5, 1 << 64, True),  # only the low half counts, as in OpenTelemetry's sampler
        (0.01, 1, True),
    ],
)
def test_the_ratio_decides_without_a_parent(ratio: float, bits: int, sampled: bool) -> None:
    trace = tracer(ratio, bits=bits).begin(plain.cycle().head)
    assert trace.parent is None
    assert trace.context.sampled is sampled
    assert trace.context.flags & RANDOM
    assert trace.context.trace_id == (bits or 1)
    assert trace.context.span_id == 1, "0 is no ID"


@each(("header", "sampled"), [(PARENT, True), (UNSAMPLED, False)])
def test_the_parent_decides(header: tuple[bytes, bytes], sampled: bool) -> None:
    for ratio in (0.0, 1.0):
        trace = tracer(ratio).begin(plain.cycle("GET", "/", header).head)
        assert trace.parent is not None
        assert (trace.context.trace_id, trace.context.span_id) == (TRACE, 2)
        assert trace.context.flags == (SAMPLED if sampled else 0)
        assert trace.parent.span_id == 0x00F067AA0BA902B7


def test_clients_cannot_ask_for_more_than_the_bound() -> None:
    clock = Clock()
    by = tracer(0.0, most=2, clock=clock)
    head = plain.cycle("GET", "/", PARENT).head
    clock.now = 10.0
    assert [by.begin(head).context.sampled for _ in range(4)] == [True, True, False, False]
    clock.now = 10.9
    assert by.begin(head).context.flags == 0, "the backend is told so"
    assert by.limited == 3
    clock.now = 11.0
    assert [by.begin(head).context.sampled for _ in range(3)] == [True, True, False]
    assert by.limited == 4
    assert tracer(1.0, most=0).begin(head).context.sampled is False


def test_the_bound_does_not_hold_for_the_ratio() -> None:
    by = tracer(1.0, most=0)
    assert by.begin(plain.cycle().head).context.sampled
    assert by.limited == 0


# --- what a backend gets -------------------------------------------------------------------------------------------


def sent(cycle: TracedCycle) -> list[tuple[bytes, bytes]]:
    assert cycle.upstream is not None
    return [field for field in cycle.upstream.headers if field[0].lower().startswith(b"trace")]


@each(
    ("headers", "ratio", "expected"),
    [
        ((), 1.0, [b"00-%032x-%016x-03" % (1, 2)]),
        ((), 0.0, [b"00-%032x-%016x-02" % (1, 2)]),
        ((STATE,), 1.0, [b"00-%032x-%016x-03" % (1, 2)]),
        (((b"traceparent", b"junk"), STATE), 1.0, [b"00-%032x-%016x-03" % (1, 2)]),
        ((PARENT, STATE), 0.0, [STATE[1], b"00-%032x-%016x-01" % (TRACE, 2)]),
        ((UNSAMPLED, STATE), 1.0, [STATE[1], b"00-%032x-%016x-00" % (TRACE, 2)]),
    ],
)
def test_the_backend_gets_the_span_of_the_gateway(
    headers: tuple[tuple[bytes, bytes], ...], ratio: float, expected: list[bytes]
) -> None:
    cycle = traced(plain.cycle(), tracer(ratio), *headers)
    plain.admit(cycle, gateway(FIRST, SECOND))
    assert [value for _, value in sent(cycle)] == expected
    assert cycle.upstream is not None
    assert cycle.upstream.headers[0][0] == b"Host"
    before = sent(cycle)
    cycle.ask(1.0)
    cycle.unreachable(BackendUnreachable("gone"))
    assert sent(cycle) == before, "so does another backend"


def test_without_traces_the_headers_of_the_client_pass() -> None:
    cycle = plain.admit(plain.cycle("GET", "/api/v1/query?query=up", PARENT, STATE), gateway())
    assert cycle.upstream is not None
    assert {PARENT, STATE} <= set(cycle.upstream.headers)


def test_the_gateways_own_request_for_names_has_the_span_too() -> None:
    cycle = traced(plain.cycle("GET", "/api/v1/metadata", token=TEAM), None, PARENT)
    plain.admit(cycle, gateway())
    request = cycle.names_request(1.0)
    assert request is not None
    assert [value for name, value in request.headers if name == b"traceparent"] == [b"00-%032x-%016x-01" % (TRACE, 2)]


TEAM: Final = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"tenant_id": {}, "extra_labels": {"team": "dev"}}))


def test_a_plain_answer_needs_no_names() -> None:
    cycle = traced(plain.cycle())
    plain.admit(cycle, gateway())
    assert cycle.names_request(1.0) is None


# --- steps ---------------------------------------------------------------------------------------------------------


def test_a_read() -> None:
    clock = Clock()
    cycle = traced(plain.cycle(), tracer(clock=clock))
    clock.now = 5.0
    plain.asked(cycle, gateway())
    clock.now = 6.0
    cycle.responded(6.0)
    cycle.end()
    assert steps(cycle) == ["authorized", "counted", "ready", "asked", "responded"]
    assert cycle.trace is not None
    assert [moment for _, moment, _ in cycle.trace.steps] == [5.0, 5.0, 5.0, 5.0, 6.0]
    assert [dict(details) for _, _, details in cycle.trace.steps if details] == [
        {"vmgateway.backend": "http://vm1:8428"}
    ]


def test_one_that_is_not_sampled_has_no_steps() -> None:
    cycle = traced(plain.cycle(), tracer(0.0))
    plain.asked(cycle, gateway())
    cycle.end()
    assert steps(cycle) == []


def test_a_page_of_the_gateway_has_no_span() -> None:
    cycle = traced(plain.cycle())
    cycle.end()
    assert cycle.trace is None


def test_a_form() -> None:
    cycle = traced(plain.form())
    plain.admit(cycle, gateway())
    cycle.form(b"query=up")
    assert steps(cycle) == ["authorized", "counted", "ready"]


def test_a_write_whose_rows_are_counted() -> None:
    cycle = traced(plain.write())
    plain.admit(cycle, metering(10**6))
    while cycle.state is State.METERED:
        cycle.body(b"a 1\n", end=False)
    cycle.ask(1.0)
    cycle.body(b"b 2\n", end=True)
    assert steps(cycle) == ["authorized", "counted", "ready", "asked"]
    other = traced(plain.write())
    plain.admit(other, metering(1))
    other.body(b"a", end=False)
    assert steps(other) == ["authorized", "counted"]


def test_one_that_waits_for_a_slot() -> None:
    slots = Concurrency(1, 0)
    first = traced(plain.cycle())
    plain.admit(first, gateway(concurrency=slots))
    waits = traced(plain.cycle())
    by = gateway(concurrency=slots, max_queue=1.0)
    waits.authorize(by)
    assert not waits.enter()
    waits.queue(lambda: None)
    first.end()
    assert waits.state is State.ENTERED
    waits.count(1.0)
    assert steps(waits) == ["authorized", "queued", "counted"]
    full = traced(plain.cycle())
    full.authorize(gateway(concurrency=slots))
    assert not full.enter()
    with pytest.raises(TooManyAtOnce) as caught:
        full.queue(lambda: None)
    refused(full, caught.value)
    assert steps(full) == ["authorized", "refused"]


def test_one_that_asks_other_processes() -> None:
    accounts = Accounts()
    cycle = traced(plain.cycle())
    cycle.authorize(sharing(accounts))
    assert cycle.enter()
    assert not cycle.count(1.0, lambda: None)
    accounts.answer()
    cycle.counted()
    assert steps(cycle) == ["authorized", "counting", "counted"]


def test_one_that_waits_for_keys() -> None:
    by, ring = plain.rotating()
    cycle = traced(plain.cycle(token=plain.SIGNED))
    assert not cycle.authorize(by, lambda: None)
    assert not cycle.recheck(by, plain.NOW)
    plain.fetched(by, ring, keys.jwk(plain.KEY, kid="new"))
    assert cycle.recheck(by, plain.NOW)
    assert steps(cycle) == ["checking", "authorized"]


def test_refusals() -> None:
    cycle = traced(plain.cycle(token=JUNK))
    with pytest.raises(TokenRefused) as caught:
        cycle.authorize(gateway())
    refused(cycle, caught.value)
    assert steps(cycle) == ["refused"]
    limiter = Limiter([limit("queries", 1)])
    plain.admit(traced(plain.cycle()), gateway(limiter=limiter))
    over = traced(plain.cycle())
    over.authorize(gateway(limiter=limiter))
    assert over.enter()
    with pytest.raises(RateLimited) as limited:
        over.count(1.0)
    refused(over, limited.value)
    assert steps(over) == ["authorized", "refused"]


def test_fail_over_and_retry() -> None:
    cycle = traced(plain.cycle())
    plain.asked(cycle, gateway(FIRST, SECOND))
    assert cycle.member is not None
    first = str(cycle.member.backend)
    cycle.unreachable(BackendUnreachable("gone", Cause.REFUSED))
    cycle.ask(2.0)
    second = str(cycle.member.backend)
    assert cycle.lost("", stale=True)
    cycle.ask(3.0)
    with pytest.raises(BackendUnreachable) as caught:
        cycle.lost("")
    refused(cycle, caught.value)
    assert cycle.trace is not None
    assert [(name, dict(details)) for name, _, details in cycle.trace.steps][3:] == [
        ("asked", {"vmgateway.backend": first}),
        ("failed over", {"vmgateway.reason": "refused"}),
        ("asked", {"vmgateway.backend": second}),
        ("retried", {"vmgateway.reason": "closed"}),
        ("asked", {"vmgateway.backend": second}),
        ("refused", {"vmgateway.reason": "backend_unreachable"}),
    ]
