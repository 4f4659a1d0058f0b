"""A new key of a provider is fetched while the first request that names it waits: a rotation refuses nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient
from tests.support.wire.servers import OidcProvider
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

PATH = "/api/v1/labels"


class Provider:
    """A key set that can be rotated, and answers when its gate is open."""

    def __init__(self, server: RecordingUpstream) -> None:
        self.server = server
        self.keys = [SigningKey.generate(kid="first")]
        self.gate: threading.Event | None = None
        server.responder = self.respond

    def respond(self, request: ReceivedRequest) -> Reply:
        return Reply(body=json.dumps({"keys": [key.public_jwk for key in self.keys]}).encode(), gate=self.gate)

    def rotate(self) -> SigningKey:
        self.keys = [SigningKey.generate(kid=f"key {len(self.server.requests)}")]
        return self.keys[0]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with RecordingUpstream() as server:
        yield Provider(server)


@pytest.fixture(params=["fast", "flow"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(start_gateway: StartGateway, upstream: RecordingUpstream, lane: str) -> Callable[..., Gateway]:
    """A gateway with keys, that no interval fetches, and that may fetch them anew because of a token."""

    def started(*flags: str) -> Gateway:
        flags = ("-enable.auth", f"-read.url={upstream.url}", f"-write.url={upstream.url}", *flags)
        gateway = start_gateway(*flags, f"-lane={lane}", "-auth.keysRefreshInterval=1h")
        gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")
        return gateway

    return started


@pytest.mark.smoke
def test_the_first_request_with_a_new_key_is_served(
    start: Callable[..., Gateway], provider: Provider, upstream: RecordingUpstream
) -> None:
    gateway = start(f"-auth.jwksEndpoints={provider.server.url}")
    old = provider.keys[0].mint()
    assert gateway.client(old).get(PATH).status == 200
    new = provider.rotate()
    fetches = len(provider.server.requests)
    with ThreadPoolExecutor(10) as pool:
        tokens = [new.mint(sub=str(number)) for number in range(10)]
        statuses = list(pool.map(lambda token: gateway.client(token).post(PATH).status, tokens))
    assert statuses == [200] * 10
    assert len(provider.server.requests) == fetches + 1
    assert len(upstream.requests) == 11
    assert gateway.client(old).get(PATH).status == 401


def test_a_body_that_arrives_meanwhile_is_kept(
    start: Callable[..., Gateway], provider: Provider, upstream: RecordingUpstream
) -> None:
    gateway = start(f"-auth.jwksEndpoints={provider.server.url}")
    new = provider.rotate()
    provider.gate = threading.Event()
    fetches = len(provider.server.requests)
    rows = b"".join(b"row_%d 1\n" % number for number in range(20_000))
    with RawClient(gateway.port) as client:
        head = f"POST /api/v1/import/prometheus HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {new.mint()}\r\n"
        client.send(f"{head}Content-Length: {len(rows)}\r\n\r\n".encode() + rows[:1000])
        gateway.wait_until(lambda: len(provider.server.requests) > fetches, what="fetches the key")
        assert upstream.requests == []
        provider.gate.set()
        client.send(rows[1000:])
        assert client.receive_answer()[0] == 200
    assert upstream.requests[0].body == rows


def test_an_upload_is_not_read_while_its_key_is_awaited(start: Callable[..., Gateway], provider: Provider) -> None:
    gateway = start(f"-auth.jwksEndpoints={provider.server.url}")
    new = provider.rotate()
    provider.gate = threading.Event()
    memory = gateway.rss()
    with RawClient(gateway.port, timeout=0.3) as client:
        head = f"POST /api/v1/import/prometheus HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {new.mint()}\r\n"
        client.send(f"{head}Content-Length: {1 << 30}\r\n\r\n".encode())
        sent = client.send_until_refused(b"x" * 65536, 256 << 20)
    assert sent < 64 << 20
    assert gateway.rss() - memory < 24 << 20
    provider.gate.set()


@pytest.mark.parametrize("hangs", [False, True], ids=["has no such key", "hangs"])
def test_unknown_keys_are_refused_in_time_and_cause_no_more_fetches(
    start: Callable[..., Gateway], provider: Provider, upstream: RecordingUpstream, hangs: bool
) -> None:
    gateway = start(f"-auth.jwksEndpoints={provider.server.url}")
    good = provider.keys[0].mint()
    if hangs:
        provider.gate = threading.Event()
    fetches = len(provider.server.requests)
    forged = [SigningKey.generate(kid=f"unknown {number}").mint() for number in range(60)]
    with ThreadPoolExecutor(60) as pool:
        pending = [pool.submit(lambda token=token: gateway.client(token).get(PATH).status) for token in forged]  # type: ignore[misc]
        assert gateway.client(good).get(PATH).status == 200
        assert {each.result() for each in pending} == {401}
    assert len(provider.server.requests) == fetches + 1
    assert len(upstream.requests) == 1
    assert gateway.metric("vmgateway_background_task_errors_total") == 0


def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(
    start: Callable[..., Gateway], provider: Provider, upstream: RecordingUpstream
) -> None:
    gateway = start(f"-auth.jwksEndpoints={provider.server.url}", "-maxConcurrentRequests=1", "-accessLog")
    new = provider.rotate()
    provider.gate = threading.Event()
    fetches = len(provider.server.requests)
    with RawClient(gateway.port) as client:
        client.send(f"GET {PATH}?gone HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {new.mint()}\r\n\r\n".encode())
        gateway.wait_until(lambda: len(provider.server.requests) > fetches, what="fetches the key")
    gateway.wait_for_log(r"access\trequest .*verdict=(failed|refused) .*")
    provider.gate.set()
    gateway.wait_until(lambda: gateway.client(new.mint()).get(PATH).status == 200, what="serves the next request")
    assert [request.target for request in upstream.requests] == [PATH]


def test_a_rotation_of_a_real_provider_with_several_workers(start: Callable[..., Gateway], oidc: OidcProvider) -> None:
    with OidcProvider({"admin": FULL}) as provider:
        gateway = start(f"-auth.oidcDiscoveryEndpoints={provider.discovery_url}", "-workers=2")
        old = provider.token("admin")
        gateway.wait_until(
            lambda: all(gateway.client(old).get(PATH).status == 200 for _ in range(20)), what="has keys in each worker"
        )
        provider.rotate()
        new = provider.token("admin")
        # A connection each, so both workers get some.
        assert [gateway.client(new).get(PATH).status for _ in range(20)] == [200] * 20
