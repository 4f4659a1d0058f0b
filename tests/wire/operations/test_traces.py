"""Traces of the running program, in both lanes: what a collector receives, and what a backend gets."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway, Program, auth_flags, free_port, run_command
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import HANG_UP, ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

LANES = pytest.mark.parametrize("lane", ["fast", "flow"])
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE}-00f067aa0ba902b7-01"
READ: Final = ["authorized", "counted", "ready", "asked", "responded"]


class Collector(RecordingUpstream):
    """Takes spans by OTLP over HTTP."""

    @property
    def endpoint(self) -> str:
        return f"{self.url}/v1/traces"

    def batches(self) -> Iterator[ExportTraceServiceRequest]:
        for request in self.requests:
            if request.complete:
                assert (request.method, request.target) == ("POST", "/v1/traces")
                assert request.header("Content-Type") == ["application/x-protobuf"]
                yield ExportTraceServiceRequest.FromString(request.body)

    def spans(self) -> list[Span]:
        """All spans so far, in the order of their begin."""
        found = [
            span
            for batch in self.batches()
            for resource in batch.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def wait(self, gateway: Gateway, number: int) -> list[Span]:
        gateway.wait_until(lambda: len(self.spans()) >= number, what=f"sends {number} spans")
        assert len(self.spans()) == number
        return self.spans()


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    with server:
        yield server


def values(attributes: Any) -> dict[str, str | int]:  # noqa: ANN401
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in pairs}


def events(span: Span) -> list[str]:
    return [event.name for event in span.events]


def traced(request: ReceivedRequest) -> tuple[str, str, str]:
    """The IDs of the trace and the span, and the flags, that a backend got."""
    [value] = request.header("traceparent")
    found = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-(0[0-3])", value)
    assert found is not None
    return found[1], found[2], found[3]


@pytest.mark.smoke
@pytest.mark.parametrize(("program", "lane"), [("vmgateway", "fast"), ("vmgateway", "flow"), ("mitmdump", "flow")])
def test_a_read_is_a_span(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    collector: Collector,
    key: SigningKey,
    key_file: Path,
    program: Program,
    lane: str,
) -> None:
    gateway = start_gateway(
        *(*auth_flags(upstream.url, key_file), f"-lane={lane}", f"-traces.endpoint={collector.endpoint}"),
        *("-traces.ratio=1", "-traces.serviceName=front", "-accessLog", "-queryLog=stdout"),
        program=program,
    )
    token = key.mint(tenant(1, 5), sub="alice")
    assert gateway.client(token).get("/api/v1/query?query=secret_name").status == 200
    [span] = collector.wait(gateway, 1)
    [batch] = collector.batches()
    assert values(batch.resource_spans[0].resource.attributes)["service.name"] == "front"
    assert batch.resource_spans[0].scope_spans[0].scope.name == "vmgateway"
    assert (span.name, span.kind) == ("GET /api/v1/query", Span.SPAN_KIND_SERVER)
    assert values(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/api/v1/query",
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": len(b'{"status":"success"}'),
        "client.address": "127.0.0.1",
        "vmgateway.tenant": "1:5",
        "vmgateway.access": "read",
        "vmgateway.verdict": "admitted",
    }
    assert events(span) == READ
    assert values(span.events[3].attributes) == {"vmgateway.backend": upstream.url}
    times = [span.start_time_unix_nano, *(event.time_unix_nano for event in span.events), span.end_time_unix_nano]
    assert times == sorted(times)
    assert span.parent_span_id == b""
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert traced(upstream.requests[0]) == (span.trace_id.hex(), span.span_id.hex(), "03")
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_trace_spans_total", result="sent") == 1, what="counts the span"
    )
    gateway.wait_for_log(f" trace={span.trace_id.hex()}")
    gateway.wait_for_log(f'"trace":"{span.trace_id.hex()}"')
    sent = collector.requests[0].body
    assert b"alice" not in sent
    assert b"secret_name" not in sent
    assert b"eyJ" not in sent


@LANES
def test_the_span_of_the_client_is_the_parent(
    start_gateway: StartGateway, upstream: RecordingUpstream, collector: Collector, flags: list[str], key: SigningKey,
    lane: str,
) -> None:  # fmt: skip
    gateway = start_gateway(*flags, f"-lane={lane}", f"-traces.endpoint={collector.endpoint}", "-traces.ratio=0")
    client = gateway.client(key.mint())
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    client.post("/api/v1/query", form={"query": "up"}, headers=headers)
    client.get("/api/v1/query?query=up", headers={**headers, "traceparent": PARENT[:-1] + "0"})
    client.get("/api/v1/query?query=up", headers={**headers, "traceparent": PARENT.upper()})
    client.get("/api/v1/query?query=up")
    client.get("/api/v1/labels", headers=headers)
    first, last = collector.wait(gateway, 2)
    assert (first.name, last.name) == ("POST /api/v1/query", "GET /api/v1/labels")
    for span in (first, last):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, "00f067aa0ba902b7")
        assert events(span) == READ
    assert [traced(request)[2] for request in upstream.requests] == ["01", "00", "02", "02", "01"]
    assert [traced(request)[0] == TRACE for request in upstream.requests] == [True, True, False, False, True]
    assert traced(upstream.requests[0])[1] == first.span_id.hex()
    assert [request.header("tracestate") for request in upstream.requests] == [
        ["vendor=1"], ["vendor=1"], [], [], ["vendor=1"]
    ]  # fmt: skip
    assert len({traced(request)[1] for request in upstream.requests} | {"00f067aa0ba902b7"}) == 6


@LANES
def test_clients_cannot_ask_for_more_spans_than_the_bound(
    start_gateway: StartGateway, upstream: RecordingUpstream, collector: Collector, flags: list[str], key: SigningKey,
    lane: str,
) -> None:  # fmt: skip
    gateway = start_gateway(
        *(*flags, f"-lane={lane}", f"-traces.endpoint={collector.endpoint}", "-traces.ratio=0"),
        "-traces.maxPerSecond=0",
    )
    for _ in range(3):
        gateway.client(key.mint()).get("/api/v1/labels", headers={"traceparent": PARENT})
        gateway.client("a.b").get("/api/v1/labels", headers={"traceparent": PARENT})
    assert [traced(request)[2] for request in upstream.requests] == ["00"] * 3
    assert gateway.metric("vmgateway_trace_spans_total", result="limited") == 6
    assert gateway.metric("vmgateway_trace_spans_total", result="sent") == 0
    gateway.stop()
    assert collector.requests == []


@LANES
def test_refusals_say_why(
    start_gateway: StartGateway, upstream: RecordingUpstream, collector: Collector, flags: list[str], key: SigningKey,
    tmp_path: Path, lane: str,
) -> None:  # fmt: skip
    limits = tmp_path / "limits.yml"
    limits.write_text("limits: [{type: queries, value: 1, resolution: hour}]")
    gateway = start_gateway(
        *(*flags, f"-lane={lane}", f"-traces.endpoint={collector.endpoint}", "-traces.ratio=1"),
        *("-enable.rateLimit", f"-ratelimit.config={limits}"),
    )
    token = key.mint()
    gateway.client("eyJhbGciOiJSUzI1NiJ9.e30.c2VjcmV0").get("/api/v1/labels?match[]=secret_name")
    gateway.client(token).get("/secret/path")
    gateway.client(token).get("/api/v1/labels")
    gateway.client(token).get("/api/v1/labels")
    assert gateway.client().get("/health").status == 200, "a page of the gateway has no span"
    spans = collector.wait(gateway, 4)
    assert [(span.name, *events(span)) for span in spans] == [
        ("GET /api/v1/labels", "refused"),
        ("GET", "refused"),
        ("GET /api/v1/labels", *READ),
        ("GET /api/v1/labels", "authorized", "refused"),
    ]
    codes = [values(span.attributes).get("vmgateway.reason") for span in spans]
    assert codes == [values(span.events[-1].attributes).get("vmgateway.reason") for span in spans]
    assert codes[1:] == ["unknown_route", None, "rate_limited"]
    statuses = [values(span.attributes)["http.response.status_code"] for span in spans]
    assert statuses == [401, 404, 200, 429]
    assert {span.status.code for span in spans} == {Status.STATUS_CODE_UNSET}, "a client's mistake is no error"
    sent = b"".join(request.body for request in collector.requests)
    assert not re.search(b"secret|eyJ|c2VjcmV0", sent)


@LANES
def test_a_write_and_a_failing_backend(
    start_gateway: StartGateway, upstream: RecordingUpstream, collector: Collector, key: SigningKey, key_file: Path,
    lane: str,
) -> None:  # fmt: skip
    dead = f"http://127.0.0.1:{free_port()}"
    upstream.responder = lambda request: HANG_UP if request.path == "/api/v1/import" else Reply(status=204)
    gateway = start_gateway(
        *("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-write.url={dead},{upstream.url}"),
        *(f"-read.url={dead}", f"-lane={lane}", f"-traces.endpoint={collector.endpoint}", "-traces.ratio=1"),
    )
    client = gateway.client(key.mint())
    assert client.post("/api/v1/import/prometheus", body="a 1\n").status == 204
    assert client.get("/api/v1/labels").status == 502
    assert client.post("/api/v1/import", body='{"metric":{"__name__":"a"},"values":[1],"timestamps":[1]}').status == 502
    write, read, cut = collector.wait(gateway, 3)
    assert events(write) == [
        "authorized", "counted", "ready", "asked", "failed over", "asked", "responded"
    ]  # fmt: skip
    assert values(write.attributes)["http.request.body.size"] == 4
    backends = [values(event.attributes)["vmgateway.backend"] for event in write.events if event.name == "asked"]
    assert backends == [dead, upstream.url]
    for span in (read, cut):
        assert events(span)[-2:] == ["asked", "refused"]
        assert span.status.code == Status.STATUS_CODE_ERROR
        found = values(span.attributes)
        assert found["error.type"] == found["vmgateway.reason"] == "backend_unreachable"
        assert (found["http.response.status_code"], found["vmgateway.verdict"]) == (502, "failed")
    assert {request.header("traceparent")[0][3:35] for request in upstream.requests} == {
        write.trace_id.hex(), cut.trace_id.hex()
    }  # fmt: skip


@LANES
def test_a_collector_that_is_down_harms_no_request(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: list[str], key: SigningKey, lane: str
) -> None:
    port = free_port()
    url = f"http://user:p4ss@127.0.0.1:{port}/v1/traces?key=p4ss"
    gateway = start_gateway(*flags, f"-lane={lane}", f"-traces.endpoint={url}", "-traces.ratio=1")
    client = gateway.client(key.mint())

    def failed() -> float:
        return gateway.metric("vmgateway_trace_spans_total", result="failed")

    for number in (1, 2):
        assert client.get("/api/v1/labels").status == 200
        gateway.wait_until(lambda number=number: failed() == number, what="counts the span")  # type: ignore[misc]
    gateway.wait_for_log("cannot send spans to http://127.0.0.1:")
    with Collector(port=port) as collector:
        assert client.get("/api/v1/labels").status == 200
        gateway.wait_for_log("spans are sent to http://127.0.0.1:[0-9]+/v1/traces again")
        [received] = collector.requests
        assert received.target == "/v1/traces?key=p4ss"
        assert received.header("Authorization") == ["Basic dXNlcjpwNHNz"]
    assert gateway.metric("vmgateway_failures_total", what=f"-traces.endpoint http://127.0.0.1:{port}/v1/traces") == 2
    assert gateway.log().count("cannot send spans") == 1
    assert "p4ss" not in gateway.log() + gateway.client().get("/metrics").text + gateway.client().get("/flags").text


def test_a_collector_that_hangs_does_not_delay_the_end(
    start_gateway: StartGateway, upstream: RecordingUpstream, collector: Collector, flags: list[str], key: SigningKey
) -> None:
    gate = threading.Event()
    collector.responder = lambda _: Reply(gate=gate)
    gateway = start_gateway(*flags, f"-traces.endpoint={collector.endpoint}", "-traces.ratio=1")
    gateway.client(key.mint()).get("/api/v1/labels")
    gateway.wait_until(lambda: collector.requests, what="sends the span")
    gateway.client(key.mint()).get("/api/v1/labels")
    gateway.stop()
    gate.set()
    assert len(collector.requests) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_waits_is_sent_at_the_end_by_each_worker(
    start_gateway: StartGateway, upstream: RecordingUpstream, collector: Collector, flags: list[str], key: SigningKey,
    workers: int,
) -> None:  # fmt: skip
    gateway = start_gateway(*flags, f"-workers={workers}", f"-traces.endpoint={collector.endpoint}", "-traces.ratio=1")
    client = gateway.client(key.mint())

    def spread() -> bool:
        client.get("/api/v1/labels")
        page = gateway.client().get("/metrics").text
        found = re.findall(r'vmgateway_requests_total\{[^}]*outcome="admitted"[^}]*\} ([1-9])', page)
        return len(found) >= workers

    gateway.wait_until(spread, what="has served with each worker")
    gateway.stop()
    spans = collector.spans()
    assert len(spans) == len(upstream.requests)
    assert len({span.trace_id for span in spans}) == len(spans), "no two workers make the same IDs"


@LANES
def test_without_the_flag_the_headers_of_the_client_pass(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: list[str], key: SigningKey, lane: str
) -> None:
    gateway = start_gateway(*flags, f"-lane={lane}")
    gateway.client(key.mint()).get("/api/v1/labels", headers={"traceparent": "as it is", "tracestate": "a=1"})
    gateway.client(key.mint()).get("/api/v1/labels")
    first, second = upstream.requests
    assert (first.header("traceparent"), first.header("tracestate")) == (["as it is"], ["a=1"])
    assert second.header("traceparent") == []
    assert "vmgateway_trace_spans" not in gateway.client().get("/metrics").text


def test_the_collector_is_reached_over_mutual_tls(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, authority: Authority
) -> None:
    server_side, mine = authority.issue("collector.example"), authority.issue("gateway.example")
    collector = Collector(tls=authority.server_context(server_side, clients=authority))
    with collector:
        trusted = (f"-traces.tlsCAFile={authority.cert}", "-traces.tlsServerName=collector.example")
        for verified in (trusted, ("-traces.tlsInsecureSkipVerify",)):
            gateway = start_gateway(
                *(*flags, "-traces.ratio=1", f"-traces.endpoint={collector.endpoint}", *verified),
                *(f"-traces.tlsCertFile={mine.cert}", f"-traces.tlsKeyFile={mine.key}"),
            )
            gateway.client(key.mint()).get("/api/v1/labels")
            collector.wait(gateway, 1)
            collector.requests.clear()


# --- the start -----------------------------------------------------------------------------------------------------


ENDPOINT: Final = "-traces.endpoint=http://127.0.0.1:4318/v1/traces"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        pytest.param(["-traces.endpoint=collector:4318"], "-traces.endpoint: expected a URL such as", id="no URL"),
        pytest.param(["-traces.endpoint=ftp://h/"], "-traces.endpoint: expected a URL such as", id="another scheme"),
        pytest.param([ENDPOINT, "-traces.ratio=1.1"], "-traces.ratio: expected a number from 0 to 1", id="ratio"),
        pytest.param([ENDPOINT, "-traces.ratio=-1"], "-traces.ratio: expected a number from 0 to 1", id="negative"),
        pytest.param(["-traces.ratio=1"], "-traces.ratio has no effect without -traces.endpoint", id="alone"),
        pytest.param([ENDPOINT.replace("http", "https"), "-traces.tlsCAFile=/missing"],
                     "-traces.tlsCAFile: cannot read /missing", id="CA"),
    ],
)  # fmt: skip
def test_a_flag_that_is_not_valid_stops_the_start(flags: list[str], reason: str) -> None:
    ended = run_command("-dryRun", "-enable.auth", "-read.url=http://127.0.0.1:1", *flags)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(f"vmgateway: {reason}")


def dry_run(*flags: str, sdk: bool = True) -> subprocess.CompletedProcess[str]:
    """A dry run in a process that shows at its end whether it has imported the SDK. ``sdk`` False: there is none."""
    code = (
        "import sys\n"
        + ("" if sdk else "sys.modules['opentelemetry'] = None\n")
        + "from vmgw_addons.cli.main import main\ncode = main(sys.argv[1:], {})\n"
        "print('opentelemetry.sdk' in sys.modules)\nsys.exit(code)"
    )
    command = [sys.executable, "-c", code, "-dryRun", "-enable.auth", "-read.url=http://127.0.0.1:1", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_sdk_is_imported_only_with_the_flag() -> None:
    without = dry_run(sdk=False)
    assert (without.returncode, without.stdout.splitlines()[-1]) == (0, "False")
    assert dry_run(ENDPOINT).stdout.splitlines()[-1] == "True"


def test_without_the_sdk_one_line_says_what_to_install() -> None:
    ended = dry_run(ENDPOINT, sdk=False)
    assert ended.returncode == 2
    expected = "-traces.endpoint needs OpenTelemetry's SDK: pip install 'vmgateway[traces]'"
    assert ended.stderr == f"vmgateway: {expected}\n"
