"""Several backends for one kind of access: shares, failures, and what is never sent twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Program, auth_flags, free_port
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import HANG_UP, ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually
from tests.wire.conftest import StartGateway

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WRITE = "/api/v1/import/prometheus"


@pytest.fixture
def pair() -> Iterator[tuple[RecordingUpstream, RecordingUpstream]]:
    with RecordingUpstream() as first, RecordingUpstream() as second:
        yield first, second


@pytest.fixture
def start_one(start_gateway: StartGateway, key_file: Path) -> StartGateway:
    """Takes the backends' URLs, with commas between them, and flags."""
    return lambda urls, *flags, **options: start_gateway(
        *auth_flags(urls, key_file), "-failTimeout=200ms", *flags, **options
    )


@pytest.fixture
def start(start_one: StartGateway, program: Program) -> StartGateway:
    """The same, by each of the programs."""
    return lambda *urls_and_flags: start_one(*urls_and_flags, program=program)


def asked(upstream: RecordingUpstream, path: str = "") -> list[ReceivedRequest]:
    """What clients asked there: the gateway's own probes aside."""
    return [request for request in upstream.requests if not request.target.endswith("/health") and path in request.path]


def test_requests_are_shared_and_each_backend_has_its_own_credentials_and_path(
    start: StartGateway, pair: tuple[RecordingUpstream, RecordingUpstream], key: SigningKey
) -> None:
    first, second = pair
    urls = f"{first.url.replace('//', '//me:first@')}/one,{second.url.replace('//', '//me:second@')}/two"
    gateway = start(urls)
    client = gateway.client(key.mint())
    for _ in range(6):
        assert client.get("/api/v1/query?query=up").status == 200
        assert client.post(WRITE, body="m 1").status == 200
    for upstream, base, pair_of in ((first, "/one", "bWU6Zmlyc3Q="), (second, "/two", "bWU6c2Vjb25k")):
        received = asked(upstream)
        assert len(received) == 6
        assert {request.path for request in received} <= {base + "/api/v1/query", base + WRITE}
        for request in received:
            assert request.header("Authorization") == [f"Basic {pair_of}"]
            assert request.header("Host") == [f"127.0.0.1:{upstream.port}"]
    page = gateway.client().get("/metrics").text
    assert "first@" not in page
    assert "second@" not in page
    for url in (f"{first.url}/one", f"{second.url}/two"):
        assert gateway.metric("vmgateway_backend_up", side="read", url=url) == 1
        assert gateway.metric("vmgateway_backend_requests_total", url=url) == 6
        assert gateway.metric("vmgateway_backend_duration_seconds_count", url=url) == 6
    assert gateway.metric("vmgateway_backend_errors_total") == 0
    eventually(lambda: gateway.metric("vmgateway_backend_concurrent_requests") == 0)


def test_the_least_loaded_backend_is_asked(
    start_one: StartGateway, pair: tuple[RecordingUpstream, RecordingUpstream], key: SigningKey
) -> None:
    slow, quick = pair
    gate = threading.Event()
    slow.responder = lambda _: Reply(gate=gate)
    gateway = start_one(f"{slow.url},{quick.url}")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(gateway.client(key.mint()).get, "/api/v1/labels")
        eventually(lambda: slow.requests, what="the first request is under way")
        client = gateway.client(key.mint())
        for _ in range(6):
            assert client.get("/api/v1/query?query=up").status == 200
        gate.set()
        assert held.result(HANGS).status == 200
    assert len(asked(slow)) == 1
    assert len(asked(quick)) == 6


