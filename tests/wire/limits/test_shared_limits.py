"""Limits that workers share, and replicas through a real Redis, in both lanes: what clients get, and the backend."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.wire.client import Answer, Client
from tests.support.wire.processes import Gateway, children
from tests.support.wire.servers import Redis
from tests.support.wire.tokens import SigningKey, tenant
from tests.support.wire.upstream import RecordingUpstream

QUERY = "/api/v1/query?query=up"
IMPORT = "/api/v1/import/prometheus"


class Deployment:
    """Some processes that share limits. Each request goes over a connection of its own, to the next replica."""

    def __init__(self, gateways: list[Gateway], token: str, redis: Redis | None) -> None:
        self.gateways, self.redis = gateways, redis
        self.clients = itertools.cycle([gateway.client(token) for gateway in gateways])

    @property
    def client(self) -> Client:
        return next(self.clients)

    def query(self) -> Answer:
        return self.client.get(QUERY)

    @staticmethod
    def rows(number: int, size: int = 0) -> bytes:
        """So many rows with a label of ``size`` bytes or a few more."""
        return b"".join(b'm{n="%d%s"} 1\n' % (row, b"x" * size) for row in range(number))

    def write(self, rows: int, *, chunked: bool = False, size: int = 0) -> Answer:
        body = self.rows(rows, size)
        pieces = [body[begin : begin + 50_000] for begin in range(0, len(body), 50_000)]
        return self.client.post(IMPORT, body=iter(pieces) if chunked else body)


Start = Callable[[str], Deployment]


@pytest.fixture(params=["fast", "flow"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["workers", "replicas"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(
    kind: str, lane: str, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(limits: str) -> Deployment:
            file = tmp_path / "limits.yaml"
            file.write_text(f"limits: [{limits}]")
            flags = [
                "-enable.auth",
                f"-auth.publicKeyFiles={key_file}",
                "-clusterMode",
                f"-read.url={upstream.url}",
                f"-write.url={upstream.url}",
                "-enable.rateLimit",
                f"-ratelimit.config={file}",
                f"-lane={lane}",
            ]
            redis = None
            if kind == "workers":
                gateways = [stack.enter_context(Gateway(*flags, "-workers=2"))]
                gateways[0].wait_until(lambda: gateways[0].log().count("listens on") == 2, what="both listen")
            else:
                redis = stack.enter_context(Redis())
                gateways = [stack.enter_context(Gateway(*flags, f"-ratelimit.storage={redis.url}")) for _ in range(2)]
            for gateway in gateways:
                gateway.wait_until(lambda g=gateway: g.metric("vmgateway_ratelimit_replicas") >= 2, what="both meet")  # type: ignore[misc]
            return Deployment(gateways, key.mint(tenant(1, 5)), redis)

        yield start


@pytest.mark.smoke
def test_ten_queries_are_ten_queries(start: Start, upstream: RecordingUpstream) -> None:
    deployment = start("{type: queries, value: 10}")
    answers = [deployment.query() for _ in range(14)]
    assert [answer.status for answer in answers] == [200] * 10 + [429] * 4
    assert len(upstream.requests) == 10
    text = "request was rate limited: tenant 1:5 has used 10 of 10 queries per minute"
    assert answers[-1].json()["error"] == text
    assert 50 <= int(answers[-1].header("Retry-After") or 0) <= 61


def test_rows_below_the_limit_pass_whichever_process_they_meet(start: Start, upstream: RecordingUpstream) -> None:
    deployment = start("{type: rows_inserted, value: 1000}, {type: queries, value: 5}")
    assert deployment.write(600).status == 200
    assert deployment.write(300, chunked=True).status == 200
    refused = deployment.write(300)
    assert refused.status == 429
    assert "has used 9" in refused.json()["error"]
    assert [len(request.body.splitlines()) for request in upstream.requests] == [600, 300]


def test_a_large_body_goes_on_after_its_rows_were_granted(start: Start, upstream: RecordingUpstream) -> None:
    deployment = start("{type: rows_inserted, value: 100000}")
    for chunked in (True, False):
        assert deployment.write(3000, chunked=chunked, size=1000).status == 200
    sent = sha256(Deployment.rows(3000, size=1000)).hexdigest()
    assert [request.body_sha256 for request in upstream.requests if request.complete] == [sent, sent]


def test_a_large_body_is_cut_off_in_the_middle_if_its_rows_are_too_many(
    start: Start, upstream: RecordingUpstream
) -> None:
    deployment = start("{type: rows_inserted, value: 4000}")
    assert deployment.write(3000).status == 200
    assert deployment.write(3000, chunked=True, size=1000).status == 429
    whole = [request.body for request in upstream.requests if request.complete]
    assert whole == [Deployment.rows(3000)]
    assert deployment.write(10).status == 200, "what was refused does not count"


def test_many_clients_at_once_get_the_limit_and_no_more(start: Start, upstream: RecordingUpstream) -> None:
    deployment = start("{type: queries, value: 200}")
    seen: list[int] = []

    def work() -> None:
        seen.extend(deployment.query().status for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {200, 429}
    assert 190 <= seen.count(200) <= 200
    assert len(upstream.requests) == seen.count(200)


def test_a_killed_process_takes_nothing_away_and_gives_nothing_back(start: Start, upstream: RecordingUpstream) -> None:
    deployment = start("{type: queries, value: 200}")
    assert [deployment.query().status for _ in range(100)] == [200] * 100
    gateway = deployment.gateways[0]
    if len(deployment.gateways) == 1:
        workers = children(gateway.pid)
        os.kill(workers[0], signal.SIGKILL)
        gateway.wait_until(lambda: len(set(children(gateway.pid)) - set(workers)) == 1, what="starts another worker")
        gateway.wait_until(lambda: gateway.log().count("listens on") == 3, what="the new worker listens")
    else:
        gateway.kill()
        gateway.start()
    statuses = [deployment.query().status for _ in range(150)]
    assert 90 <= statuses.count(200) <= 100
    assert set(statuses) == {200, 429}
    assert len(upstream.requests) == 100 + statuses.count(200)


@pytest.mark.parametrize("kind", ["replicas"], indirect=True)
def test_redis_is_killed_under_load(start: Start, upstream: RecordingUpstream) -> None:
    """Nobody sees an error but 429, the sum is at most a tenth beyond the limit, and nothing is forgotten."""
    deployment = start("{type: queries, value: 100}")
    redis = deployment.redis
    assert redis is not None
    assert [deployment.query().status for _ in range(50)] == [200] * 50
    redis.kill()
    during = [deployment.query().status for _ in range(120)]
    assert set(during) == {200, 429}
    assert 45 <= during.count(200) <= 60
    redis.start()
    for gateway in deployment.gateways:
        gateway.wait_for_log("counts are exchanged with other replicas again")
    assert {deployment.query().status for _ in range(20)} == {429}
    assert len(upstream.requests) == 50 + during.count(200)
