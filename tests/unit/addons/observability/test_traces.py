"""Traces: what is told of a span that is not sent, and how many may wait."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.support.addons.configured import GatewayState, settings_of
from vmgw_addons.observability.logs.traces import MAX_WAITING, Traces
from vmgw_addons.process import Configuration
from vmgw_addons.state import InForce
from vmgw_core.configuration import parse
from vmgw_core.enforcement import Cycle, TracedCycle
from vmgw_core.http import RequestHead

HEAD: Final = RequestHead(method="BREW", target="/secret?token=x", headers=(), client="192.0.2.1")


class Spans:
    """In place of the SDK's thread: takes nothing by itself."""

    def __init__(self) -> None:
        self.taken = self.sent = self.failed = 0
        self.put_in: list[tuple[str, dict[str, Any], bool]] = []

    def put(self, cycle: TracedCycle, name: str, seconds: float, attributes: dict[str, Any], *, failed: bool) -> None:
        assert 0 <= seconds < 60
        self.put_in.append((name, attributes, failed))


def traces(*flags: str) -> tuple[Traces, Spans]:
    made, spans = Traces(InForce(), parse(["-traces.endpoint=http://c", *flags], {}).settings), Spans()
    made.spans = spans  # type: ignore[assignment]
    return made, spans


def ended(by: Traces, status: int | None = 200) -> None:
    cycle = TracedCycle(HEAD, at=time.time(), started=time.perf_counter(), tracer=by.tracer)
    cycle.trace = by.tracer.begin(HEAD)
    by.finished(cycle, status, 5)


def test_spans_beyond_those_that_may_wait_are_dropped_and_counted() -> None:
    made, spans = traces("-traces.ratio=1")
    for _ in range(MAX_WAITING + 2):
        ended(made)
    assert (len(spans.put_in), made.lost) == (MAX_WAITING, 2)
    spans.taken = 1
    ended(made)
    ended(made)
    assert (len(spans.put_in), made.lost) == (MAX_WAITING + 1, 3)
    assert made.results() == {"sent": 0, "failed": 0, "dropped": 3, "limited": 0}


def test_a_request_that_is_not_sampled_has_no_span() -> None:
    made, spans = traces("-traces.ratio=0")
    ended(made)
    made.finished(Cycle(HEAD, at=1.0, started=1.0), 200, 5)
    assert spans.put_in == []


def test_a_method_that_nobody_knows_is_other_and_the_path_is_not_told() -> None:
    made, spans = traces("-traces.ratio=1")
    ended(made, None)
    ended(made, 503)
    shown = {
        "http.request.method": "_OTHER",
        "http.request.body.size": 0,
        "http.response.body.size": 5,
        "client.address": "192.0.2.1",
    }
    assert spans.put_in == [
        ("_OTHER", {**shown, "vmgateway.verdict": "failed"}, False),
        (
            "_OTHER",
            {**shown, "http.response.status_code": 503, "error.type": "503", "vmgateway.verdict": "admitted"},
            True,
        ),
    ]


def test_a_reload_keeps_the_traces_of_the_same_flags() -> None:
    state = GatewayState()
    configuration = Configuration(state.in_force, state.process, state.reloads, state.limit_reloads)

    def applied(**flags: str) -> object:
        configuration.apply(settings_of(**flags))
        return state.configured.traces

    endpoint = {"traces.endpoint": "http://c"}
    first = applied(**endpoint)
    assert isinstance(first, Traces)
    assert state.configured.request_logs == (first,)
    assert applied(**endpoint, accessLog="true") is first
    second = applied(**endpoint, **{"traces.ratio": "1"})
    assert second is not first
    assert isinstance(second, Traces)
    assert applied() is None
