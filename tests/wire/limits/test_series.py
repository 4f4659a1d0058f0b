"""Limits on series without a datasource, in both lanes: what clients get, what the backend gets, what is stored."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.core.bodies import CASES, Headers, item, label, sample, snappy
from tests.support.core.series_bodies import HIDDEN, Hidden
from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, free_port
from tests.support.wire.servers import Redis, VictoriaMetrics, Vmagent
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway
from vmgw_core.base import TenantID
from vmgw_core.http.head import RequestHead
from vmgw_core.limits import LabelHashes, finished
from vmgw_core.routing.routes import match_route
from vmgw_core.rows import Series, row_counter

IMPORT = "/api/v1/import/prometheus"


@pytest.fixture(params=["fast", "flow"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "limits.yaml"


@pytest.fixture
def start(start_gateway: StartGateway, key_file: Path, file: Path, lane: str) -> Callable[..., Gateway]:
    def start(limits: str, url: str, *flags: str) -> Gateway:
        file.write_text(f"limits: [{limits}]")
        return start_gateway(
            "-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={url}", f"-write.url={url}",
            "-enable.rateLimit", f"-ratelimit.config={file}", f"-lane={lane}", *flags,
        )  # fmt: skip

    return start


def rows(*numbers: int, size: int = 1) -> bytes:
    return b"".join(b'm{n="%d",x="%s"} 1\n' % (number, b"x" * size) for number in numbers)


def write(client: Client, *numbers: int) -> int:
    return client.post(IMPORT, body=rows(*numbers)).status


@pytest.mark.smoke
def test_new_series_are_refused_and_known_ones_pass(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey
) -> None:
    limits = "{type: active_series, value: 3}, {type: active_series, value: 1, labels: {team: dev}}"
    gateway = start(limits, upstream.url, "-clusterMode")
    client, other = gateway.client(key.mint(tenant(1, 5))), gateway.client(key.mint(tenant(2)))
    assert [write(client, 1, 2), write(client, 2, 3)] == [200, 200]
    refused = client.post(IMPORT, body=rows(1, 2, 3, 4))
    check_refusal(refused, "tenant 1:5 has 3 of 3 active series")
    assert [write(client, 3, 1, 2), write(other, 4), write(client, 4)] == [200, 200, 429]
    assert [request.body for request in upstream.requests] == [rows(1, 2), rows(2, 3), rows(3, 1, 2), rows(4)]
    assert gateway.metric("vmgateway_tenant_usage", tenant="1:5", type="active_series", labels="") == 3
    rejects = gateway.metric("vmgateway_ratelimit_rejects_total", tenant="1:5", type="active_series")
    assert rejects == 2
    dev = {**tenant(1, 5), "extra_labels": {"team": "dev"}}
    of_team = gateway.client(key.mint(dev))
    refused = of_team.post(IMPORT, body=rows(1, 2))  # with its label they are other series
    check_refusal(refused, "tenant 1:5 has 3 of 3 active series")
    assert "active series" in client.get("/-/me", headers={"Accept": "text/html"}).text


def check_refusal(answer: Answer, text: str) -> None:
    assert answer.status == 429
    error = {"status": "error", "errorType": "too_many_requests", "error": f"request was rate limited: {text}"}
    assert answer.json() == error
    assert int(answer.header("Retry-After") or 0) == 61


def test_a_body_that_streams_is_judged_in_pieces(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateway = start("{type: active_series, value: 1000}", upstream.url)
    client = gateway.client(key.mint(team("dev", mode=2)))
    body = rows(*range(1000), size=3000)
    pieces = [body[begin : begin + 50_000] for begin in range(0, len(body), 50_000)]
    for sent in (body, iter(pieces)):
        assert client.post(IMPORT, body=sent).status == 200
    assert client.post(IMPORT, body=body + rows(1, 2)).status == 429
    assert gateway.metric("vmgateway_tenant_usage", type="active_series") == 1000
    eventually(lambda: len(upstream.requests) == 3)
    assert [request.complete for request in upstream.requests] == [True, True, False]
    assert all(len(request.body) <= len(body) for request in upstream.requests)


def remote_write(numbers: range) -> bytes:
    return snappy(b"".join(item(1, label("__name__", "m"), label("n", str(n)), sample(1)) for n in numbers))


@pytest.mark.parametrize(
    ("target", "made", "headers"),
    [
        pytest.param(IMPORT, lambda numbers: rows(*numbers), {}, id="text"),
        pytest.param("/api/v1/write", remote_write, {"Content-Encoding": "snappy"}, id="remote write"),
    ],
)
def test_bodies_with_many_series_are_judged_whole(
    start: Callable[..., Gateway],
    upstream: RecordingUpstream,
    key: SigningKey,
    target: str,
    made: Callable[[range], bytes],
    headers: dict[str, str],
) -> None:
    gateway = start("{type: active_series, value: 20000}", upstream.url)
    client = gateway.client(key.mint(team("dev", mode=2)))
    known, new = made(range(20_000)), made(range(5000, 25_000))
    assert [client.post(target, body=body, headers=headers).status for body in (known, new, known)] == [200, 429, 200]
    assert [request.body for request in upstream.requests] == [known, known]
    assert gateway.metric("vmgateway_tenant_usage", type="active_series") == 20_000


@pytest.mark.parametrize("through", ["files", "redis"])
def test_workers_share_series(
    start: Callable[..., Gateway],
    upstream: RecordingUpstream,
    key: SigningKey,
    through: str,
    request: pytest.FixtureRequest,
) -> None:
    storage = [f"-ratelimit.storage={request.getfixturevalue('redis').url}"] if through == "redis" else []
    gateway = start("{type: active_series, value: 40}", upstream.url, "-workers=2", *storage)
    token = key.mint(team("dev", mode=2))

    def written(*numbers: int) -> int:
        return write(gateway.client(token), *numbers)  # a connection of its own, to any of the workers

    for number in range(40):
        eventually(lambda: written(number) == 200, what="it passes")  # noqa: B023
    for _ in range(2):  # each worker knows what the other has seen
        eventually(lambda: [written(*range(40)) for _ in range(12)] == [200] * 12, what="all are known to all")
    assert [written(41) for _ in range(12)] == [429] * 12
    assert b'n="41"' not in b"".join(request.body for request in upstream.requests)
    for worker in ("0", "1"):
        assert gateway.metric("vmgateway_tenant_usage", type="active_series", worker=worker) == 40


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def replicas(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, redis: Redis
) -> Callable[[str], list[Gateway]]:
    def replicas(limits: str) -> list[Gateway]:
        gateways = [start(limits, upstream.url, f"-ratelimit.storage={redis.url}") for _ in range(2)]
        for gateway in gateways:
            gateway.wait_until(lambda g=gateway: g.metric("vmgateway_ratelimit_replicas") == 2, what="both meet")  # type: ignore[misc]
        return gateways

    return replicas


def usage(gateway: Gateway) -> float:
    return gateway.metric("vmgateway_tenant_usage", type="active_series")


def knows(gateway: Gateway, number: int) -> None:
    gateway.wait_until(lambda: usage(gateway) == number, what=f"it knows {number} series")


@pytest.mark.smoke
def test_replicas_share_series(
    replicas: Callable[[str], list[Gateway]], upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateways = replicas("{type: active_series, value: 4}")
    one, two = (gateway.client(key.mint(team("dev", mode=2))) for gateway in gateways)
    assert write(one, 1, 2) == 200
    knows(gateways[1], 2)
    assert write(two, 2, 3, 4) == 200
    knows(gateways[0], 4)
    for client in (one, two):
        assert [write(client, 1, 2, 3, 4), write(client, 1, 5)] == [200, 429]
    assert [request.body for request in upstream.requests] == [
        rows(1, 2), rows(2, 3, 4), rows(1, 2, 3, 4), rows(1, 2, 3, 4)
    ]  # fmt: skip


def test_a_replica_that_is_killed_knows_the_series_again(
    replicas: Callable[[str], list[Gateway]], upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateways = replicas("{type: active_series, value: 2000}")
    one, two = (gateway.client(key.mint(team("dev", mode=2))) for gateway in gateways)
    assert [write(one, *range(1000)), write(two, *range(1000, 2000))] == [200, 200]
    for gateway in gateways:
        knows(gateway, 2000)
    gateways[0].kill()
    gateways[0].start()
    assert [write(one, 5000), write(one, *range(2000))] == [429, 200]
    assert usage(gateways[0]) == 2000
    assert upstream.requests[-1].body == rows(*range(2000))


def test_replicas_hold_series_while_redis_is_away_and_after_it_is_back_empty(
    replicas: Callable[[str], list[Gateway]], redis: Redis, upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateways = replicas("{type: active_series, value: 5}")
    one, two = (gateway.client(key.mint(team("dev", mode=2))) for gateway in gateways)
    assert write(one, 1, 2) == 200
    knows(gateways[1], 2)
    redis.kill()
    assert [write(one, 1, 3), write(two, 2, 4)] == [200, 200], "each goes on with what it knows"
    assert [write(one, 5, 6, 7), write(two, 5, 6, 7)] == [429, 429]
    assert [usage(gateway) for gateway in gateways] == [3, 3]
    redis.start()
    for gateway in gateways:
        gateway.wait_for_log("counts are exchanged with other replicas again")
        knows(gateway, 4)
    gateways[1].kill()
    gateways[1].start()
    knows(gateways[1], 4)
    assert [write(two, 1, 2, 3, 4, 5), write(two, 6)] == [200, 429]
    knows(gateways[0], 5)
    assert write(one, 6) == 429
    assert b'n="6"' not in b"".join(request.body for request in upstream.requests)


def lines(metric: str, numbers: range) -> str:
    return "".join(f'{metric}{{n="{number}"}} {number}\n' for number in numbers)


def test_vmagent_waits_with_new_series_and_loses_nothing(
    start: Callable[..., Gateway], victoria_metrics: VictoriaMetrics, key: SigningKey, file: Path, metric: str
) -> None:
    gateway = start("{type: active_series, value: 10}", victoria_metrics.url)
    with Vmagent(f"{gateway.url}/api/v1/write", key.mint(team("dev", mode=2))) as vmagent:
        for _ in range(3):
            vmagent.push(lines(metric, range(10)))
            eventually(lambda: len(victoria_metrics.series(metric)) == 10, what="what fits arrives")
        vmagent.push(lines(metric, range(5, 15)))
        vmagent.wait_for_log("429")
        assert gateway.metric("vmgateway_tenant_usage", type="active_series") == 10
        assert len(victoria_metrics.series(metric)) == 10
        file.write_text("limits: [{type: active_series, value: 20}]")
        gateway.signal(signal.SIGHUP)
        eventually(lambda: len(victoria_metrics.series(metric)) == 15, what="the rest arrives")
        assert gateway.metric("vmgateway_tenant_usage", type="active_series") == 15


# --- as many as are stored -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opentsdb_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def storage(opentsdb_port: int) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics(f"-opentsdbHTTPListenAddr=127.0.0.1:{opentsdb_port}", "-retentionPeriod=100y") as server:
        yield server


def test_as_many_series_are_counted_as_are_stored(storage: VictoriaMetrics, opentsdb_port: int) -> None:
    def stored() -> int:
        storage.client.get("/internal/force_flush")
        return int(json.loads(storage.client.get("/api/v1/series/count").text)["data"][0])

    def compare(number: int, name: str, target: str, headers: Headers, body: bytes, skipped: int = 0) -> None:
        target += f"{'&' if '?' in target else '?'}extra_label=run%3D{number}"
        before = stored()
        client = Client(opentsdb_port if "/api/put" in target else storage.port)
        client.post(target, body=body, headers={name.decode(): value.decode() for name, value in headers})
        created, counted = stored() - before, counted_series(target, headers, body)
        assert created == counted - skipped or (is_old and created < counted), name

    is_old = 'type="datadogv2"' not in storage.client.get("/metrics").text
    for number, case in enumerate(CASES):
        compare(number, case.name, case.target, case.headers, case.body)
    for number, hidden in enumerate(HIDDEN, len(CASES)):
        compare(number, hidden.name, hidden.target, hidden.headers, hidden.body, hidden.skipped)


def counted_series(target: str, headers: Headers, body: bytes) -> int:
    head = RequestHead(method="POST", target=target, headers=headers, client="127.0.0.1")
    series = Series(LabelHashes(b"key"), TenantID(), (), head)
    route = match_route(target.partition("?")[0], "POST", cluster=False).route
    counter = row_counter(route, head, max_decoded=64 << 20, check=True, series=series)
    assert counter is not None
    counter.feed(body)
    counter.finish()
    finished(series.steps())
    return len(series.taken())


@pytest.mark.parametrize("hidden", HIDDEN, ids=lambda hidden: hidden.name)
def test_hidden_series_reach_a_limit(
    start: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, hidden: Hidden
) -> None:
    gateway = start("{type: active_series, value: 1000}", upstream.url)
    headers = {name.decode(): value.decode() for name, value in hidden.headers}
    client = gateway.client(key.mint(team("dev", mode=2)))
    assert client.post(hidden.target, body=hidden.body, headers=headers).status == 200
    assert gateway.metric("vmgateway_tenant_usage", type="active_series") == hidden.series + hidden.skipped
