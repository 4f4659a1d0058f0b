"""Tokens made to get in, or to keep the gateway busy: refused at a bounded cost, and no backend hears of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.support.oracle.requests import Request
from tests.support.oracle.single_node import Asker
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import RecordingUpstream

QUERY = Request(method="GET", target="/api/v1/query?query=up")
LONG_NUMBER = "9" * 4000


@pytest.fixture(scope="module", params=["fast", "flow"])
def served(request: pytest.FixtureRequest, key_file: Path) -> Iterator[tuple[Gateway, RecordingUpstream]]:
    with RecordingUpstream() as upstream:
        flags = (f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", f"-lane={request.param}")
        with Gateway("-enable.auth", *flags) as gateway:
            yield gateway, upstream


@pytest.fixture
def gateway(served: tuple[Gateway, RecordingUpstream]) -> Gateway:
    return served[0]


@pytest.fixture
def backend(served: tuple[Gateway, RecordingUpstream]) -> RecordingUpstream:
    """It has received nothing so far."""
    served[1].forget()
    return served[1]


@pytest.fixture
def asker(gateway: Gateway) -> Iterator[Asker]:
    with Asker(gateway.port) as asking:
        yield asking


def encode(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def compact(header: str, payload: str, signature: bytes = b"x" * 64) -> str:
    return f"{encode(header)}.{encode(payload)}.{encode(signature)}"


ES256 = '{"alg":"ES256","typ":"JWT"}'
PAYLOAD = '{"exp":4102444800,"vm_access":{"tenant_id":{}}}'

MALFORMED = {
    "empty": "",
    "dots": "..",
    "many dots": "." * 10_000,
    "four segments": compact(ES256, PAYLOAD) + ".x",
    "no signature": compact(ES256, PAYLOAD, b""),
    "oversized": compact(ES256, '{"a":"' + "x" * 40_000 + '"}'),
    "no base64": "%%%.%%%.%%%",
    "not UTF-8": f"{encode(bytes((255, 254)))}.{encode(PAYLOAD)}.eHg",
    "deeply nested": compact(ES256, "[" * 5000 + "]" * 5000),
    "deeply nested header": compact('{"alg":' + '{"a":' * 3000 + "1" + "}" * 3001, PAYLOAD),
    "unclosed nesting": compact(ES256, '{"a":' * 2000),
    "a name twice": compact('{"alg":"none","alg":"ES256"}', PAYLOAD),
    "a claim twice": compact(ES256, '{"exp":1,"exp":4102444800,"vm_access":{"tenant_id":{}}}'),
    "a long number": compact(ES256, f'{{"exp":{LONG_NUMBER},"vm_access":{{}}}}'),
    "a longer number": compact(ES256, f'{{"exp":{LONG_NUMBER + LONG_NUMBER},"vm_access":{{}}}}'),
    "infinity": compact(ES256, '{"exp":1e999,"vm_access":{}}'),
    "NaN": compact(ES256, '{"exp":NaN,"vm_access":{}}'),
    "a lone surrogate": compact(ES256, '{"exp":4102444800,"sub":"\\ud800","vm_access":{}}'),
    "an array": compact("[]", "[]"),
    "NUL": compact(ES256 + "\0", PAYLOAD),
    "compressed": compact('{"alg":"ES256","zip":"DEF"}', PAYLOAD),
    "encrypted": "a.b.c.d.e",
    "zero signature": compact(ES256, PAYLOAD, bytes(64)),
    "many names": compact(ES256, "{" + ",".join(f'"{number}":0' for number in range(1500)) + "}"),
}


@pytest.mark.smoke
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(backend: RecordingUpstream, asker: Asker, name: str) -> None:
    answer = asker.ask(QUERY, MALFORMED[name])
    assert answer.status == (431 if len(MALFORMED[name]) > 64 * 1024 else 401)
    assert backend.requests == []


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "RS256", "ES384", "EdDSA"])
def test_another_algorithm_than_the_keys(backend: RecordingUpstream, asker: Asker, key: SigningKey, alg: str) -> None:
    """The public key as a shared secret among them, in each form in which it is at hand."""
    head = f"{encode(json.dumps({'alg': alg, 'typ': 'JWT'}))}.{encode(PAYLOAD)}"
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(alg, hashlib.sha256)
    for secret in (key.public_pem, key.public_pem.strip(), json.dumps(key.public_jwk), ""):
        signature = encode(hmac.digest(secret.encode(), head.encode(), digest))
        assert asker.ask(QUERY, f"{head}.{signature}").status == 401
    signed = key.sign(json.loads(PAYLOAD)).split(".")
    assert asker.ask(QUERY, f"{head}.{signed[2]}").status == 401
    assert asker.ask(QUERY, f"{head}.").status == 401
    assert backend.requests == []


@pytest.mark.parametrize("parameter", ["jwk", "jku", "x5u", "x5c", "x5t"])
def test_a_token_that_brings_its_key(
    backend: RecordingUpstream, asker: Asker, upstream: RecordingUpstream, parameter: str
) -> None:
    own = SigningKey.generate("ES256")
    upstream.responder = lambda _: pytest.fail("it was fetched")
    value = {"jwk": own.public_jwk, "x5c": [encode(own.public_pem)]}.get(parameter, f"{upstream.url}/jwks")
    token = f"{encode(json.dumps({'alg': 'ES256', parameter: value}))}.{encode(PAYLOAD)}."
    assert asker.ask(QUERY, token + own.mint().split(".")[2]).status == 401
    assert upstream.connections == []
    assert backend.requests == []


def test_tampered_with_at_every_position(key: SigningKey, backend: RecordingUpstream, asker: Asker) -> None:
    token = key.mint(FULL)
    for position, character in enumerate(token):
        other = next(one for one in "AQgw." if one != character)
        for forged in (token[:position] + other + token[position + 1 :], token[:position] + token[position + 1 :]):
            assert asker.ask(QUERY, forged).status == 401, position
    assert backend.requests == []


def test_replayed_after_it_has_expired(
    gateway: Gateway, backend: RecordingUpstream, asker: Asker, key: SigningKey
) -> None:
    """It was remembered as good, and is refused from the second of its end on."""
    expires = int(time.time()) + 4
    token = key.sign({"exp": expires, "vm_access": FULL})
    assert asker.ask(QUERY, token).status == 200
    gateway.wait_until(lambda: asker.ask(QUERY, token).status == 401, what="refuses it")
    assert time.time() >= expires
    passed = len(backend.requests)
    assert asker.ask(QUERY, token).status == 401
    assert len(backend.requests) == passed


def cpu_seconds(gateway: Gateway) -> float:
    """Of the process: whatever else the machine does counts for nothing."""
    fields = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


COSTLY = {
    "nesting": compact(ES256, '{"a":' * 1900),
    "brackets": compact(ES256, "[" * 11_000),
    "numbers": compact(ES256, "[" + ",".join(["9" * 300] * 35) + "]"),
    "names": compact(ES256, "{" + ",".join(f'"{number}":[]' for number in range(900)) + "}"),
    "escapes": compact(ES256, '{"a":"' + "\\u0041" * 1800 + '"}'),
    "signature": compact(ES256, PAYLOAD, b"x" * 11_000),
    "dots": "." * 16_000,
    "letters": "A" * 16_000,
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_refusal_costs_little(
    gateway: Gateway, backend: RecordingUpstream, asker: Asker, key: SigningKey, name: str
) -> None:
    good = key.mint(FULL, sub=name)
    asker.ask(QUERY, COSTLY[name])
    memory, used = gateway.rss(), cpu_seconds(gateway)
    count = 60
    for number in range(count):
        assert asker.ask(QUERY, f"{COSTLY[name][:-6]}{number:06d}").status == 401
    assert (cpu_seconds(gateway) - used) / count < 0.02, "20 ms of one core for a token"
    assert gateway.rss() - memory < 8 << 20, "a megabyte was sent, and nothing is kept"
    assert asker.ask(QUERY, good).status == 200


CACHED = 3000
"""More than fit in ``-auth.tokenCacheSize=4MiB`` if they are of :func:`distinct`."""
"""How many tokens the gateway remembers."""


def ask_all(asker: Asker, tokens: Iterable[str], status: int) -> None:
    """Ask with each of the tokens, many at a time; each is answered so."""
    with RawClient(asker.port) as client:
        for some in batched(tokens, 50):
            client.send(b"".join(head("GET", "/api/v1/query?query=up", token) for token in some))
            for _ in some:
                assert client.receive_answer()[0] == status


def batched(tokens: Iterable[str], size: int) -> Iterator[list[str]]:
    source = iter(tokens)
    while some := list(islice(source, size)):
        yield some


def distinct(count: int, *, first: int = 0) -> Iterator[str]:
    """Tokens without a good signature; each takes a fair share of a cache entry's memory."""
    for number in range(first, first + count):
        yield compact(ES256, f'{{"exp":4102444800,"vm_access":{{"tenant_id":{{}}}},"pad":"{number:0800}"}}')


