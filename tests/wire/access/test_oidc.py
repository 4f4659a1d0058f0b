"""Keys from a real OpenID provider: by discovery and by its JWKS, rotated, gone, and two of them at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.support.wire.processes import Gateway
from tests.support.wire.servers import OidcProvider
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import holds
from tests.wire.conftest import StartGateway

PATH = "/api/v1/labels"


@pytest.fixture
def other() -> Iterator[OidcProvider]:
    """A second provider."""
    with OidcProvider({"admin": FULL}) as provider:
        yield provider


@pytest.fixture
def start(start_gateway: StartGateway, upstream: RecordingUpstream) -> StartGateway:
    """A gateway with these flags, once it has its keys."""

    def started(*flags: str) -> Gateway:
        gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", "-auth.keysRefreshInterval=1s", *flags)
        gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")
        return gateway

    return started


def status(gateway: Gateway, token: str) -> int:
    return gateway.client(token).get(PATH).status


@pytest.mark.smoke
@pytest.mark.parametrize("by", ["discovery", "jwks"])
def test_tokens_of_the_provider_are_accepted(
    start: StartGateway, oidc: OidcProvider, upstream: RecordingUpstream, by: str
) -> None:
    flag = f"-auth.oidcDiscoveryEndpoints={oidc.discovery_url}"
    gateway = start(flag if by == "discovery" else f"-auth.jwksEndpoints={oidc.jwks_url}")
    for algorithm in ("RS256", "ES256"):
        accepts_tokens_of_the_provider(gateway, oidc, upstream, algorithm)
    assert len(upstream.requests) == 4


def accepts_tokens_of_the_provider(
    gateway: Gateway, oidc: OidcProvider, upstream: RecordingUpstream, algorithm: str
) -> None:
    token = oidc.token("dev", algorithm=algorithm)
    assert status(gateway, token) == 200
    assert upstream.requests[-1].argument("extra_label") == ["team=dev"]
    assert status(gateway, oidc.token("text", algorithm=algorithm)) == 200
    assert upstream.requests[-1].argument("extra_label") == ["team=dev"]
    head, payload, signature = token.split(".")
    forged = f"{head}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    assert status(gateway, forged) == 401
    assert status(gateway, SigningKey.generate(algorithm).mint()) == 401


def test_tokens_of_another_provider_are_refused(
    start: StartGateway, oidc: OidcProvider, other: OidcProvider, upstream: RecordingUpstream
) -> None:
    gateway = start(f"-auth.oidcDiscoveryEndpoints={oidc.discovery_url}")
    assert status(gateway, other.token("admin")) == 401
    assert upstream.connections == []


def test_two_issuers_at_once(start: StartGateway, oidc: OidcProvider, other: OidcProvider) -> None:
    gateway = start(
        f"-auth.oidcDiscoveryEndpoints={oidc.discovery_url}", f"-auth.oidcDiscoveryEndpoints={other.discovery_url}"
    )
    gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") == 4, what="has the keys of both")
    assert status(gateway, oidc.token("admin")) == 200
    assert status(gateway, other.token("admin")) == 200


def test_a_rotation_is_picked_up_without_a_restart(start: StartGateway, other: OidcProvider) -> None:
    # So long an interval that only the token with the unknown kid can bring the new keys.
    gateway = start(f"-auth.oidcDiscoveryEndpoints={other.discovery_url}", "-auth.keysRefreshInterval=1h")
    old = other.token("admin")
    assert status(gateway, old) == 200
    other.rotate()
    new = other.token("admin")
    gateway.wait_until(lambda: status(gateway, new) == 200, what="accepts a token of the new key")
    assert status(gateway, old) == 401, "the old key is no longer in the set"


def test_an_interval_picks_a_rotation_up_before_a_token_does(start: StartGateway, other: OidcProvider) -> None:
    gateway = start(f"-auth.jwksEndpoints={other.jwks_url}")
    old = other.token("admin")
    assert status(gateway, old) == 200
    other.rotate()
    gateway.wait_until(lambda: status(gateway, old) == 401, what="drops the old key")
    assert status(gateway, other.token("admin")) == 200


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(status=500, body=b"broken"), id="error"),
        pytest.param(Reply(body=b"<html>"), id="not-json"),
        pytest.param(Reply(body=b'{"keys":[]}'), id="empty-set"),
    ],
)
def test_an_outage_of_the_provider_keeps_its_keys(start: StartGateway, reply: Reply) -> None:
    with OidcProvider({"admin": FULL}) as provider:
        gateway = start(f"-auth.jwksEndpoints={provider.jwks_url}")
        first, second = provider.token("admin"), provider.token("admin", algorithm="RS256")
        assert status(gateway, first) == 200
        provider.kill()
        with RecordingUpstream(lambda _: reply, port=provider.port) as broken:
            gateway.wait_until(lambda: broken.requests, what="asks for keys again")
            holds(lambda: status(gateway, first) == 200, during=0.5, what="the token of a known key is accepted")
            # One that no cache can know yet.
            assert status(gateway, second) == 200


def test_a_provider_that_comes_late_is_found(start_gateway: StartGateway, upstream: RecordingUpstream) -> None:
    with OidcProvider({"admin": FULL}) as provider:
        token = provider.token("admin")
        provider.kill()
        gateway = start_gateway(
            "-enable.auth", f"-read.url={upstream.url}", f"-auth.oidcDiscoveryEndpoints={provider.discovery_url}"
        )
        assert gateway.client().get("/-/ready").status == 503
        assert status(gateway, token) == 503
        assert upstream.connections == []
        provider.start()
        gateway.wait_until(lambda: gateway.client().get("/-/ready").status == 200, what="has its keys")
        assert status(gateway, provider.token("admin")) == 200


# --- issuers, with a scripted provider ------------------------------------------------------------------------------


@contextmanager
def scripted_provider(issuer: str, key: SigningKey) -> Iterator[str]:
    """A discovery document that names ``issuer``, and a JWKS with one key; the URL of the document."""
    documents: dict[str, Mapping[str, object]] = {"/jwks": {"keys": [key.public_jwk]}}

    def respond(request: ReceivedRequest) -> Reply:
        return Reply(body=json.dumps(documents[request.path]).encode())

    with RecordingUpstream(respond) as server:
        documents["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{server.url}/jwks"}
        yield f"{server.url}/.well-known/openid-configuration"


EXACT = "https://a.example"
TEMPLATE = "https://login.example/{tenantid}/v2.0"
CLAIMS: dict[str, dict[str, list[object]]] = {
    EXACT: {"accepted": [EXACT], "refused": [f"{EXACT}/", f"{EXACT}.evil.test", "https://b.example", None, [EXACT]]},
    TEMPLATE: {
        "accepted": ["https://login.example/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"],
        "refused": ["https://login.example/x/y/v2.0", "https://login.example//v2.0", "https://evil.test/x/v2.0"],
    },
}


@pytest.mark.parametrize("issuer", CLAIMS, ids=["exact", "template"])
def test_keys_of_an_issuer_verify_its_tokens_only(start: StartGateway, issuer: str) -> None:
    key = SigningKey.generate("ES256", kid="k")
    with scripted_provider(issuer, key) as discovery_url:
        gateway = start(f"-auth.oidcDiscoveryEndpoints={discovery_url}")
        for claim in CLAIMS[issuer]["accepted"]:
            assert status(gateway, key.mint(iss=claim)) == 200, claim
        for claim in CLAIMS[issuer]["refused"]:
            assert status(gateway, key.mint(iss=claim)) == 401, claim
        assert status(gateway, key.mint()) == 401, "no issuer"


def test_an_issuer_cannot_speak_for_another(start: StartGateway) -> None:
    keys = {name: SigningKey.generate("ES256", kid="same") for name in ("a", "b")}
    with (
        scripted_provider("https://a.example", keys["a"]) as first,
        scripted_provider("https://b.example", keys["b"]) as second,
    ):
        gateway = start(f"-auth.oidcDiscoveryEndpoints={first},{second}")
        gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") == 2, what="has the keys of both")
        for signer in keys:
            for named in keys:
                token = keys[signer].mint(iss=f"https://{named}.example")
                assert status(gateway, token) == (200 if signer == named else 401)
