"""Limits on bytes and fetched series in both lanes: what clients get, and what reaches the backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.wire.client import Answer
from tests.support.wire.processes import Gateway, auth_flags
from tests.support.wire.raw import RawClient, head
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import FULL, SigningKey, team, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"
IMPORT = "/api/v1/import/prometheus"
TOP = b'{"status":"success","topN":"5","maxLifetime":"1s","topByCount":[],"topByAvgDuration":[],"topBySumDuration":[]}'
STATS = b'{"status":"success","data":{},"stats":{"seriesFetched":"7","executionTimeMsec":1}}'

Start = Callable[..., Gateway]


def answers(request: ReceivedRequest) -> Reply:
    if request.path.endswith("/top_queries"):
        return Reply(body=TOP)
    return Reply(body=STATS) if request.path.endswith("/query") else Reply(status=204, body=b"")


@pytest.fixture(params=["fast", "flow"])
def start(
    request: pytest.FixtureRequest,
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key_file: Path,
    tmp_path: Path,
) -> Start:
    upstream.responder = answers

    def start(limits: str, url: str = upstream.url) -> Gateway:
        file = tmp_path / "limits.yaml"
        file.write_text(f"limits: [{limits}]")
        flags = ("-enable.rateLimit", f"-ratelimit.config={file}", "-ratelimit.headers", f"-lane={request.param}")
        return start_gateway(*auth_flags(url, key_file), *flags)

    return start


def check_refusal(answer: Answer, text: str) -> None:
    assert answer.status == 429
    assert answer.json()["error"] == f"request was rate limited: tenant 1:5 has used {text} per minute"
    assert 50 <= int(answer.header("Retry-After") or 0) <= 60


def test_bytes_that_were_read_refuse_the_next_read(start: Start, upstream: RecordingUpstream, key: SigningKey) -> None:
    gateway = start("{type: bytes_read, value: 200}, {type: bytes_read, value: 10000000, scope: total}")
    client = gateway.client(key.mint(tenant(1, 5)))
    found = [client.get(QUERY) for _ in range(5)]
    assert [answer.body for answer in found[:3]] == [STATS] * 3
    assert found[1].header("RateLimit") == f'"bytes_read/minute";r={200 - len(STATS)}'
    assert found[1].header("RateLimit-Policy") == '"bytes_read/minute";q=200;w=60;qu="content-bytes"'
    for answer in found[3:]:
        check_refusal(answer, f"{3 * len(STATS)} of 200 bytes read")
    assert len(upstream.requests) == 3
    assert client.post(IMPORT, body="a 1\n").status == 204
    assert gateway.client(key.mint(tenant(2))).get(QUERY).status == 200
    refused = gateway.metric("vmgateway_ratelimit_rejects_total", type="bytes_read", resolution="minute", tenant="1:5")
    assert refused == 2
    usage = {"type": "bytes_read", "resolution": "minute", "labels": "", "class": ""}
    assert gateway.metric("vmgateway_tenant_usage", tenant="1:5", **usage) == 3 * len(STATS)
    assert gateway.metric("vmgateway_tenant_limit", tenant="1:5", **usage) == 200


def test_an_answer_that_the_gateway_makes_counts_too(start: Start, key: SigningKey) -> None:
    client = start("{type: bytes_read, value: 1000}").client(key.mint(team("dev")))
    answer = client.get("/api/v1/status/top_queries")
    assert answer.status == 200
    assert answer.body != TOP
    after = client.get("/api/v1/status/top_queries")
    assert after.header("RateLimit") == f'"bytes_read/minute";r={1000 - len(answer.body)}'


def test_fetched_series_refuse_the_next_read(start: Start, upstream: RecordingUpstream, key: SigningKey) -> None:
    gateway = start("{type: series_fetched, value: 14}")
    client = gateway.client(key.mint(tenant(1, 5)))
    assert [client.get(QUERY).status for _ in range(2)] == [200, 200]
    check_refusal(client.get(QUERY), "14 of 14 series fetched")
    assert len(upstream.requests) == 2


def test_a_client_that_drops_the_end_of_an_answer_uses_a_part_of_the_limit(
    start: Start, upstream: RecordingUpstream, key: SigningKey
) -> None:
    """Whatever comes later: the answer does not fit into what the gateway and the kernel hold."""
    answer = b'{"status":"success","data":{"result":[' + b"[]," * 20_000_000 + b"[]]}}"
    upstream.responder = lambda request: Reply(body=answer)
    gateway = start("{type: series_fetched, value: 250}")
    token = key.mint(tenant(1, 5))
    for number in (1, 2):
        with RawClient(gateway.port) as client:
            client.send(head("GET", QUERY, token)).receive_head()
            client.reset()
        gateway.wait_until(
            lambda n=number: gateway.metric("vmgateway_tenant_usage", tenant="1:5", type="series_fetched") == 3 * n,  # type: ignore[misc]
            what="counts a hundredth, rounded up",
        )
    assert gateway.client(token).get(QUERY).body == answer, "which is taken to its end, and tells no number"
    upstream.responder = answers
    assert gateway.client(token).get(QUERY).header("RateLimit") == '"series_fetched/minute";r=244'


def test_series_of_victoria_metrics(
    start: Start, victoria_metrics: VictoriaMetrics, key: SigningKey, metric: str
) -> None:
    """Older releases do not tell the number, so they count none."""
    victoria_metrics.import_prometheus("".join(f'{metric}{{n="{number}"}} 1\n' for number in range(3)))
    told = "seriesFetched" in victoria_metrics.client.get(f"/api/v1/query?query={metric}").text
    client = start("{type: series_fetched, value: 9}", victoria_metrics.url).client(key.mint(FULL))
    found = []
    for encoding, trace in (("identity", "0"), ("gzip", "0"), ("gzip", "1"), ("gzip", "0")):
        asked = {"query": f"count({metric})", "time": f"{time.time() + 5:.0f}"}  # a new sample shows a second later
        found.append(client.get("/api/v1/query", {**asked, "trace": trace}, headers={"Accept-Encoding": encoding}))
    assert [answer.status for answer in found] == [200, 200, 200, 429 if told else 200]
    assert [answer.header("RateLimit") for answer in found[:3]] == [
        f'"series_fetched/minute";r={left}' for left in ((9, 6, 3) if told else (9, 9, 9))
    ]


def test_bytes_that_were_written_refuse_the_next_write(
    start: Start, upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateway = start("{type: bytes_written, value: 100}, {type: queries, value: 1, mode: observe}")
    client = gateway.client(key.mint(tenant(1, 5)))
    assert client.post(IMPORT, body="a 1\n" * 10).status == 204
    answer = client.post(IMPORT, body="a 1\n" * 16)
    check_refusal(answer, "40 of 100 bytes written")
    assert len(upstream.requests) == 1, "a length that does not fit is refused on the head"
    assert client.post(IMPORT, body="a 1\n" * 15).status == 204, "one that fits is not"
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_tenant_usage", tenant="1:5", type="bytes_written") == 100, what="counts"
    )
    check_refusal(client.post(IMPORT, body=iter([b"a 1\n"])), "100 of 100 bytes written")
    assert [request.body for request in upstream.requests] == [b"a 1\n" * 10, b"a 1\n" * 15]
    assert [client.get(QUERY).status for _ in range(2)] == [200, 200]


def test_a_body_without_a_length_may_go_over(start: Start, upstream: RecordingUpstream, key: SigningKey) -> None:
    gateway = start("{type: bytes_written, value: 100}")
    client = gateway.client(key.mint(tenant(1, 5)))
    assert client.post(IMPORT, body=iter([b"a 1\n"] * 50)).status == 204
    check_refusal(client.post(IMPORT, body=iter([b"a 1\n"])), "200 of 100 bytes written")
    assert [request.body for request in upstream.requests] == [b"a 1\n" * 50]
