"""Identity providers that misbehave, all at once beside good ones: good tokens go on working, and no fetch storm."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.support.oracle.requests import Request
from tests.support.oracle.single_node import Asker
from tests.support.wire.processes import Gateway
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import HANG_UP, ReceivedRequest, RecordingUpstream, Reply, never
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

QUERY = Request(method="GET", target="/api/v1/query?query=up")


def jwks(*keys: SigningKey, extra: tuple[object, ...] = ()) -> bytes:
    return json.dumps({"keys": [*extra, *(key.public_jwk for key in keys)]}).encode()


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 65536


BAD_KEYS: tuple[object, ...] = (
    {"kty": "oct", "k": "AAAA", "kid": "x"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "EC", "crv": "P-256"},
    {"kty": "RSA", "n": "A" * 200_000, "e": "AQAB", "kid": "huge"}, {"kty": 7}, "no object", None, [], {},
)  # fmt: skip


class Provider:
    """One good document, and bad ones by path. Counts what is fetched."""

    def __init__(self, good: Callable[[], bytes]) -> None:
        self.server = RecordingUpstream(self._respond)
        self.bad: dict[str, Callable[[], Reply]] = {
            "/redirect": lambda: Reply(status=302, headers=(("Location", f"{self.server.url}/trap"),)),
            "/never": never,
            "/endless": lambda: Reply(body=endless()),
            "/empty": lambda: Reply(body=b""),
            "/empty-set": lambda: Reply(body=b'{"keys":[]}'),
            "/nested": lambda: Reply(body=b'{"keys":' + b"[" * 100_000),
            "/bomb": lambda: Reply(
                headers=(("Content-Encoding", "gzip"),), body=gzip.compress(bytes(64 << 20), compresslevel=1)
            ),
            "/hang-up": lambda: HANG_UP,
            "/html": lambda: Reply(body=b"<html>Sign in</html>"),
        }
        self._good = good

    def _respond(self, request: ReceivedRequest) -> Reply:
        bad = self.bad.get(request.path)
        return Reply(body=self._good()) if bad is None else bad()

    def fetches(self) -> Counter[str]:
        return Counter(request.path for request in self.server.requests)


@pytest.fixture
def start(start_gateway: StartGateway, upstream: RecordingUpstream) -> Callable[..., Gateway]:
    def started(*flags: str) -> Gateway:
        return start_gateway("-enable.auth", f"-read.url={upstream.url}", *flags)

    return started


def test_bad_providers_beside_a_good_one(start: Callable[..., Gateway]) -> None:
    good, attacker = (SigningKey.generate("ES256", kid=kid) for kid in ("good", "attacker"))
    provider = Provider(lambda: jwks(good, extra=BAD_KEYS))
    with provider.server as server:
        urls = ",".join(f"{server.url}{path}" for path in ("/good", *provider.bad))
        gateway = start(f"-auth.jwksEndpoints={urls}")
        with Asker(gateway.port) as asker:
            gateway.wait_until(lambda: asker.ask(QUERY, good.mint()).status == 200, what="has the good key")
            gateway.wait_until(lambda: len(provider.fetches()) == 10, what="has asked all")
            memory = gateway.rss()
            # A flood of keys that nobody knows: every endpoint may be asked once more in ten seconds, not per token.
            before, start_of_flood = provider.fetches(), time.monotonic()
            for number in range(300):
                named = SigningKey(algorithm="ES256", key=attacker.key, kid=f"unknown-{number}")
                assert asker.ask(QUERY, named.mint()).status == 401
                if number % 30 == 0:
                    assert asker.ask(QUERY, good.mint(FULL, sub=str(number))).status == 200
            rounds = 2 + int((time.monotonic() - start_of_flood) / 10)
            for path, count in (provider.fetches() - before).items():
                assert count <= rounds, path
        assert "/trap" not in provider.fetches(), "a redirect was followed"
        assert gateway.metric("vmgateway_keys_loaded") == 1
        assert gateway.rss() - memory < 24 << 20


def test_rotation_under_load_refuses_no_good_token(start: Callable[..., Gateway]) -> None:
    """A provider shows old and new key for a while: a token signed with either is good all the time."""
    keys = [SigningKey.generate("ES256", kid="0")]
    provider = Provider(lambda: jwks(*keys[-2:]))
    stopping, statuses = threading.Event(), Counter[int]()
    with provider.server as server:
        gateway = start(f"-auth.jwksEndpoints={server.url}/good", "-auth.keysRefreshInterval=1s")
        gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")

        def load() -> None:
            with Asker(gateway.port) as asker:
                number = 0
                while not stopping.wait(0.002):
                    number += 1
                    statuses[asker.ask(QUERY, current[0].mint(FULL, sub=str(number % 5))).status] += 1

        current = [keys[0]]
        client = threading.Thread(target=load)
        client.start()
        try:
            for number in range(1, 4):
                keys.append(SigningKey.generate("ES256", kid=str(number)))
                fetched = provider.fetches()["/good"]
                eventually(lambda before=fetched: provider.fetches()["/good"] > before + 1, what="fetches the new key")  # type: ignore[misc]
                current[0] = keys[-1]
                asked = statuses[200]
                eventually(lambda before=asked: statuses[200] > before + 20, what="uses the new key")  # type: ignore[misc]
        finally:
            stopping.set()
            client.join()
    assert set(statuses) == {200}
    assert gateway.client(keys[0].mint()).get("/api/v1/labels").status == 401, "the first key is gone"
