"""The OAuth2 client credentials grant for the datasource: against a real provider, and one that does as it is told."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from tests.support.addons.datasources import NOW, datasource
from tests.support.wire.servers import OidcProvider
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from vmgw_addons.outgoing import RequestFailed


def form(request: ReceivedRequest) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode()))


class Issuer:
    """Issues t1, t2, ... to the client ``gw`` with the secret ``s3cret``; the datasource is told apart by its path."""

    def __init__(self, answer: Mapping[str, object] | None = None, *, method: str = "basic") -> None:
        self.method = method
        self.answer = answer or {}
        self.tokens = 0
        self.refused: set[str] = set()
        self.asked: list[ReceivedRequest] = []

    def __call__(self, request: ReceivedRequest) -> Reply:
        if request.path != "/token":
            token = (request.header("Authorization") or [""])[0].removeprefix("Bearer ")
            return Reply(status=401 if token in self.refused else 200)
        self.asked.append(request)
        basic = ["Basic " + b64encode(b"gw:s3cret").decode()] == request.header("Authorization")
        if not basic and self.method == "basic":
            return Reply(status=401, body=b'{"error":"invalid_client","error_description":"s3cret is wrong"}')
        if self.method == "post" and basic:
            return Reply(status=401, body=b'{"error":"invalid_client"}')
        self.tokens += 1
        answer = {"access_token": f"t{self.tokens}", "token_type": "Bearer", "expires_in": 3600, **self.answer}
        return Reply(body=json.dumps(answer).encode())


def flags(server: RecordingUpstream, *more: str) -> tuple[str, ...]:
    secret = () if any("clientSecretFile" in flag for flag in more) else ("oauth2.clientSecret=s3cret",)
    return ("oauth2.clientID=gw", *secret, f"oauth2.tokenUrl={server.url}/token", *more)


def tokens(server: RecordingUpstream) -> list[str]:
    """What the datasource was shown."""
    return [request.header("Authorization")[0] for request in server.requests if request.path == "/api/v1/query"]


def test_a_token_of_a_real_provider(oidc: OidcProvider, upstream: RecordingUpstream) -> None:
    source = datasource(
        upstream.url,
        "oauth2.clientID=dev",
        f"oauth2.clientSecret={oidc.secret('dev')}",
        f"oauth2.tokenUrl={oidc.url}/token",
        "oauth2.scopes=metrics",
        'oauth2.endpointParams={"resource":"https://metrics.example/ES256"}',
    )
    source.query("up", NOW)
    source.query("up", NOW)
    first, second = (request.header("Authorization") for request in upstream.requests)
    assert first == second, "it is kept"
    payload = first[0].removeprefix("Bearer ").split(".")[1]
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["iss"], claims["client_id"]) == (oidc.issuer, "dev")
    assert (claims["aud"], claims["scope"]) == ("https://metrics.example/ES256", "metrics")


def test_a_real_provider_refuses(oidc: OidcProvider, upstream: RecordingUpstream) -> None:
    source = datasource(
        upstream.url, "oauth2.clientID=dev", "oauth2.clientSecret=wrong", f"oauth2.tokenUrl={oidc.url}/token"
    )
    with pytest.raises(RequestFailed, match=r"^-datasource\.url: no OAuth2 token: 'invalid_client'$"):
        source.query("up", NOW)
    assert upstream.connections == []


def test_the_request_for_a_token() -> None:
    with RecordingUpstream(issuer := Issuer()) as server:
        given = ("oauth2.scopes=a;b", 'oauth2.endpointParams={"audience":"x","body":"y"}')
        datasource(server.url, *flags(server, *given)).query("up", NOW)
        (request,) = issuer.asked
        assert request.method == "POST"
        assert form(request) == {
            "grant_type": "client_credentials", "scope": "a b", "audience": "x", "body": "y",
        }  # fmt: skip
        assert tokens(server) == ["Bearer t1"]


def test_a_provider_that_takes_the_secret_in_the_form() -> None:
    with RecordingUpstream(issuer := Issuer({"expires_in": 0}, method="post")) as server:
        source = datasource(server.url, *flags(server))
        source.query("up", NOW)
        assert form(issuer.asked[-1])["client_secret"] == "s3cret"  # noqa: S105
        source.query("up", NOW)
        assert len(issuer.asked) == 3, "what works is remembered"
        assert tokens(server) == ["Bearer t1", "Bearer t2"], "one that has ended is replaced"


def test_a_token_that_the_datasource_refuses_is_replaced() -> None:
    with RecordingUpstream(issuer := Issuer()) as server:
        source = datasource(server.url, *flags(server))
        source.query("up", NOW)
        issuer.refused.add("t1")
        with pytest.raises(RequestFailed, match="status 401"):
            source.query("up", NOW)
        source.query("up", NOW)
        assert tokens(server) == ["Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_secret_that_changes_in_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    with RecordingUpstream(issuer := Issuer()) as server:
        source = datasource(server.url, *flags(server, f"oauth2.clientSecretFile={secret}"))
        source.query("up", NOW)
        secret.write_text("another")
        with pytest.raises(RequestFailed, match="invalid_client") as caught:
            source.query("up", NOW)
        assert "s3cret" not in str(caught.value)
        secret.write_text("s3cret")
        source.query("up", NOW)
        assert tokens(server) == ["Bearer t1", "Bearer t2"]
        assert issuer.tokens == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"access_token": None}, id="no token"),
        pytest.param({"access_token": "a b"}, id="a blank"),
        pytest.param({"access_token": "a\r\nX: y"}, id="a line break"),
        pytest.param({"expires_in": "soon"}, id="no number"),
        pytest.param({"expires_in": float("nan")}, id="not a number"),
        pytest.param({"expires_in": -1}, id="a negative number"),
    ],
)
def test_an_answer_without_a_usable_token(answer: dict[str, object]) -> None:
    with RecordingUpstream(Issuer(answer)) as server:
        source = datasource(server.url, *flags(server))
        with pytest.raises(RequestFailed, match=r"no OAuth2 token: .* response"):
            source.query("up", NOW)
        assert tokens(server) == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"], ids=["html", "list", "empty"])
def test_an_answer_that_is_none(body: bytes) -> None:
    with RecordingUpstream(lambda _: Reply(body=body)) as server:
        source = datasource(server.url, *flags(server))
        with pytest.raises(RequestFailed, match="no OAuth2 token: not the response of a token endpoint"):
            source.query("up", NOW)


def test_a_token_endpoint_that_is_down(upstream: RecordingUpstream) -> None:
    with RecordingUpstream() as server:
        given = flags(server)
    with pytest.raises(RequestFailed, match=r"no OAuth2 token: Connection refused$"):
        datasource(upstream.url, *given).query("up", NOW)
    assert upstream.connections == []