@pytest.mark.smoke
def test_a_request_that_cannot_be_connected_goes_to_another_backend(
    start: StartGateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    dead = free_port()
    gateway = start(f"http://127.0.0.1:{dead}/dead,{upstream.url}/alive")
    client = gateway.client(key.mint())
    body = "m 1\n" * 100_000
    assert client.post(WRITE, body=body).status == 200
    for _ in range(3):
        assert client.post("/api/v1/query", body="query=up", headers=FORM).status == 200
    assert [request.path for request in asked(upstream)] == ["/alive" + WRITE, *["/alive/api/v1/query"] * 3]
    assert upstream.requests[0].body_size == len(body)
    assert {tuple(request.header("Host")) for request in asked(upstream)} == {(f"127.0.0.1:{upstream.port}",)}
    assert gateway.metric("vmgateway_backend_up", side="write", url=f"http://127.0.0.1:{dead}/dead") == 0
    assert gateway.metric("vmgateway_backend_up", side="write", url=f"{upstream.url}/alive") == 1


def test_one_that_was_set_aside_comes_back_without_a_client_noticing(
    start_one: StartGateway, pair: tuple[RecordingUpstream, RecordingUpstream], key: SigningKey
) -> None:
    first, second = pair
    first.refuse()
    gateway = start_one(f"{first.url},{second.url}")
    client = gateway.client(key.mint())
    for _ in range(4):
        assert client.get("/api/v1/labels").status == 200
    assert len(asked(second)) == 4
    first.responder = lambda request: Reply(status=503 if len(first.requests) < 2 else 200)
    first.listen()
    eventually(lambda: len(first.requests) >= 2, what="it is probed until it is well")
    assert {request.target for request in first.requests} == {"/health"}
    eventually(lambda: gateway.metric("vmgateway_backend_up", side="read", url=first.url) == 1)
    for _ in range(4):
        assert client.get("/api/v1/labels").status == 200
    assert len(asked(first)) == 2


def test_how_long_a_backend_is_set_aside(
    start_one: StartGateway, pair: tuple[RecordingUpstream, RecordingUpstream], key: SigningKey
) -> None:
    """One gateway has many chances to look at it, and the other none."""
    fails, works = pair
    fails.responder = lambda request: HANG_UP if "labels" in request.path else Reply(status=503)
    gateways = {}
    for name, pause in (("soon", "100ms"), ("late", "1h")):
        urls = f"{fails.url}/{name},{works.url}/{name}"
        gateways[name] = start_one(urls, f"-failTimeout={pause}")
    for gateway in gateways.values():
        client = gateway.client(key.mint())
        assert [client.get("/api/v1/labels").status for _ in range(4)] == [200] * 4

    def probes(name: str) -> int:
        return sum(request.path == f"/{name}/health" for request in fails.requests)

    eventually(lambda: probes("soon") >= 5, what="is probed again and again")
    fails.responder = lambda _: Reply()
    url = f"{fails.url}/soon"
    eventually(lambda: gateways["soon"].metric("vmgateway_backend_up", side="read", url=url) == 1)
    seen = probes("soon")
    assert gateways["late"].metric("vmgateway_backend_up", side="read", url=f"{fails.url}/late") == 0
    assert gateways["late"].client(key.mint()).get("/api/v1/labels").status == 200
    assert len(asked(fails, "/late/")) == 1
    assert probes("late") == 0
    assert probes("soon") == seen, "once it is back it is no longer probed"


def test_only_a_get_without_a_body_is_sent_again_and_only_once(
    start: StartGateway, pair: tuple[RecordingUpstream, RecordingUpstream], key: SigningKey
) -> None:
    """Both hang up on the head: whatever comes has to be counted by what arrives."""
    for upstream in pair:
        upstream.responder = lambda _: HANG_UP
    gateway = start(f"{pair[0].url},{pair[1].url}")
    for method, path, body, times in (
        ("GET", "/api/v1/labels", None, 2),
        ("POST", "/api/v1/query", "query=up", 1),
        ("POST", WRITE, "m 1", 1),
    ):
        assert gateway.client(key.mint()).ask(method, path, body=body, headers=FORM).status == 502
        assert sum(len(asked(upstream, path)) for upstream in pair) == times, path


def test_a_get_that_one_backend_hung_up_on_is_answered_by_the_other(
    start: StartGateway, pair: tuple[RecordingUpstream, RecordingUpstream], key: SigningKey
) -> None:
    bad, good = pair
    bad.responder = lambda _: HANG_UP
    gateway = start(f"{bad.url},{good.url}")
    client = gateway.client(key.mint())
    for _ in range(5):
        assert client.get("/api/v1/labels").status == 200
    assert len(asked(bad)) == 1, "then it was set aside: it does not answer probes either"


def test_a_backend_killed_under_load(start: StartGateway, key: SigningKey) -> None:
    """No read is lost. A write that fails was cut off, and no write arrives twice."""
    with RecordingUpstream() as stays, RecordingUpstream() as dies:
        gateway = start(f"{dies.url},{stays.url}")
        stop = threading.Event()
        token = key.mint()

        def load(number: int) -> list[tuple[str, int]]:
            client = gateway.client(token)
            answers: list[tuple[str, int]] = []
            while not stop.is_set():
                name = f"w{number}_{len(answers)}"
                answers.append(("read", client.get("/api/v1/labels").status))
                answers.append((name, client.post(WRITE, body=f"{name} 1").status))
            return answers

        with ThreadPoolExecutor(4) as pool:
            loads = [pool.submit(load, number) for number in range(4)]
            eventually(lambda: len(asked(dies)) > 20 and len(asked(stays)) > 20)
            port = dies.port
            dies.stop()
            seen = len(asked(stays))
            eventually(lambda: len(asked(stays)) > seen + 40)
            with RecordingUpstream(port=port) as again:
                eventually(lambda: len(asked(again)) > 20, what="it gets its share again")
                stop.set()
                answers = [answer for each in loads for answer in each.result(HANGS)]
                written = [request for each in (stays, dies, again) for request in asked(each, WRITE)]
    assert {status for kind, status in answers if kind == "read"} == {200}
    assert {status for _, status in answers} <= {200, 502}
    arrived = [request.body for request in written if request.complete]
    assert len(arrived) == len(set(arrived))
    assert {f"{name} 1".encode() for name, status in answers if status == 200 and name != "read"} <= set(arrived)


def test_tls_to_each_of_several(
    start_gateway: StartGateway, key: SigningKey, key_file: Path, authority: Authority, program: Program
) -> None:
    context = authority.server_context(authority.issue("backend.test"))
    other = authority.server_context(authority.issue("backend.test"))
    with RecordingUpstream(tls=context) as first, RecordingUpstream(tls=other) as second:
        flags = (f"-read.tlsCAFile={authority.cert}", "-read.tlsServerName=backend.test")
        urls = (f"-read.url={first.url}", f"-read.url={second.url}")
        gateway = start_gateway("-enable.auth", *urls, *flags, f"-auth.publicKeyFiles={key_file}", program=program)
        for _ in range(4):
            assert gateway.client(key.mint()).get("/api/v1/labels").status == 200
        assert [len(asked(upstream)) for upstream in (first, second)] == [2, 2]


def test_backends_are_asked_for_compressed_answers_only_without_the_flag(
    start_one: StartGateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    for flags, expected in (((), ["gzip"]), (("-http.disableResponseCompression",), [])):
        gateway = start_one(upstream.url, *flags)
        upstream.forget()
        answer = gateway.client(key.mint()).get("/api/v1/labels", headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200
        assert upstream.requests[0].header("Accept-Encoding") == expected
