"""Requests at once: who passes, who waits, and who is told to come back."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tls import TLSGateway, needs_http2
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually, holds
from tests.support.wire.write_bodies import TEXT_BLOCK
from tests.wire.conftest import StartGateway

WRITE = "/api/v1/import/prometheus"


def start(start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, *flags: str) -> Gateway:
    urls = (f"-read.url={upstream.url}", f"-write.url={upstream.url}")
    return start_gateway("-enable.auth", *urls, f"-auth.publicKeyFiles={key_file}", *flags)


def in_background(
    pool: ThreadPoolExecutor, client: Client, method: str, path: str, body: str | bytes = ""
) -> Future[Answer]:
    return pool.submit(client.ask, method, path, body=body or None)


@pytest.mark.smoke
def test_requests_wait_for_their_turn(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path
) -> None:
    """Bodies of those that wait are not lost, and none of them reaches the backend early."""
    gate = threading.Event()
    upstream.responder = lambda _: Reply(gate=gate)
    gateway = start(start_gateway, upstream, key_file, "-maxConcurrentRequests=2", "-maxQueueDuration=1m")
    body = "m 1\n" * 100_000
    with ThreadPoolExecutor(8) as pool:
        clients = [gateway.client(key.mint()) for _ in range(8)]
        reads = [in_background(pool, client, "GET", "/api/v1/labels") for client in clients[:5]]
        writes = [in_background(pool, client, "POST", WRITE, body) for client in clients[5:]]
        eventually(lambda: gateway.metric("vmgateway_concurrent_requests_waiting") == 6)
        assert gateway.metric("vmgateway_concurrent_requests_current") == 2
        assert gateway.metric("vmgateway_concurrent_requests_limit") == 2
        assert len(upstream.requests) == 2
        gate.set()
        assert [answer.result(HANGS).status for answer in reads + writes] == [200] * 8
    sizes = sorted(request.body_size for request in upstream.requests)
    assert sizes == [0] * 5 + [len(body)] * 3
    eventually(lambda: gateway.metric("vmgateway_concurrent_requests_current") == 0)
    assert gateway.metric("vmgateway_concurrent_requests_rejected_total") == 0


def test_a_request_that_waited_long_enough_is_refused(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path
) -> None:
    gate = threading.Event()
    upstream.responder = lambda _: Reply(gate=gate)
    gateway = start(start_gateway, upstream, key_file, "-maxConcurrentRequests=1", "-maxQueueDuration=100ms")
    with ThreadPoolExecutor(1) as pool:
        held = in_background(pool, gateway.client(key.mint()), "GET", "/api/v1/labels")
        eventually(lambda: upstream.requests)
        client = gateway.client(key.mint())
        for answer in (client.get("/api/v1/labels"), client.post(WRITE, body="m 1")):
            assert answer.status == 429
            assert answer.header("Retry-After") == "5"
            assert answer.json()["errorType"] == "too_many_requests"
        assert gateway.client().get("/health").status == 200
        assert gateway.client().get("/api/v1/labels").status == 401, "whoever has no token takes no place"
        gate.set()
        assert held.result(HANGS).status == 200
    assert client.get("/api/v1/labels").status == 200
    assert len(upstream.requests) == 2
    assert gateway.metric("vmgateway_concurrent_requests_rejected_total") == 2
    assert gateway.metric("vmgateway_refusals_total", reason="too_many_at_once") == 2


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_one_tenant_leaves_room_for_the_others(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, lane: str
) -> None:
    gate = threading.Event()
    upstream.responder = lambda request: Reply(gate=gate if "labels" in request.path else None)
    flags = ("-maxConcurrentPerTenant=1", "-maxQueueDuration=0s", f"-lane={lane}")
    gateway = start(start_gateway, upstream, key_file, *flags)
    one, other = (key.mint(tenant(number, 0)) for number in (1, 2))
    for _ in range(2):  # the place is given back
        upstream.forget()
        gate.clear()
        with ThreadPoolExecutor(1) as pool:
            held = in_background(pool, gateway.client(one), "GET", "/api/v1/labels")
            eventually(lambda: upstream.requests)
            answer = gateway.client(one).get("/api/v1/query?query=up")
            assert (answer.status, answer.header("Retry-After")) == (429, "5")
            assert gateway.client(other).get("/api/v1/query?query=up").status == 200
            gate.set()
            assert held.result(HANGS).status == 200
    assert gateway.client(one).get("/api/v1/query?query=up").status == 200
    eventually(lambda: gateway.metric("vmgateway_concurrent_requests_current") == 0)


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_clients_that_leave_give_their_places_back(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, lane: str
) -> None:
    upstream.responder = lambda _: Reply(gate=threading.Event())
    gateway = start(start_gateway, upstream, key_file, "-maxConcurrentRequests=2", f"-lane={lane}")
    token = key.mint()
    get = head("GET", "/api/v1/labels", token)
    post = head("POST", WRITE, token, ["Content-Length: 9"]) + b"m"
    for request in (get, post):
        with RawClient(gateway.port) as first, RawClient(gateway.port) as second, RawClient(gateway.port) as third:
            for client in (first, second):
                client.send(request)
            for client in (first, second, third):  # they go with a reset: one that only sends no more gets its answer
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            eventually(lambda: gateway.metric("vmgateway_concurrent_requests_current") == 2)
            third.send(request)
            if lane == "fast":
                eventually(lambda: gateway.metric("vmgateway_concurrent_requests_waiting") == 1)
        for name in ("requests_current", "requests_waiting"):
            eventually(lambda: gateway.metric(f"vmgateway_concurrent_{name}") == 0)  # noqa: B023
        eventually(lambda: gateway.metric("vmgateway_backend_concurrent_requests") == 0)


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_who_waits_takes_no_memory_with_its_body(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, lane: str
) -> None:
    """What a client sends meanwhile waits in the kernel."""
    gate = threading.Event()
    upstream.responder = lambda _: Reply(gate=gate)
    flags = ("-maxConcurrentRequests=1", "-maxQueueDuration=1m", f"-lane={lane}")
    gateway = start(start_gateway, upstream, key_file, *flags)
    size = 64 << 20
    with ThreadPoolExecutor(4) as pool:
        held = in_background(pool, gateway.client(key.mint()), "GET", "/api/v1/labels")
        eventually(lambda: upstream.requests)
        before = gateway.rss()
        body = TEXT_BLOCK * (size // len(TEXT_BLOCK))
        writes = [in_background(pool, gateway.client(key.mint()), "POST", WRITE, body) for _ in "12"]
        eventually(lambda: gateway.metric("vmgateway_concurrent_requests_waiting") == 2)
        holds(lambda: gateway.rss() - before < 16 << 20, during=0.5)
        gate.set()
        assert [answer.result(HANGS).status for answer in (held, *writes)] == [200] * 3
    assert sorted(request.body_size for request in upstream.requests) == [0, size, size]


@needs_http2
def test_a_body_over_http2_does_not_wait(
    upstream: RecordingUpstream, key: SigningKey, key_file: Path, authority: Authority
) -> None:
    gate = threading.Event()
    upstream.responder = lambda request: Reply(gate=gate if "labels" in request.path else None)
    certificate = authority.issue("localhost")
    urls = (f"-read.url={upstream.url}", f"-write.url={upstream.url}")
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", "-maxConcurrentRequests=1", "-maxQueueDuration=1m")
    tls = ("-tls", f"-tlsCertFile={certificate.cert}", f"-tlsKeyFile={certificate.key}", "-http.enableHTTP2")
    with TLSGateway(*urls, *flags, *tls) as gateway, ThreadPoolExecutor(2) as pool:
        url = f"https://localhost:{gateway.port}"
        bearer = f"Authorization: Bearer {key.mint()}"

        def ask(*arguments: str) -> str:
            form = "%{http_version} %{http_code}"
            command = ["curl", "-sS", "--http2", "--cacert", str(authority.cert), "-H", bearer, "-o", "/dev/null"]
            command += ["-w", form, *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True).stdout

        held = pool.submit(ask, f"{url}/api/v1/labels")
        eventually(lambda: upstream.requests)
        assert ask("--data-binary", "m 1", url + WRITE) == "2 429"
        waiting = pool.submit(ask, f"{url}/api/v1/query?query=up")
        holds(lambda: not waiting.done(), during=0.3)
        gate.set()
        assert [held.result(HANGS), waiting.result(HANGS)] == ["2 200", "2 200"]


FILE = """\
limits:
- {type: concurrency, value: 2}
- {type: concurrency, value: 1, labels: {team: dev}}
- {type: concurrency, value: 1, scope: total, mode: observe}
"""


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_a_file_limits_tenants_and_tokens_and_a_reload_keeps_the_counts(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key: SigningKey,
    key_file: Path,
    tmp_path: Path,
    lane: str,
) -> None:
    gate = threading.Event()
    upstream.responder = lambda request: Reply(gate=gate if "labels" in request.path else None)
    file = tmp_path / "limits.yaml"
    file.write_text(FILE)
    flags = ("-enable.rateLimit", f"-ratelimit.config={file}", "-maxQueueDuration=0s", f"-lane={lane}")
    gateway = start(start_gateway, upstream, key_file, *flags)
    dev, plain, other = (
        key.mint(tenant(1, 0, extra_labels={"team": "dev"})),
        key.mint(tenant(1, 0)),
        key.mint(tenant(2, 0)),
    )
    query = "/api/v1/query?query=up"
    with ThreadPoolExecutor(2) as pool:
        held = [in_background(pool, gateway.client(dev), "GET", "/api/v1/labels")]
        eventually(lambda: len(upstream.requests) == 1)
        answer = gateway.client(dev).get(query)
        assert (answer.status, answer.header("Retry-After")) == (429, "5")
        told = 'request was rate limited: tenant 1:0, tokens with {team="dev"}, have 1 of 1 concurrent requests'
        assert answer.json() == {"status": "error", "errorType": "too_many_requests", "error": told}
        assert gateway.client(plain).get(query).status == 200
        held.append(in_background(pool, gateway.client(plain), "GET", "/api/v1/labels"))
        eventually(lambda: len(upstream.requests) == 3)
        assert gateway.client(plain).get(query).status == 429
        assert gateway.client(other).get(query).status == 200
        limits = gateway.client(plain).get("/-/me").json()["limits"]
        of_tenant = {"type": "concurrency", "resolution": None, "scope": "1:0", "value": 2, "used": 2}
        assert of_tenant in limits
        assert gateway.metric("vmgateway_tenant_usage", type="concurrency", tenant="1:0", labels="") == 2
        assert gateway.metric("vmgateway_ratelimit_rejects_total", type="concurrency", tenant="1:0") == 2
        assert gateway.metric("vmgateway_ratelimit_observed_total", type="concurrency") == 3
        file.write_text(FILE.replace("value: 2", "value: 3"))
        assert gateway.client().get("/-/reload").status == 200
        eventually(lambda: gateway.client(plain).get(query).status == 200)
        assert gateway.metric("vmgateway_tenant_usage", type="concurrency", tenant="1:0", labels="") == 2
        gate.set()
        assert [answer.result(HANGS).status for answer in held] == [200, 200]
    eventually(lambda: gateway.metric("vmgateway_concurrent_requests_current") == 0)
    assert gateway.client(dev).get(query).status == 200