@pytest.mark.parametrize("kind", ["expired", "not signed", "no token"])
def test_a_flood_of_bad_tokens_leaves_nothing(
    gateway: Gateway, backend: RecordingUpstream, asker: Asker, key: SigningKey, kind: str
) -> None:
    """Neither distinct ones nor one and the same."""
    good = key.mint(FULL, sub=kind)
    assert asker.ask(QUERY, good).status == 200
    tokens = {
        "expired": [key.sign({"exp": 1, "vm_access": FULL, "jti": f"{number}"}) for number in range(600)],
        "not signed": list(distinct(600)),
        "no token": [f"{number:01000}" for number in range(600)],
    }[kind]
    ask_all(asker, tokens[:200], 401)
    memory = gateway.rss()
    ask_all(asker, tokens, 401)
    ask_all(asker, tokens[:1] * 300, 401)
    assert gateway.rss() - memory < 4 << 20
    assert len(backend.requests) == 1
    assert asker.ask(QUERY, good).status == 200


def test_more_good_tokens_than_are_remembered() -> None:
    """All are admitted, the first ones again, and memory no longer grows."""
    # Without a key each of them is good, and remembered as those that were verified are: that is the matter here.
    with (
        RecordingUpstream() as upstream,
        Gateway("-enable.auth", f"-read.url={upstream.url}", "-auth.tokenCacheSize=4MiB") as gateway,
        Asker(gateway.port) as asker,
    ):
        ask_all(asker, distinct(CACHED + 100), 200)
        full = gateway.rss()
        held = gateway.metric("vmgateway_tokens_cached")
        assert CACHED / 2 < held < CACHED
        ask_all(asker, distinct(CACHED // 4, first=CACHED + 100), 200)
        assert gateway.rss() - full < 5 << 20, "a quarter of them takes more"
        ask_all(asker, distinct(100), 200)
