"""What the gateway depends on is killed, paused and slowed under load, and its disk fills up.

What was admitted is answered or fails clearly, nothing is sent twice, nothing acknowledged is lost, and all comes back
without a restart.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.oracle.requests import Request
from tests.support.oracle.single_node import Asker
from tests.support.wire.processes import Gateway, children
from tests.support.wire.raw import RawClient
from tests.support.wire.relay import Relay
from tests.support.wire.servers import OidcProvider, Redis, VictoriaMetrics
from tests.support.wire.tokens import FULL, SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

QUERY = Request(method="GET", target="/api/v1/query?query=up")
LANES = pytest.mark.parametrize("lane", ["fast", "flow"])


class Load:
    """Clients that write numbered rows and read, until the load is over; what each was answered."""

    def __init__(self, port: int, token: str, request: Callable[[int], Request], clients: int = 3) -> None:
        self.answers: dict[int, int] = {}
        """Status by number; 0 where the connection broke off without an answer."""
        self.odd: list[bytes] = []
        """What was no single answer, and errors that say nothing."""
        self._port = port
        self._token = token
        self._request = request
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n, clients)) for n in range(clients)]

    def _run(self, number: int, step: int) -> None:
        while not self._stopping.wait(0.002):
            # A connection each: a broken one is then this request's, and nothing is sent again by the client.
            request = self._request(number)
            closing = replace(request, headers=(*request.headers, ("Connection", "close")))
            answer = b""
            with contextlib.suppress(OSError), RawClient(self._port) as client:
                answer = client.send(closing.wire(self._token)).receive_all()
            self.answers[number] = status = int(answer.split(b" ", 2)[1]) if answer else 0
            if answer.count(b"HTTP/1.1 ") > 1 or (status >= 500 and b'"status":"error"' not in answer):
                self.odd.append(answer)
            number += step

    def statuses(self) -> Counter[int]:
        return Counter(list(self.answers.values()))

    def more(self, status: int, count: int = 15) -> None:
        """Wait until that many more are answered so."""
        before = self.statuses()[status]
        eventually(lambda: self.statuses()[status] >= before + count, what=f"{count} more of {status}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def row(number: int) -> Request:
    return Request(method="POST", target="/api/v1/import/prometheus", body=b"row%d 1\n" % number)


def read(_: int) -> Request:
    return QUERY


def accounts(load: Load, upstream: RecordingUpstream, failures: set[int]) -> None:
    """Each row arrived at most once, each acknowledged one did, whole, and each request has one answer at most."""
    arrived = Counter(int(found[1]) for one in upstream.requests if (found := re.match(rb"row(\d+) 1\n$", one.body)))
    assert [number for number, times in arrived.items() if times > 1] == [], "sent twice"
    acknowledged = {number for number, status in load.answers.items() if status == 204}
    assert acknowledged - set(arrived) == set(), "acknowledged and lost"
    assert set(load.statuses()) <= {204} | failures
    assert load.odd == []


@pytest.fixture
def writes_to(start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path) -> Callable[..., Gateway]:
    upstream.responder = lambda _: Reply(status=204, headers=(), body=b"")

    def start(*flags: str) -> Gateway:
        urls = (f"-read.url={upstream.url}", f"-write.url={upstream.url}")
        return start_gateway("-enable.auth", f"-auth.publicKeyFiles={key_file}", *urls, *flags)

    return start


@LANES
def test_a_backend_that_crashes_again_and_again(
    writes_to: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, lane: str
) -> None:
    gateway = writes_to(f"-lane={lane}")
    with Load(gateway.port, key.mint(), row) as load:
        for _ in range(3):
            load.more(204)
            upstream.crash()
            load.more(502)
            upstream.listen()
        load.more(204)
    accounts(load, upstream, {502})


@LANES
def test_a_backend_that_resets_each_connection_at_once(
    writes_to: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, lane: str
) -> None:
    """Often before the gateway has asked the kernel who its peer is."""
    gateway = writes_to(f"-lane={lane}")
    upstream.reset_on_accept = True
    with Load(gateway.port, key.mint(), read) as load:
        load.more(502, 300)
        upstream.reset_on_accept = False
        load.more(204)
    assert set(load.statuses()) == {204, 502}
    gateway.wait_until(lambda: gateway.fds() < 40, what="keeps nothing of it")


def test_a_worker_that_is_killed(
    writes_to: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey
) -> None:
    gateway = writes_to("-workers=2")
    gateway.wait_until(lambda: gateway.log().count("listens on") == 2, what="both workers listen")
    with Load(gateway.port, key.mint(), row) as load:
        for _ in range(2):
            load.more(204)
            before = set(children(gateway.pid))
            os.kill(min(before), signal.SIGKILL)
            gateway.wait_until(lambda b=before: len(set(children(gateway.pid)) - b) == 1, what="replaces it")  # type: ignore[misc]
        load.more(204)
    accounts(load, upstream, {0})  # a connection to the one that was killed breaks off


@LANES
def test_a_backend_that_is_paused_and_killed(
    start_gateway: StartGateway, key: SigningKey, key_file: Path, lane: str
) -> None:
    with VictoriaMetrics() as backend:
        flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={backend.url}", f"-lane={lane}")
        gateway = start_gateway(*flags, "-backend.responseTimeout=500ms", "-backend.connectTimeout=500ms")
        with Load(gateway.port, key.mint(), read) as load:
            load.more(200)
            backend.signal(signal.SIGSTOP)
            load.more(504, 4)
            assert gateway.client().get("/health").status == 200
            backend.signal(signal.SIGCONT)
            load.more(200)
            backend.kill()
            load.more(502)
            backend.start()
            load.more(200)
        assert set(load.statuses()) == {200, 502, 504}
    gateway.wait_until(lambda: gateway.fds() < 40, what="keeps nothing of it")


@contextlib.contextmanager
def paused(*processes: VictoriaMetrics | Redis | OidcProvider) -> Iterator[None]:
    for process in processes:
        process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.signal(signal.SIGCONT)


def test_what_stands_beside_the_way_of_requests_is_paused_and_killed(
    start_gateway: StartGateway, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Datasource, Redis and identity provider, all three at once: requests go on, and each is found again."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 1000000}]")
    with VictoriaMetrics() as source, Redis() as redis, OidcProvider({"admin": FULL}) as provider:
        gateway = start_gateway(
            *("-enable.auth", f"-read.url={upstream.url}", f"-auth.jwksEndpoints={provider.jwks_url}"),
            *("-auth.keysRefreshInterval=1s", "-enable.rateLimit", f"-ratelimit.config={limits}"),
            *(f"-datasource.url={source.url}", "-ratelimit.refreshInterval=200ms", f"-ratelimit.storage={redis.url}"),
        )
        gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")
        # What a provider serves a flood of tokens is not the matter here: one token, many requests.
        with Load(gateway.port, provider.token("admin"), read) as load:
            load.more(200)
            with paused(source, redis, provider):
                load.more(200, 150)
            load.more(200)
            for process in (source, redis, provider):
                process.kill()
            load.more(200, 150)
            for process in (source, redis, provider):
                process.start()
            load.more(200)
            gateway.wait_for_log("usage is refreshed again")
            gateway.wait_for_log("counts are exchanged with other replicas again")
        assert set(load.statuses()) == {200}
        # The provider has new keys behind its restart: they are fetched without anybody's help.
        fresh = provider.token("admin")
        gateway.wait_until(lambda: gateway.client(fresh).get("/api/v1/labels").status == 200, what="has the new keys")


@LANES
def test_a_backend_that_is_slow(start_gateway: StartGateway, key: SigningKey, key_file: Path, lane: str) -> None:
    """Bytes that dribble in both directions, then none at all: late answers, then 504, then all as before."""
    with (
        RecordingUpstream(lambda one: Reply(status=204, headers=(), body=b"")) as upstream,
        Relay(upstream.port) as way,
    ):
        flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-write.url={way.url}", f"-lane={lane}")
        gateway = start_gateway(*flags, "-backend.responseTimeout=1s")
        with Load(gateway.port, key.mint(), row) as load:
            load.more(204)
            way.slow(piece=32, pause=0.01)
            passed = way.slowed
            load.more(204)
            assert way.slowed > passed + 15
            for _ in range(2):
                way.stall()
                load.more(504, 4)
                assert gateway.client().get("/health").status == 200
                way.fast()
                load.more(204)
        # What had been given up may arrive later, once.
        eventually(lambda: all(one.complete for one in upstream.requests), what="whatever was sent has arrived")
        accounts(load, upstream, {504})
        gateway.wait_until(lambda: gateway.fds() < 40, what="keeps nothing of it")


def test_what_stands_beside_the_way_of_requests_is_slow(
    start_gateway: StartGateway, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Datasource, Redis and identity provider: requests go on, limits hold, and nobody has to help it back."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 1000000}, {type: queries, value: 30, account_id: 7}]")
    with contextlib.ExitStack() as stack:
        source, redis = stack.enter_context(VictoriaMetrics()), stack.enter_context(Redis())
        provider = stack.enter_context(OidcProvider({"admin": FULL, "seven": tenant(7)}))
        ways = [stack.enter_context(Relay(server.port)) for server in (source, redis, provider)]
        storage = redis.url.replace(f":{redis.port}/", f":{ways[1].port}/")
        gateway = start_gateway(
            *("-enable.auth", f"-read.url={upstream.url}", f"-auth.jwksEndpoints={ways[2].url}/jwks"),
            *("-auth.keysRefreshInterval=1s", "-enable.rateLimit", f"-ratelimit.config={limits}"),
            *(f"-datasource.url={ways[0].url}", "-ratelimit.refreshInterval=200ms", f"-ratelimit.storage={storage}"),
        )
        gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")
        admin, seven = provider.token("admin"), provider.token("seven")
        with Load(gateway.port, admin, read) as load:
            load.more(200)
            for way in ways:
                way.slow(piece=1, pause=0.02)
            gateway.wait_for_log("cannot exchange counts")
            with Asker(gateway.port) as asker:
                asked = [asker.ask(QUERY, seven).status for _ in range(40)]
            assert asked == [200] * 30 + [429] * 10
            load.more(200, 150)
            assert all(way.slowed > 10 for way in ways)
            for way in ways:
                way.fast()
            gateway.wait_for_log("counts are exchanged with other replicas again")
            load.more(200)
        assert set(load.statuses()) == {200}
        assert load.odd == []
        ways[2].slow(piece=64, pause=0.02)
        provider.rotate()
        fresh = provider.token("admin")
        gateway.wait_until(lambda: gateway.client(fresh).get("/api/v1/labels").status == 200, what="has the new keys")


@LANES
def test_a_disk_that_is_full(
    writes_to: Callable[..., Gateway], upstream: RecordingUpstream, key: SigningKey, tmp_path: Path, lane: str
) -> None:
    """No file may grow any more, neither the log nor a capture: requests go on, and it comes back."""
    flags = ["-accessLog", f"-lane={lane}", "-logInvalidAuthTokens"]
    if lane == "flow":
        flags.append(f"-capture.file={tmp_path / 'capture.flows'}")
    gateway = writes_to(*flags)
    with Load(gateway.port, key.mint(), row) as load, Asker(gateway.port) as kept:
        load.more(204)
        size = (gateway.directory / "log").stat().st_size
        _, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (1, hard))
        load.more(204, 50)
        for _ in range(5):  # on one connection: the answer before must not be the last
            assert kept.ask(row(-1), key.mint()).status == 204
            assert kept.ask(QUERY, "no token").status == 401
        gateway.wait_until(
            lambda: gateway.metric("vmgateway_access_log_lost_lines_total") >= 50, what="counts the lines it lost"
        )
        assert (gateway.directory / "log").stat().st_size < size + 20_000
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (hard, hard))
        length = len(gateway.log())
        load.more(204)
        gateway.wait_for_log("verdict=admitted|admitted", behind=length)
    upstream.requests[:] = [one for one in upstream.requests if not one.body.startswith(b"row-1 ")]
    accounts(load, upstream, set())
